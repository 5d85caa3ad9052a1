"""Windows of one size over images of any size: cut for the network, and their values put together again."""

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain, groupby, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from salt.runs.stacks import Size, Stack

OVERLAP = 0.25  # share of a window's side that its neighbour covers too, at least


class Corner(NamedTuple):
    """The upper left corner of a window: number of the image, row and column; negative in a smaller image."""

    image: int
    top: int
    left: int


class Windows:
    """Windows (h w) over images, smaller ones reflected; weights fall from middle to border, so that no seam shows."""

    def __init__(self, images: Stack, positions: NDArray[np.int64], size: Size, overlap: float = OVERLAP):
        self.images, self.positions, self.size, self.overlap = images, positions, size, overlap
        self.are_tiles = images.shape[1:] == size  # a window is an image: nothing is cut or weighted
        sizes = [] if self.are_tiles else [images[i].shape for i in positions]
        self.corners = [
            Corner(i, top, left)
            for i, (height, width) in enumerate(sizes)
            for top in window_starts(height, size[0], overlap)
            for left in window_starts(width, size[1], overlap)
        ]

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

    def join(self, parts: Iterable[NDArray[np.float32]]) -> Iterator[tuple[int, slice, NDArray[np.float32]]]:
        """Put the values (C M h w) of all windows, in their order, together.

        Yield the number of an image among the positions, some of its rows, and their values (C rows W), as soon as no
        later window covers these rows.
        """
        values = chain.from_iterable(part.swapaxes(0, 1) for part in parts)
        if self.are_tiles:
            for image, value in enumerate(values):
                yield image, slice(None), value
            return
        for image, windows in groupby(zip(self.corners, values, strict=True), key=lambda window: window[0].image):
            shape = self.images[self.positions[image]].shape
            for rows, joined in join_rows(shape, self.size, self.overlap, windows):
                yield image, rows, joined


def join_rows(
    shape: Size, size: Size, overlap: float, windows: Iterable[tuple[Corner, NDArray[np.float32]]]
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield rows of an image (H W) and their values (C rows W), from its windows with their values (C h w)."""
    starts = window_starts(shape[0], size[0], overlap)
    down, across = (window_weights(*sides, overlap) for sides in zip(shape, size, strict=True))
    carried = None  # the sums so far of rows that the next windows cover too
    for (top, end), (_, row) in zip(
        pairwise([*starts, shape[0]]), groupby(windows, key=lambda w: w[0].top), strict=True
    ):
        begin, strip = max(top, 0), None
        for corner, value in row:
            if strip is None:
                strip = np.zeros((len(value), len(down[top]), shape[1]), dtype=np.float32)
                if carried is not None:
                    strip[:, : carried.shape[1]] = carried
            left, weights = max(corner.left, 0), across[corner.left]
            inside = value[:, begin - top :, left - corner.left :][:, : len(down[top]), : len(weights)]
            strip[:, :, left : left + len(weights)] += inside * down[top][:, None] * weights
        assert strip is not None
        yield slice(begin, end), strip[:, : end - begin]
        carried = strip[:, end - begin :]


def window_starts(side: int, window: int, overlap: float) -> list[int]:
    """Return where windows start along one side of an image, evenly spaced."""
    if side <= window:
        return [-((window - side) // 2)]
    n = 1 + math.ceil((side - window) / max(window - math.ceil(window * overlap), 1))
    return [round(start) for start in np.linspace(0, side - window, n)]


def cut_window(image: NDArray[np.uint8], corner: Corner, size: Size) -> NDArray[np.uint8]:
    """Return a window (h w) of an image (H W)."""
    spans = list(zip(corner[1:], size, image.shape, strict=True))
    outside = [(max(-first, 0), max(first + side - length, 0)) for first, side, length in spans]
    inside = tuple(slice(max(first, 0), first + side) for first, side, _ in spans)
    return np.pad(image[inside], outside, mode="reflect") if any(map(any, outside)) else image[inside]


@lru_cache(maxsize=256)
def window_weights(side: int, window: int, overlap: float) -> dict[int, NDArray[np.float32]]:
    """Return the weights of the windows along one side by their start; they sum to 1 at each pixel."""
    bell = np.sin(np.pi * (np.arange(window) + 0.5) / window).astype(np.float32) ** 2
    total = np.zeros(side, dtype=np.float32)
    parts = {start: bell[:side] for start in window_starts(side, window, overlap)}
    for start, part in parts.items():
        total[max(start, 0) :][: len(part)] += part
    return {start: part / total[max(start, 0) :][: len(part)] for start, part in parts.items()}
