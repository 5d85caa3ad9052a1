"""Losses made of other losses: a weighted sum, and changes by epoch."""

from collections.abc import Sequence

from torch import Tensor, nn

from salt.losses.known import FullyKnown, taking_known


class WeightedSum(nn.Module):
    """Sum of weight * loss.

    Raises:
        ValueError: the numbers of losses and weights differ, or a weight is negative.
    """

    def __init__(self, losses: Sequence[nn.Module], weights: Sequence[float]):
        super().__init__()
        if len(losses) != len(weights) or not losses or min(weights) < 0:
            raise ValueError(f"{len(losses)} losses with weights={list(weights)}, expected one weight >= 0 each")
        self.losses, self.weights = nn.ModuleList(map(taking_known, losses)), list(weights)

    def forward(self, logits: Tensor, masks: Tensor, known: Tensor | None = None) -> Tensor:
        terms = [w * loss(logits, masks, known=known) for w, loss in zip(self.weights, self.losses, strict=True)]
        return sum(terms[1:], start=terms[0])


class Change(nn.Module):
    """`first` at the start and `then` at the end of a run; `progress` is the finished fraction of the epochs."""

    def __init__(self, first: nn.Module, then: nn.Module):
        super().__init__()
        self.first, self.then, self.progress = taking_known(first), taking_known(then), 0.0

    def weight(self) -> float:
        """Return the weight of `then`, from 0 to 1; `first` has the rest."""
        raise NotImplementedError

    def forward(self, logits: Tensor, masks: Tensor, known: Tensor | None = None) -> Tensor:
        weight = self.weight()
        if weight in (0, 1):  # the other one is not computed
            return (self.first if weight == 0 else self.then)(logits, masks, known=known)
        return (1 - weight) * self.first(logits, masks, known=known) + weight * self.then(logits, masks, known=known)


class StepChange(Change):
    """`first` until the fraction `at` of the epochs, then `then`.

    Raises:
        ValueError: at is not between 0 and 1.
    """

    def __init__(self, first: nn.Module, then: nn.Module, at: float):
        super().__init__(first, then)
        if not 0 < at < 1:
            raise ValueError(f"at={at}, expected a fraction of the epochs between 0 and 1")
        self.at = at

    def weight(self) -> float:
        return 1.0 if self.progress >= self.at else 0.0


class LinearChange(Change):
    """`first` until the fraction `start` of the epochs, `then` from `end` on, and a linear mix between.

    Raises:
        ValueError: start and end are not fractions in this order.
    """

    def __init__(self, first: nn.Module, then: nn.Module, start: float, end: float):
        super().__init__(first, then)
        if not 0 <= start < end <= 1:
            raise ValueError(f"start={start}, end={end}, expected fractions of the epochs, 0 <= start < end <= 1")
        self.start, self.end = start, end

    def weight(self) -> float:
        """Return 0 up to `start`, rising to 1 at `end`."""
        return min(max((self.progress - self.start) / (self.end - self.start), 0.0), 1.0)


def simple_losses(loss: nn.Module) -> list[nn.Module]:
    """Return the losses that a loss is made of, or the loss itself."""
    if isinstance(loss, FullyKnown):
        return [loss.loss]
    if isinstance(loss, WeightedSum):
        parts = list(loss.losses)
    elif isinstance(loss, Change):
        parts = [loss.first, loss.then]
    else:
        return [loss]
    return [simple for part in parts for simple in simple_losses(part)]


def set_progress(loss: nn.Module, progress: float) -> None:
    """Set the finished fraction of the epochs in every `Change` inside a loss."""
    for module in loss.modules():
        if isinstance(module, Change):
            module.progress = progress
