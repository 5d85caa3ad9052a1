"""Samples of a TIFF as the grey values that a viewer shows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffPage

from salt.data.colour import from_palette, single_channel

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE = range(4)  # PhotometricInterpretation
COLOURS = {RGB: 3, 6: 3}  # channels; YCbCr arrives as RGB
PHOTOMETRIC = 262  # the tag
ALPHA = (1, 2)  # of the tag ExtraSamples: associated and unassociated; 0 says nothing

Array = NDArray[Any]


def as_displayed(page: TiffPage, samples: Array, mask: bool) -> Array:
    """Return the grey pixels (H W) that a viewer shows of stored samples (H W C), or the labels of a `mask`.

    Fewer than 8 bits become 8, as in a PNG; other types stay as they are.

    Raises:
        ValueError: it shows colours, or parts are transparent.
    """
    n_samples = samples.shape[-1]
    photometric = page.photometric if PHOTOMETRIC in page.tags else RGB if n_samples in (3, 4) else BLACK_IS_ZERO
    n_colours = min(COLOURS.get(photometric, 1), n_samples)
    alphas = [n_colours + i for i, kind in enumerate(page.extrasamples) if kind in ALPHA and n_colours + i < n_samples]
    for i in alphas:
        check_opaque(samples[..., i], page.bitspersample)
    pixels = single_channel(np.delete(samples, alphas, axis=-1) if alphas else samples)
    if photometric == PALETTE:
        return from_palette(pixels.astype(np.intp), colours_of(page), mask)
    if photometric == WHITE_IS_ZERO:
        pixels = inverted(pixels, page.bitspersample)
    if page.bitspersample < 8:
        pixels = (pixels.astype(np.uint16) * 255 // (2**page.bitspersample - 1)).astype(np.uint8)
    return pixels


def check_opaque(alpha: Array, n_bits: int) -> None:
    """Check that an alpha channel (H W) hides nothing.

    Raises:
        ValueError: it does.
    """
    opaque = 2**n_bits - 1 if alpha.dtype.kind in "ub" else alpha.max() or 1
    if (alpha != opaque).any():
        raise ValueError("is partly transparent, expected a grey image")


def inverted(pixels: Array, n_bits: int) -> Array:
    """Return pixels (H W) of a white-is-zero image with black as the least value.

    Unsigned numbers become their distance from the largest one, signed integers -1 - v, which turns the range around,
    and floats -v. If signed numbers or floats are 0 and at most one other value, as in a mask, these change places.
    """
    if pixels.dtype.kind == "b":
        return ~pixels
    if pixels.dtype.kind == "u":
        return pixels.dtype.type(2**n_bits - 1) - pixels
    drawn = pixels[pixels != 0]
    if (drawn == drawn[:1]).all():
        return np.where(pixels == 0, drawn[0] if drawn.size else 1, 0).astype(pixels.dtype)
    return ~pixels if pixels.dtype.kind == "i" else -pixels


def colours_of(page: TiffPage) -> NDArray[np.uint8]:
    """Return the palette (N 3) of a page, in 8 bits as viewers show it."""
    palette = np.asarray([] if page.colormap is None else page.colormap, dtype=np.uint16)
    palette = palette.reshape(3, -1) if palette.size % 3 == 0 else palette[:0].reshape(3, 0)
    return (palette if palette.max(initial=0) < 256 else palette >> 8).astype(np.uint8).T  # some fill the lower byte
