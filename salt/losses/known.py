"""How losses are called, and masks that are only partly known.

Every loss is called as `loss(logits, masks, known=known)` with logits, masks in {0, 1} and known (N 1 H W), and returns
a scalar. `known` is 1 at pixels whose label is known, else 0; None means that all are. Unknown pixels do not change the
loss, and their gradient is 0. An image without a known pixel adds 0.
"""

import inspect
from typing import NoReturn

import torch
from torch import Tensor, nn


class FullyKnown(nn.Module):
    """A user's loss of logits and masks alone; it refuses unknown pixels by a ValueError."""

    def __init__(self, loss: nn.Module):
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, masks: Tensor, known: Tensor | None = None) -> Tensor:
        if known is not None:
            self.refuse()
        return self.loss(logits, masks)

    def refuse(self) -> NoReturn:
        """Raise ValueError: some pixels are unknown."""
        raise ValueError(
            f"loss: {type(self.loss).__name__}.forward(logits, masks) cannot leave out pixels whose label is "
            "unknown; expected forward(logits, masks, known=None)"
        )


def taking_known(loss: nn.Module) -> nn.Module:
    """Return the loss, wrapped in `FullyKnown` if its `forward` has no argument `known`."""
    return loss if "known" in inspect.signature(loss.forward).parameters else FullyKnown(loss)


def mean_of_known(values: Tensor, known: Tensor | None) -> Tensor:
    """Return the mean of pixel values over the known pixels of a batch, or 0 if there are none."""
    if known is None:
        return values.mean()
    return torch.where(known > 0, values, 0).sum() / (known > 0).sum().clamp(min=1)
