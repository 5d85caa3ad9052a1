"""Image files of any usual kind as one channel of numbers."""

import io
import warnings
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from salt.data.png import decode_png

warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # they name no file; decode's errors do
FORMATS = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".jpg": "JPEG", ".jpeg": "JPEG", ".npy": "NPY"}
SMALLEST = 32  # pixels, the shorter side of an image to train on: an encoder halves it five times
Array = NDArray[np.generic]


def decode(name: str, data: bytes, smallest: int = SMALLEST) -> Array:
    """The pixels (H W) of an image file, in its own type of number; its name tells the format.

    `smallest` is the least length of a side, in pixels.

    Raises:
        ValueError: it is damaged, of an unknown kind, not grey, too small, or holds what is no number.
    """
    kind = FORMATS.get(PurePath(name).suffix.lower())
    if kind is None:
        raise ValueError(f"has an unknown extension, expected one of {', '.join(FORMATS)}")
    if kind == "PNG":
        pixels = decode_png(data)
    else:
        pixels = one_channel(decode_npy(data) if kind == "NPY" else decode_by_pillow(data, kind))
    if min(pixels.shape) < smallest:
        raise ValueError(f"is {pixels.shape[0]}x{pixels.shape[1]} pixels, expected {smallest} or more on both sides")
    if pixels.dtype.kind == "f" and np.isinf(pixels).any():
        raise ValueError(
            f"has {np.count_nonzero(np.isinf(pixels))} infinite pixels, expected numbers, or NaN for missing"
        )
    return pixels


def decode_npy(data: bytes) -> Array:
    """An array of NumPy's own format; never a pickle."""
    try:
        pixels = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"does not decode as an NPY: {error}") from None
    if not isinstance(pixels, np.ndarray) or pixels.dtype.kind not in "buif":
        raise ValueError(f"has the type {getattr(pixels, 'dtype', type(pixels).__name__)}, expected real numbers")
    return pixels


def decode_by_pillow(data: bytes, kind: str) -> Array:
    """A TIFF or JPEG image, of one page."""
    try:
        image = Image.open(io.BytesIO(data), formats=[kind])
        n_pages = getattr(image, "n_frames", 1)
        if n_pages > 1:
            raise ValueError(f"has {n_pages} pages, expected one image")
        if image.mode == "P":
            raise ValueError("has a palette of colours, expected a grey image")
        return np.asarray(image)
    except Image.DecompressionBombError:
        raise ValueError("is too large: more than 178 million pixels; cut it first") from None
    except UnidentifiedImageError:  # its message shows an object of Python
        raise ValueError(f"does not decode as a {kind}: its beginning is damaged, or it is something else") from None
    except (OSError, SyntaxError, EOFError) as error:
        raise ValueError(f"does not decode as a {kind}: {error}") from None


def one_channel(pixels: Array) -> Array:
    """The single channel of an array (H W), or (H W C) with equal channels."""
    if pixels.ndim == 3 and 1 <= pixels.shape[2] <= 4:
        colours = pixels[..., :3] if pixels.shape[2] != 2 else pixels[..., :1]
        if pixels.shape[2] in (2, 4) and (pixels[..., -1] != pixels[..., -1].max()).any():
            raise ValueError("is partly transparent, expected a grey image")
        if not (colours[..., :1] == colours).all():
            raise ValueError("its colour channels differ, expected a grey image")
        return colours[..., 0]
    if pixels.ndim != 2:
        raise ValueError(f"has the shape {pixels.shape}, expected two dimensions: samples down, traces to the right")
    return pixels
