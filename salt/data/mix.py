"""Augmentation of a whole batch: tiles mixed with each other. Part of the group `augment`."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

# NumPy draws shares and rectangles, and the order of tiles is drawn on their device: nothing is copied from the GPU.


class Mixed(NamedTuple):
    """Images (N 1 H W), survey depths (N), and masks (N 1 H W) with their weights in the loss.

    Masks keep their values, so every loss works: a mixed tile has two masks with weights instead of one soft mask.
    """

    images: Tensor
    depths: Tensor
    targets: list[tuple[float, Tensor]]


class NoMix:
    """Each tile on its own."""

    def __call__(self, images: Tensor, masks: Tensor, depths: Tensor) -> Mixed:
        return Mixed(images, depths, [(1.0, masks)])


class MixUp:
    """Each tile blended with another one of the batch, both masks weighted, with the share Beta(alpha, alpha).

    Raises:
        ValueError: alpha is not positive.

    Reference: Zhang, Cisse, Dauphin, Lopez-Paz 2018, arXiv:1710.09412.
    """

    def __init__(self, alpha: float):
        if not alpha > 0:
            raise ValueError(f"alpha={alpha}, expected > 0")
        self.alpha = alpha

    def __call__(self, images: Tensor, masks: Tensor, depths: Tensor) -> Mixed:
        share, order = np.random.beta(self.alpha, self.alpha), random_order(images)
        images, depths = (share * x + (1 - share) * x[order] for x in (images, depths))
        return Mixed(images, depths, [(share, masks), (1 - share, masks[order])])


class CutMix(MixUp):
    """A rectangle of each tile and of its mask replaced by that of another one of the batch.

    The rectangle has the tile's shape and, before it is cut at the border, the area 1 - Beta(alpha, alpha).

    Raises:
        ValueError: alpha is not positive.

    Reference: Yun, Han, Oh, Chun, Choe, Yoo 2019, arXiv:1905.04899.
    """

    def __call__(self, images: Tensor, masks: Tensor, depths: Tensor) -> Mixed:
        height, width = images.shape[-2:]
        side, order = (1 - np.random.beta(self.alpha, self.alpha)) ** 0.5, random_order(images)
        y, x = np.random.random(2)
        top, bottom = (round(min(max((y + s * side / 2) * height, 0), height)) for s in (-1, 1))
        left, right = (round(min(max((x + s * side / 2) * width, 0), width)) for s in (-1, 1))
        images, masks = images.clone(), masks.clone()
        for tensor in (images, masks):
            tensor[..., top:bottom, left:right] = tensor[order][..., top:bottom, left:right]
        return Mixed(images, depths, [(1.0, masks)])


def random_order(images: Tensor) -> Tensor:
    """Return a random order of the batch (N), on the images' device."""
    return torch.randperm(len(images), device=images.device)
