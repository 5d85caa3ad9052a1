"""TIFF files read as their tags describe them, and shown as a viewer shows them."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile, TiffPage

from salt.data.orientation import TAG as ORIENTATION
from salt.data.orientation import oriented

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # its lines name no file; decode_tiff's errors do
NODATA = 42113  # GDAL's tag, a number as text
LARGEST = 178_956_970  # pixels, Pillow's limit for other formats

Array = NDArray[np.generic]


def decode_tiff(data: bytes) -> Array:
    """Return the grey pixels (H W) of a TIFF in their own number type; masked where its nodata tag says so.

    Raises:
        ValueError: it is damaged, not one grey image, or of a kind that is not read.
    """
    with reading():
        file = TiffFile(io.BytesIO(data), _multifile=False)
        pages = list(file.pages)
    if len(pages) != 1:
        raise ValueError(f"has {len(pages)} pages, expected one image")
    page = pages[0]
    with reading():
        samples = page.asarray(squeeze=False, maxworkers=1)  # separate samples, depth, height, width, samples
    samples = np.moveaxis(samples[:, 0], 0, -1).reshape(*samples.shape[2:4], -1)
    if samples.shape[-1] in (2, 4) and (samples[..., -1] != samples[..., -1].max()).any():
        raise ValueError("is partly transparent, expected a grey image")
    if not (samples[..., :3] == samples[..., :1]).all():
        raise ValueError("its colour channels differ, expected a grey image")
    pixels = samples[..., 0]
    missing = find_missing(page, pixels)
    if page.photometric == 0:
        pixels = np.iinfo(pixels.dtype).max - pixels if pixels.dtype.kind == "u" else -pixels
    pixels = pixels if missing is None else np.ma.MaskedArray(pixels, missing)
    return oriented(pixels, page.tags.valueof(ORIENTATION, 1))


@contextmanager
def reading() -> Iterator[None]:
    """Within this context, turn whatever tifffile and its codecs raise about a file into one line."""
    try:
        yield
    except Exception as error:  # of many classes, the codecs' own among them
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ValueError(f"does not decode as a TIFF: {reason[:150]}") from None


def find_missing(page: TiffPage, stored: Array) -> NDArray[np.bool_] | None:
    """Return where stored pixels equal the value of GDAL's nodata tag, or None if there is no such tag."""
    text = page.tags.valueof(NODATA)
    if text is None:
        return None
    value = nodata_value(str(text), stored.dtype)
    if value is None:
        return np.zeros(stored.shape, dtype=bool)
    return np.asarray(np.isnan(stored) if value != value else stored == value)


def nodata_value(text: str, dtype: "np.dtype[np.generic]") -> np.generic | None:
    """Return the number of a nodata tag as a type of samples holds it, or None if it cannot."""
    text = text.strip("\0 ").replace(",", ".")  # some writers follow the locale
    try:
        number: int | float = int(text)
    except ValueError:
        try:
            number = float(text)
        except ValueError:
            return None
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            value = dtype.type(number)
        return None if np.isinf(value) and not np.isinf(float(number)) else value
    if number != number or abs(number) == float("inf") or number != int(number):
        return None
    limits = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return dtype.type(int(number)) if limits[0] <= number <= limits[1] else None
