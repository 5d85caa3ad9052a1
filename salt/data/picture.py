"""A picture as its file stores it, and the grey values that a viewer shows of it."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ORIENTATION = 274  # the tag of TIFF and EXIF; 1 is upright

Pixels = NDArray[Any]


class Picture(NamedTuple):
    """Stored samples, and how to show them."""

    samples: Pixels  # (H W C); with a palette: indices into it
    orientation: int = 1
    palette: NDArray[np.uint8] | None = None  # (N 3)
    missing: NDArray[np.bool_] | None = None  # (H W)

    def grey(self, mask: bool) -> Pixels:
        """Return the upright grey pixels (H W), masked if some may be missing; raise ValueError for colours."""
        pixels = single_channel(self.samples)
        if self.palette is not None:
            pixels = look_up(pixels, self.palette, mask)
        pixels = upright(pixels, self.orientation)
        pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
        return pixels if self.missing is None else np.ma.MaskedArray(pixels, upright(self.missing, self.orientation))


def single_channel(samples: Pixels) -> Pixels:
    """Return the one channel (H W) that all channels (H W C) equal; the last of 2 or 4 may be constant, as an alpha."""
    n_channels, first = samples.shape[-1], samples[..., 0]
    for i in range(1, n_channels):
        alpha = n_channels in (2, 4) and i == n_channels - 1
        if not (same(samples[..., i], first) or (alpha and same(samples[..., i], samples[:1, :1, i]))):
            what = "partly transparent, or in colour" if alpha else "in colour"
            raise ValueError(f"its {n_channels} channels differ: it is {what}, expected a grey image")
    return first


def same(channel: Pixels, other: Pixels) -> bool:
    """Return whether two channels (H W) are equal; NaN equals NaN."""
    return bool(np.all((channel == other) | ((channel != channel) & (other != other))))


def look_up(indices: Pixels, palette: NDArray[np.uint8], mask: bool) -> Pixels:
    """Return the grey values (H W) of indices into a palette (N 3); a mask in colours keeps its indices, 0 is black."""
    used = np.unique(indices)
    if used[-1] >= len(palette):
        raise ValueError(f"its palette has {len(palette)} colours, but a pixel the value {used[-1]}")
    if (palette[used] == palette[used, :1]).all():
        return np.asarray(palette[indices, 0])
    if not mask:
        raise ValueError("it has a palette of colours, expected a grey image")
    if palette[0].any():
        raise ValueError("the first colour of its palette is not black, expected black for 0, which is no salt")
    return np.where(palette[indices].any(axis=-1), indices, 0).astype(np.min_scalar_type(used[-1]))


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Return pixels (H W) stored in an orientation of TIFF 6.0, 1 to 8, upright; other numbers count as upright."""
    if orientation in (5, 6, 7, 8):  # rows are stored as columns
        pixels = pixels.T
    if orientation in (3, 4, 7, 8):  # from the bottom
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):  # from the right
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
