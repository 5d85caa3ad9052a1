"""Augmentation of one tile by albumentations, seeded per sample; mix.py mixes tiles of a batch."""

import os
import random
from collections.abc import Sequence

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no version check over the network

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from salt.data.mix import CutMix, MixUp, NoMix


class Augment:
    """A list of albumentations transforms for an image (H W) and its mask (H W), both uint8.

    The training step calls `mix` on whole batches.

    Raises:
        ValueError: a transform does not have an argument.

    Reference: Buslaev et al. 2020, "Albumentations: Fast and Flexible Image Augmentations", arXiv:1809.06839.
    """

    def __init__(
        self, transforms: Sequence[A.BasicTransform | A.BaseCompose], mix: NoMix | MixUp | CutMix | None = None
    ):
        self.compose = A.Compose(list(transforms), strict=True)
        self.mix = mix or NoMix()

    def __call__(
        self, image: NDArray[np.uint8], mask: NDArray[np.uint8], seed: Sequence[int]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Augment one pair; the same seed gives the same result in any process and any order."""
        sequence = np.random.SeedSequence(seed)
        standard = random.Random(int(sequence.generate_state(1)[0]))
        self.compose.set_random_state(np.random.default_rng(sequence), standard)
        result = self.compose(image=image, mask=mask)
        return result["image"], result["mask"]


def crop_transforms(size: tuple[int, int], smaller: bool = True) -> list[A.BasicTransform]:
    """Return a random crop (h w) of an image (H W), which its reflection fills up if it may be `smaller`.

    Both give the same crop of a larger image, but the first copies all of it for each crop.
    """
    height, width = size
    pad = [A.PadIfNeeded(height, width, border_mode=cv2.BORDER_REFLECT_101)] if smaller else []
    return [*pad, A.RandomCrop(height, width)]
