"""The size of the network's input over the epochs of a fold."""

from collections.abc import Sequence


class Full:
    """The full size in every epoch."""

    def scale(self, progress: float) -> float:
        """Scale of the input's sides, when the fraction `progress` of the epochs is done."""
        return 1.0

    def work(self, epochs: int) -> list[float]:
        """Pixels of the input in each epoch, as a fraction of those at full size."""
        return [self.scale(epoch / epochs) ** 2 for epoch in range(epochs)]


class Growing(Full):
    """A smaller input in the first epochs: `scale[i]` while less than `until[i]` of the epochs are done.

    Raises:
        ValueError: the numbers of scales and of fractions differ, or they do not ascend between 0 and 1.

    Reference: Tan, Le 2021, "EfficientNetV2: Smaller Models and Faster Training", arXiv:2104.00298.
    """

    def __init__(self, scale: Sequence[float], until: Sequence[float]):
        for name, values in (("scale", scale), ("until", until)):
            if not all(a < b for a, b in zip([0.0, *values], [*values, 1.0], strict=True)):
                raise ValueError(f"{name}={list(values)}, expected ascending numbers between 0 and 1")
        if len(scale) != len(until):
            raise ValueError(f"{len(scale)} scales with until={list(until)}, expected one fraction of the epochs each")
        self.steps = list(zip(scale, until, strict=True))

    def scale(self, progress: float) -> float:
        """Scale of the input's sides, when the fraction `progress` of the epochs is done."""
        return next((scale for scale, until in self.steps if progress < until), 1.0)
