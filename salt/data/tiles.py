"""The images of a data set with their masks and depths."""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from salt.data.lines import Line
from salt.runs.stacks import Size, Stack, as_stack, set_to_zero, sizes_of

if TYPE_CHECKING:
    from salt.data.load import Unlabelled


@dataclass(frozen=True)
class Tiles:
    """N images (grey 0-255, uint8), masks (0 or 1, uint8; None for the test set) and depths (N, feet; NaN if unknown).

    Images and masks are arrays (N H W), or arrays (N) of arrays (H W) if sizes differ. `missing` marks pixels whose
    amplitude is unknown (None: no pixel); images are neutral grey there. `known` marks pixels whose mask is known
    (None: every pixel); masks are 0 elsewhere. `lines` says where the tiles lie, if they are lines of a survey.
    """

    ids: list[str]
    images: Stack
    masks: Stack | None
    depths: NDArray[np.float64]
    missing: Stack | None = None
    known: Stack | None = None
    lines: list[Line] | None = None

    @cached_property
    def constant(self) -> NDArray[np.bool_]:
        """Return which tiles (N) have a single grey value and show nothing."""
        return np.array([image.min() == image.max() for image in self.images], dtype=np.bool_)

    @cached_property
    def coverage(self) -> NDArray[np.float64]:
        """Return the share of the known pixels of each image (N) that is salt."""
        assert self.masks is not None
        return np.array([mask.sum() for mask in self.masks], dtype=np.float64) / np.maximum(self.n_known, 1)

    @cached_property
    def n_known(self) -> NDArray[np.int64]:
        """Return how many pixels of each image (N) have a known mask."""
        pixels = self.images if self.known is None else self.known
        return np.array([x.size if self.known is None else np.count_nonzero(x) for x in pixels], dtype=np.int64)

    def crops(self, size: Size, passes: int = 1) -> NDArray[np.int64]:
        """Return the image number of each crop of an epoch: as many as cover the known area `passes` times."""
        counts = [max(1, round(passes * n / math.prod(size))) for n in self.n_known]
        return np.repeat(np.arange(len(counts)), counts)

    def take(self, positions: NDArray[np.int64]) -> "Tiles":
        """Return the tiles at some positions."""
        masks, missing, known = (None if s is None else s[positions] for s in (self.masks, self.missing, self.known))
        ids = [self.ids[i] for i in positions]
        lines = None if self.lines is None else [self.lines[i] for i in positions]
        return Tiles(ids, self.images[positions], masks, self.depths[positions], missing, known, lines)

    def known_at(self, positions: NDArray[np.int64]) -> Stack | None:
        """Return the known pixels of the tiles at some positions; None: all are."""
        return None if self.known is None else self.known[positions]

    def without_missing(self) -> "Tiles":
        """Return the tiles with missing pixels as unknown ones."""
        if self.missing is None or self.masks is None:
            return self
        return self.known_within(~self.missing)

    def known_within(self, pixels: Stack) -> "Tiles":
        """Return the tiles with what lies outside of some pixels (as images, bool) as unknown."""
        assert self.masks is not None
        before = pixels if self.known is None else self.known
        known = as_stack([one & other for one, other in zip(pixels, before, strict=True)])
        masks = as_stack([mask * seen for mask, seen in zip(self.masks, known, strict=True)])
        return replace(self, masks=masks, known=known)

    def empty_unseen(self, probabilities: Stack, positions: NDArray[np.int64], constant_tiles: str) -> None:
        """Set probabilities (N H W) of tiles to 0 at missing pixels, and in constant tiles if these are "empty"."""
        if constant_tiles == "empty":
            set_to_zero(probabilities, self.constant[positions])
        if self.missing is not None:
            for probability, position in zip(probabilities, positions, strict=True):
                probability[self.missing[position]] = 0

    def digest(self) -> str:
        """Return the SHA-256 of ids, images, masks, depths, missing and known pixels, to recognise changed data."""
        digest = hashlib.sha256("\n".join(self.ids).encode())
        for stack in (self.images, self.masks, self.missing, self.known):
            for image in () if stack is None else stack:
                digest.update(np.ascontiguousarray(image).data)
        if self.images.dtype == object:  # else the number of bytes gives the size
            digest.update(repr(sizes_of(self.images)).encode())
        digest.update(self.depths.data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Dataset:
    """The train tiles with masks, and the test tiles, if any, in the order of the submission.

    `uninterpreted` are train images without a known pixel. They have no part in training, unless it is semi-supervised.
    """

    train: Tiles
    test: Tiles
    limits: tuple[float, float] | None = None  # amplitudes that became the grey values 0 and 255, if common to all
    uninterpreted: Tiles | None = None
    unlabelled: "Unlabelled | None" = None  # what semi-supervised training adds
    interval: float | None = None  # between samples, in ms, if it is known and common to all

    @property
    def partly_known(self) -> bool:
        """Return whether masks that train may have unknown pixels; lines have them near a held-out line."""
        pseudo = None if self.unlabelled is None else self.unlabelled.tiles.missing
        return self.train.known is not None or self.train.lines is not None or pseudo is not None

    @property
    def has_no_depths(self) -> bool:
        """Return whether the survey depth of some tile is unknown."""
        return bool(np.isnan(self.train.depths).any() or np.isnan(self.test.depths).any())

    def check(self, source: str) -> None:
        """Raise ValueError if `source`, maybe a user's class, gave other types or sizes than expected."""
        for name, tiles in (("train", self.train), ("test", self.test)):
            stacks = [tiles.images] if name == "test" else [tiles.images, tiles.masks]
            if any(stack is None or any(image.dtype != np.uint8 for image in stack) for stack in stacks):
                raise ValueError(f"data: {source} has {name} images or masks of another type than uint8")
            if len({len(set(tiles.ids)), len(tiles.depths), *map(len, stacks)}) > 1:  # type: ignore[arg-type]
                raise ValueError(f"data: {source} has other numbers of {name} ids, images, masks or depths")
        assert self.train.masks is not None
        if sizes_of(self.train.images) != sizes_of(self.train.masks) or max(map(np.max, self.train.masks)) > 1:
            raise ValueError(f"data: {source} has masks of another size than their image, or other values than 0 and 1")
        for stack in (self.train.missing, self.train.known):
            if stack is not None and (
                sizes_of(stack) != sizes_of(self.train.images) or any(x.dtype != np.bool_ for x in stack)
            ):
                raise ValueError(f"data: {source} has missing or known pixels of another size or type than bool")

    def settled(self) -> "Dataset":
        """Return the data with missing pixels as unknown, and without train images that have no known pixel.

        Raises:
            ValueError: no train image has a known pixel.
        """
        train = self.train.without_missing()
        if train.known is not None and all(known.all() for known in train.known):
            train = replace(train, known=None)
        if train.n_known.all():
            return replace(self, train=train)
        some, none = (np.flatnonzero(which) for which in (train.n_known > 0, train.n_known == 0))
        if not len(some):
            raise ValueError("no pixel of the masks is known, expected an interpreted part in some of them")
        return replace(self, train=train.take(some), uninterpreted=replace(train.take(none), masks=None, known=None))

    def digest(self) -> str:
        return hashlib.sha256((self.train.digest() + self.test.digest()).encode()).hexdigest()


def tile_size(sizes: Iterable[Size], largest: int) -> Size:
    """Return the size to train on: the images' common size if the input holds it, else a square of side `largest`."""
    found = set(sizes)
    if len(found) == 1 and max(size := found.pop()) <= largest:
        return size
    return largest, largest
