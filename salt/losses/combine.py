"""Losses made of losses: a weighted sum, and a change by epoch."""

from collections.abc import Sequence

from torch import Tensor, nn


class WeightedSum(nn.Module):
    """Sum of weight * loss.

    Raises:
        ValueError: the numbers of losses and weights differ, or a weight is negative.
    """

    def __init__(self, losses: Sequence[nn.Module], weights: Sequence[float]):
        super().__init__()
        if len(losses) != len(weights) or not losses or min(weights) < 0:
            raise ValueError(f"{len(losses)} losses with weights={list(weights)}, expected one weight >= 0 each")
        self.losses, self.weights = nn.ModuleList(losses), list(weights)

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Loss of a batch."""
        terms = [w * loss(logits, masks) for w, loss in zip(self.weights, self.losses, strict=True)]
        return sum(terms[1:], start=terms[0])


class Step(nn.Module):
    """`first` until the fraction `at` of the epochs is done, `then` from there on.

    Raises:
        ValueError: at is not between 0 and 1.
    """

    def __init__(self, first: nn.Module, then: nn.Module, at: float):
        super().__init__()
        if not 0 < at < 1:
            raise ValueError(f"at={at}, expected a fraction of the epochs between 0 and 1")
        self.first, self.then, self.at, self.progress = first, then, at, 0.0

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Loss of a batch."""
        loss: Tensor = (self.first if self.progress < self.at else self.then)(logits, masks)
        return loss


def set_progress(loss: nn.Module, progress: float) -> None:
    """Tell every loss inside `loss` that changes by epoch which fraction of the epochs is done."""
    for module in loss.modules():
        if isinstance(module, Step):
            module.progress = progress
