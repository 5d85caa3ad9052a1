"""Losses on the overlap of two regions."""

import torch
from torch import Tensor, nn


class Dice(nn.Module):
    """Soft Dice loss, 1 - (2 * intersection + smooth) / (sum of both areas + smooth).

    `per_image` averages over images, so that salt predicted in an empty tile costs; else the batch is one region.
    `smooth` > 0 makes the loss 0 if both are empty; 2 here is 1 in segmentation-models-pytorch.

    Raises:
        ValueError: smooth is not positive.

    Reference: Milletari, Navab, Ahmadi 2016, "V-Net", arXiv:1606.04797 (with areas, not squared, below).
    """

    def __init__(self, per_image: bool = True, smooth: float = 1.0):
        super().__init__()
        if not smooth > 0:
            raise ValueError(f"smooth={smooth}, expected > 0")
        self.per_image, self.smooth = per_image, smooth

    def forward(self, logits: Tensor, masks: Tensor, known: Tensor | None = None) -> Tensor:
        pixels = (1, 2, 3) if self.per_image else (0, 1, 2, 3)
        probabilities, labels = logits.float().sigmoid(), masks.float()
        if known is not None:
            probabilities, labels = (torch.where(known > 0, x, 0) for x in (probabilities, labels))
        intersection = (probabilities * labels).sum(pixels)
        areas = (probabilities + labels).sum(pixels)
        return (1 - (2 * intersection + self.smooth) / (areas + self.smooth)).mean()
