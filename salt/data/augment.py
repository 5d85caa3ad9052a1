"""Augmentation of one tile by albumentations, seeded per sample; what mixes whole tiles is in mix.py."""

import os
import random
from collections.abc import Sequence

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # disables albumentations' version check over the network

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from salt.data.mix import CutMix, MixUp, NoMix


class Augment:
    """A list of albumentations transforms for an image (H W) and its mask (H W), both uint8.

    `mix` is for batches: the training step calls it on the device.

    Raises:
        ValueError: a transform was given an argument that it does not have.

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
        """Augment one pair; the same seed gives the same result in any process and any order.

        A `Compose` owns its generators: left alone, every worker and every epoch would repeat the same draws.
        """
        sequence = np.random.SeedSequence(seed)
        self.compose.set_random_state(
            np.random.default_rng(sequence), random.Random(int(sequence.generate_state(1)[0]))
        )
        result = self.compose(image=image, mask=mask)
        return result["image"], result["mask"]


def crop_transforms(size: tuple[int, int]) -> list[A.BasicTransform]:
    """A random crop (h w) of an image (H W), which is first filled up with its reflection where it is smaller."""
    height, width = size
    return [A.PadIfNeeded(height, width, border_mode=cv2.BORDER_REFLECT_101), A.RandomCrop(height, width)]
