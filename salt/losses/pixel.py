"""Losses that score each pixel on its own."""

import torch.nn.functional as F
from torch import Tensor, nn


class BCE(nn.Module):
    """Binary cross entropy, the mean over all pixels of the batch.

    Shape: logits (N 1 H W), masks (N 1 H W) in {0, 1}; returns a scalar.
    """

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Loss of a batch."""
        return F.binary_cross_entropy_with_logits(logits.float(), masks)
