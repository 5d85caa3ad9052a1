"""Losses of partly known masks: pixels whose label is unknown teach nothing.

Every loss is called as `loss(logits, masks, known=known)`. `known` (N 1 H W) is 1 where the mask is known and 0
elsewhere; None means that all pixels are. Logits and masks at unknown pixels change nothing, and the gradient there is
0. An image without a known pixel adds 0 to the loss.
"""

import inspect

import torch
from torch import Tensor, nn


class FullyKnown(nn.Module):
    """A loss of logits and masks alone, called as all others are.

    Raises:
        ValueError: some pixels are unknown, which the loss cannot leave out.
    """

    def __init__(self, loss: nn.Module):
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, masks: Tensor, known: Tensor | None = None) -> Tensor:
        """Loss of a batch."""
        if known is not None:
            raise ValueError(
                f"loss: {type(self.loss).__name__}.forward(logits, masks) cannot leave out pixels whose label is "
                "unknown; expected forward(logits, masks, known=None)"
            )
        value: Tensor = self.loss(logits, masks)
        return value


def taking_known(loss: nn.Module) -> nn.Module:
    """Return the loss, or if its `forward` has no argument `known`, one around it that refuses unknown pixels."""
    return loss if "known" in inspect.signature(loss.forward).parameters else FullyKnown(loss)


def mean_of_known(values: Tensor, known: Tensor | None) -> Tensor:
    """Return the mean of one value for each pixel over the known pixels of a batch; 0 if there is none."""
    if known is None:
        return values.mean()
    return torch.where(known > 0, values, 0).sum() / (known > 0).sum().clamp(min=1)
