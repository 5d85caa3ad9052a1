"""Windows of one size over images of any size: cut for the network, and their values put together again."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from salt.runs.stacks import Size, Stack, empty_stack


class Corner(NamedTuple):
    """The upper left corner of a window: number of the image, row and column; negative in a smaller image."""

    image: int
    top: int
    left: int


class Windows:
    """Windows (h w) over some of the images, image by image; a single one over a smaller image, which is reflected.

    Overlapping windows are averaged with weights that fall from the middle to the border, so that no seam shows.
    """

    def __init__(self, images: Stack, positions: NDArray[np.int64], size: Size):
        self.images, self.positions, self.size = images, positions, size
        self.are_tiles = images.shape[1:] == size  # a window is an image: nothing is cut or weighted
        self.corners = [] if self.are_tiles else list_corners([images[i].shape for i in positions], size)

    def __len__(self) -> int:
        return len(self.positions) if self.are_tiles else len(self.corners)

    def cut(self, start: int, stop: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return the windows start ... stop-1 (M h w), and the positions (M) of their images."""
        if self.are_tiles:
            at = self.positions[start:stop]
            return self.images[at], at
        corners = self.corners[start:stop]
        at = self.positions[[corner.image for corner in corners]]
        return np.stack([cut_window(self.images[i], c, self.size) for i, c in zip(at, corners, strict=True)]), at

    def start_result(self) -> Stack:
        """Return zeros for every image, to which `put` adds."""
        stack = empty_stack([self.images[i].shape for i in self.positions], np.float32)
        for image in stack:
            image[:] = 0
        return stack

    def put(self, result: Stack, start: int, values: NDArray[np.float32]) -> None:
        """Add the values (M h w) of the windows from `start` on."""
        if self.are_tiles:
            result[start : start + len(values)] = values
            return
        for corner, value in zip(self.corners[start : start + len(values)], values, strict=True):
            add_weighted(result[corner.image], corner, value)


def list_corners(sizes: Sequence[Size], window: Size) -> list[Corner]:
    """Return the windows over images of these sizes."""
    return [
        Corner(i, top, left)
        for i, (height, width) in enumerate(sizes)
        for top in window_starts(height, window[0])
        for left in window_starts(width, window[1])
    ]


def window_starts(side: int, window: int) -> list[int]:
    """Return where windows start along one side of an image, evenly spaced."""
    if side <= window:
        return [-((window - side) // 2)]
    n = 1 + math.ceil((side - window) / max(window // 2, 1))  # each overlaps the next by half or more
    return [round(start) for start in np.linspace(0, side - window, n)]


def cut_window(image: NDArray[np.uint8], corner: Corner, size: Size) -> NDArray[np.uint8]:
    """Return a window (h w) of an image (H W)."""
    spans = list(zip(corner[1:], size, image.shape, strict=True))
    outside = [(max(-first, 0), max(first + side - length, 0)) for first, side, length in spans]
    inside = tuple(slice(max(first, 0), first + side) for first, side, _ in spans)
    return np.pad(image[inside], outside, mode="reflect") if any(map(any, outside)) else image[inside]


def add_weighted(image: NDArray[np.float32], corner: Corner, value: NDArray[np.float32]) -> None:
    """Add a window's values (h w), weighted, to its place in an image (H W)."""
    (top, rows), (left, columns) = (
        (max(first, 0), window_weights(length, side)[first])
        for first, side, length in zip(corner[1:], value.shape, image.shape, strict=True)
    )
    inside = value[top - corner.top :, left - corner.left :][: len(rows), : len(columns)]
    image[top : top + len(rows), left : left + len(columns)] += inside * rows[:, None] * columns


@lru_cache(maxsize=256)
def window_weights(side: int, window: int) -> dict[int, NDArray[np.float32]]:
    """Return the weights of the windows along one side by their start; they sum to 1 at each pixel."""
    bell = np.sin(np.pi * (np.arange(window) + 0.5) / window).astype(np.float32) ** 2
    total = np.zeros(side, dtype=np.float32)
    parts = {start: bell[:side] for start in window_starts(side, window)}
    for start, part in parts.items():
        total[max(start, 0) :][: len(part)] += part
    return {start: part / total[max(start, 0) :][: len(part)] for start, part in parts.items()}
