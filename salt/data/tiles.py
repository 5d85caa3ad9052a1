"""The images of a data set with their masks and depths."""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from salt.runs.stacks import Size, Stack, set_to_zero, sizes_of

if TYPE_CHECKING:
    from salt.data.unlabelled import Unlabelled


@dataclass(frozen=True)
class Tiles:
    """N images (grey 0-255, uint8), masks (0 or 1, uint8; None for the test set) and depths (N, feet; NaN if unknown).

    Images and masks are arrays (N H W), or arrays (N) of arrays (H W) if sizes differ. `missing` marks pixels whose
    amplitude is unknown (None: no pixel); images are neutral grey there.
    """

    ids: list[str]
    images: Stack
    masks: Stack | None
    depths: NDArray[np.float64]
    missing: Stack | None = None

    @cached_property
    def constant(self) -> NDArray[np.bool_]:
        """Return which tiles (N) have a single grey value and show nothing."""
        return np.array([image.min() == image.max() for image in self.images], dtype=np.bool_)

    @cached_property
    def coverage(self) -> NDArray[np.float64]:
        """Return the share of each image (N) that is salt."""
        assert self.masks is not None
        return np.array([mask.mean() for mask in self.masks], dtype=np.float64)

    def crops(self, size: Size) -> NDArray[np.int64]:
        """Return the image number of each crop of an epoch: an image has as many as crops of `size` cover its area."""
        counts = [max(1, round(image.size / math.prod(size))) for image in self.images]
        return np.repeat(np.arange(len(counts)), counts)

    def empty_unseen(self, probabilities: Stack, positions: NDArray[np.int64], constant_tiles: str) -> None:
        """Set probabilities (N H W) of the tiles at N positions to zero at missing pixels.

        If `constant_tiles` is "empty", do so in tiles of one grey value too.
        """
        if constant_tiles == "empty":
            set_to_zero(probabilities, self.constant[positions])
        if self.missing is not None:
            for probability, position in zip(probabilities, positions, strict=True):
                probability[self.missing[position]] = 0

    def digest(self) -> str:
        """Return the SHA-256 of ids, images, masks, depths and missing pixels, to recognise changed data."""
        digest = hashlib.sha256("\n".join(self.ids).encode())
        for stack in (self.images, self.masks, self.missing):
            for image in () if stack is None else stack:
                digest.update(np.ascontiguousarray(image).data)
        if self.images.dtype == object:  # else the number of bytes gives the size
            digest.update(repr(sizes_of(self.images)).encode())
        digest.update(self.depths.data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Dataset:
    """The train tiles with masks, and the test tiles, if any, in the order of the submission."""

    train: Tiles
    test: Tiles
    limits: tuple[float, float] | None = None  # amplitudes that became the grey values 0 and 255, if common to all
    unlabelled: "Unlabelled | None" = None  # what semi-supervised training adds

    @property
    def has_no_depths(self) -> bool:
        """Return whether the survey depth of some tile is unknown."""
        return bool(np.isnan(self.train.depths).any() or np.isnan(self.test.depths).any())

    def check(self, source: str) -> None:
        """Check what `source`, which may be a user's class, has loaded.

        Raises:
            ValueError: images are not uint8, masks are not 0 and 1 in pairs with them, or ids occur twice.
        """
        for name, tiles in (("train", self.train), ("test", self.test)):
            stacks = [tiles.images] if name == "test" else [tiles.images, tiles.masks]
            if any(stack is None or any(image.dtype != np.uint8 for image in stack) for stack in stacks):
                raise ValueError(f"data: {source} has {name} images or masks of another type than uint8")
            if len({len(set(tiles.ids)), len(tiles.depths), *map(len, stacks)}) > 1:  # type: ignore[arg-type]
                raise ValueError(f"data: {source} has other numbers of {name} ids, images, masks or depths")
        assert self.train.masks is not None
        if sizes_of(self.train.images) != sizes_of(self.train.masks) or max(map(np.max, self.train.masks)) > 1:
            raise ValueError(f"data: {source} has masks of another size than their image, or other values than 0 and 1")

    def digest(self) -> str:
        """Return the SHA-256 of both parts."""
        return hashlib.sha256((self.train.digest() + self.test.digest()).encode()).hexdigest()


def tile_size(sizes: Iterable[Size], largest: int) -> Size:
    """Return the size to train on: the images' common size if the input holds it, else a square of side `largest`."""
    found = set(sizes)
    if len(found) == 1 and max(size := found.pop()) <= largest:
        return size
    return largest, largest
