"""Image files of any usual kind as one channel of numbers."""

import io
import warnings
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from salt.data.colour import single_channel
from salt.data.damaged import decoding
from salt.data.orientation import exif_orientation, oriented
from salt.data.png import decode_png
from salt.data.tiff import decode_tiff

warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # they name no file; decode's errors do
FORMATS = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".jpg": "JPEG", ".jpeg": "JPEG", ".npy": "NPY"}
SMALLEST = 32  # pixels, the shorter side of an image to train on: an encoder halves it five times
Array = NDArray[np.generic]


def decode(name: str, data: bytes, smallest: int = SMALLEST, mask: bool = False) -> Array:
    """Return the pixels (H W) of an image file as displayed, in its own type of number; its name tells the format.

    NaN stay. Pixels that a TIFF's nodata tag names are masked: then the array is a `numpy.ma.MaskedArray`.
    `smallest` is the least length of a side, in pixels; a `mask` may have a palette of colours, whose 0 is black.

    Raises:
        ValueError: it is damaged, of an unknown kind, not grey, too small, or holds infinite values.
    """
    kind = FORMATS.get(PurePath(name).suffix.lower())
    if kind is None:
        raise ValueError(f"has an unknown extension, expected one of {', '.join(FORMATS)}")
    if kind == "PNG":
        pixels = decode_png(data, mask=mask)
    elif kind == "TIFF":
        pixels = decode_tiff(data, mask)
    else:
        pixels = {"JPEG": decode_jpeg, "NPY": decode_npy}[kind](data)
    if min(pixels.shape) < smallest:
        raise ValueError(f"is {pixels.shape[0]}x{pixels.shape[1]} pixels, expected {smallest} or more on both sides")
    if pixels.dtype.kind == "f":
        infinite = np.isinf(np.ma.getdata(pixels)) & ~np.ma.getmaskarray(pixels)
        if infinite.any():
            raise ValueError(f"has {np.count_nonzero(infinite)} infinite pixels, expected numbers, or NaN for missing")
    return pixels


def decode_npy(data: bytes) -> Array:
    """Return the grey pixels (H W) of an array in NumPy's own format, in native byte order; never a pickle.

    Raises:
        ValueError: it is damaged, or has other dimensions or another type.
    """
    with decoding("an NPY"):
        pixels = np.load(io.BytesIO(data), allow_pickle=False)
    if not isinstance(pixels, np.ndarray) or pixels.dtype.kind not in "buif":
        raise ValueError(f"has the type {getattr(pixels, 'dtype', type(pixels).__name__)}, expected real numbers")
    if pixels.ndim != 2 and not (pixels.ndim == 3 and 1 <= pixels.shape[2] <= 4):
        raise ValueError(f"has the shape {pixels.shape}, expected two dimensions: samples down, traces to the right")
    return single_channel(np.atleast_3d(pixels)).astype(pixels.dtype.newbyteorder("="), copy=False)


def decode_jpeg(data: bytes) -> Array:
    """Return the grey pixels (H W) of a JPEG.

    Raises:
        ValueError: it is damaged, or in colour.
    """
    with decoding("a JPEG"):
        image = Image.open(io.BytesIO(data), formats=["JPEG"])
        n_pages = getattr(image, "n_frames", 1)
        samples = np.atleast_3d(np.asarray(image))
    if n_pages > 1:
        raise ValueError(f"has {n_pages} pages, expected one image")
    if image.mode == "CMYK":  # also YCCK, which Pillow converts
        raise ValueError("is in the colour space CMYK, expected a grey image")
    return oriented(single_channel(samples), exif_orientation(image.info.get("exif", b"")))
