"""Grey values of pixels that are stored as colours."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def single_channel(samples: NDArray[Any]) -> NDArray[Any]:
    """Return the one channel (H W) that all channels of samples (H W C) equal; a last one of 2 or 4 may be constant.

    Raises:
        ValueError: they differ.
    """
    n_channels, first = samples.shape[-1], samples[..., 0]
    for i in range(1, n_channels):
        channel = samples[..., i]
        constant_last = n_channels in (2, 4) and i == n_channels - 1 and same(channel, channel[:1, :1])
        if not same(channel, first) and not constant_last:
            what = "its colour channels" if n_channels >= 3 and i < 3 else f"its {n_channels} channels"
            raise ValueError(f"{what} differ, expected a grey image")
    return first


def same(channel: NDArray[Any], other: NDArray[Any]) -> bool:
    """Return whether two channels (H W) are equal; NaN equals NaN."""
    return bool(np.all((channel == other) | ((channel != channel) & (other != other))))


def from_palette(indices: NDArray[Any], colours: NDArray[np.uint8], mask: bool) -> NDArray[Any]:
    """Return the grey values (H W) of indices (H W) into colours (N 3) as displayed.

    If a mask has other colours, its labels are the indices: 0 must be black, as in PASCAL VOC, and so is no salt.

    Raises:
        ValueError: colours among them are not grey, or an index has no colour.
    """
    used = np.unique(indices)
    if used[-1] >= len(colours):
        raise ValueError(f"has a palette of {len(colours)} colours, but the pixel value {used[-1]}")
    if (colours[used] == colours[used, :1]).all():
        return np.asarray(colours[indices, 0])
    if not mask:
        raise ValueError("has a palette of colours, expected a grey image")
    if colours[0].any():
        raise ValueError("has a palette of colours whose first is not black, expected black for 0, which is no salt")
    return np.where(colours[indices].any(axis=-1), indices, 0).astype(np.min_scalar_type(used[-1]))
