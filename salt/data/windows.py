"""Windows of one size over images of any size: what the network is shown, and how its answers are put together."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from salt.runs.stacks import Size, Stack, empty_stack


class Window(NamedTuple):
    """A window: the image's number, and the first row and column; these are negative in an image that is smaller."""

    image: int
    top: int
    left: int


class Windows:
    """Windows (h w) over some of the images, image by image; one alone over an image that is not larger.

    What they show outside a smaller image is its reflection. Where windows overlap, their values are averaged with
    weights that fall from the middle to the border, so that no seam is seen.
    """

    def __init__(self, images: Stack, positions: NDArray[np.int64], size: Size):
        self.images, self.positions, self.size = images, positions, size
        self.are_tiles = images.shape[1:] == size  # one window is one image: nothing is cut or weighted
        sizes = [images[i].shape for i in positions]
        self.windows = [] if self.are_tiles else list_windows(sizes, size)

    def __len__(self) -> int:
        return len(self.positions) if self.are_tiles else len(self.windows)

    def cut(self, start: int, stop: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Windows start ... stop-1 (M h w), and the positions (M) of their images."""
        if self.are_tiles:
            at = self.positions[start:stop]
            return self.images[at], at
        some = self.windows[start:stop]
        at = self.positions[[window.image for window in some]]
        return np.stack([cut(self.images[i], window, self.size) for i, window in zip(at, some, strict=True)]), at

    def start_result(self) -> Stack:
        """Zeros for every image, to which `put` adds."""
        stack = empty_stack([self.images[i].shape for i in self.positions], np.float32)
        for image in stack:
            image[:] = 0
        return stack

    def put(self, result: Stack, start: int, values: NDArray[np.float32]) -> None:
        """Add the values (M h w) of the windows from `start` on."""
        if self.are_tiles:
            result[start : start + len(values)] = values
            return
        for window, value in zip(self.windows[start : start + len(values)], values, strict=True):
            add(result[window.image], window, value)


def list_windows(sizes: Sequence[Size], window: Size) -> list[Window]:
    """The windows over images of these sizes."""
    return [
        Window(i, top, left)
        for i, (height, width) in enumerate(sizes)
        for top in starts(height, window[0])
        for left in starts(width, window[1])
    ]


def starts(side: int, window: int) -> list[int]:
    """Where windows begin along one side of an image, evenly spaced."""
    if side <= window:
        return [-((window - side) // 2)]
    n = 1 + math.ceil((side - window) / max(window // 2, 1))  # each overlaps the next by half or more
    return [round(start) for start in np.linspace(0, side - window, n)]


def cut(image: NDArray[np.uint8], window: Window, size: Size) -> NDArray[np.uint8]:
    """What a window (h w) shows of an image (H W)."""
    begin = window.top, window.left
    outside = [
        (max(-first, 0), max(first + side - length, 0))
        for first, side, length in zip(begin, size, image.shape, strict=True)
    ]
    inside = tuple(slice(max(first, 0), first + side) for first, side in zip(begin, size, strict=True))
    return np.pad(image[inside], outside, mode="reflect") if any(map(any, outside)) else image[inside]


def add(image: NDArray[np.float32], window: Window, value: NDArray[np.float32]) -> None:
    """Add a window's values (h w), weighted, to its place in an image (H W)."""
    (top, rows), (left, columns) = (
        (max(first, 0), weights(length, side)[first])
        for first, side, length in zip(window[1:], value.shape, image.shape, strict=True)
    )
    shown = value[top - window.top :, left - window.left :][: len(rows), : len(columns)]
    image[top : top + len(rows), left : left + len(columns)] += shown * rows[:, None] * columns


@lru_cache(maxsize=256)
def weights(side: int, window: int) -> dict[int, NDArray[np.float32]]:
    """For the windows along one side, by their start: the weight of each pixel within the image; 1 in sum at each."""
    bell = np.sin(np.pi * (np.arange(window) + 0.5) / window).astype(np.float32) ** 2
    total = np.zeros(side, dtype=np.float32)
    parts = {start: bell[:side] for start in starts(side, window)}  # of a smaller image one alone, so 1 everywhere
    for start, part in parts.items():
        total[max(start, 0) :][: len(part)] += part
    return {start: part / total[max(start, 0) :][: len(part)] for start, part in parts.items()}
