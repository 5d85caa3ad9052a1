"""Image files of any usual kind as one channel of numbers, and their amplitudes as grey values."""

import io
import warnings
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from salt.data.orientation import exif_orientation, oriented
from salt.data.png import decode_png
from salt.data.tiff import decode_tiff

warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # they name no file; decode's errors do
FORMATS = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".jpg": "JPEG", ".jpeg": "JPEG", ".npy": "NPY"}
SMALLEST = 32  # pixels, the shorter side of an image to train on: an encoder halves it five times
Array = NDArray[np.generic]
Range = tuple[float, float]  # amplitudes that become the grey values 0 and 255


def decode(name: str, data: bytes, smallest: int = SMALLEST) -> Array:
    """Return the pixels (H W) of an image file as displayed, in its own type of number; its name tells the format.

    NaN stay. Pixels that a TIFF's nodata tag names are masked: then the array is a `numpy.ma.MaskedArray`.
    `smallest` is the least length of a side, in pixels.

    Raises:
        ValueError: it is damaged, of an unknown kind, not grey, too small, or holds infinite values.
    """
    kind = FORMATS.get(PurePath(name).suffix.lower())
    if kind is None:
        raise ValueError(f"has an unknown extension, expected one of {', '.join(FORMATS)}")
    if kind == "NPY":
        pixels = one_channel(decode_npy(data))
    else:
        pixels = {"PNG": decode_png, "TIFF": decode_tiff, "JPEG": decode_jpeg}[kind](data)
    if min(pixels.shape) < smallest:
        raise ValueError(f"is {pixels.shape[0]}x{pixels.shape[1]} pixels, expected {smallest} or more on both sides")
    if pixels.dtype.kind == "f":
        infinite = np.isinf(np.ma.getdata(pixels)) & ~np.ma.getmaskarray(pixels)
        if infinite.any():
            raise ValueError(f"has {np.count_nonzero(infinite)} infinite pixels; fill them first")
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


def decode_jpeg(data: bytes) -> Array:
    """Return the grey pixels (H W) of a JPEG.

    Raises:
        ValueError: it is damaged, or in colour.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=["JPEG"])
        n_pages = getattr(image, "n_frames", 1)
        if n_pages > 1:
            raise ValueError(f"has {n_pages} pages, expected one image")
        if image.mode == "CMYK":  # also YCCK, which Pillow converts
            raise ValueError("is in the colour space CMYK, expected a grey image")
        pixels = one_channel(np.asarray(image))
        return oriented(pixels, exif_orientation(image.info.get("exif", b"")))
    except Image.DecompressionBombError:
        raise ValueError("is too large: more than 178 million pixels; cut it first") from None
    except UnidentifiedImageError:  # its message shows an object of Python
        raise ValueError("does not decode as a JPEG: its beginning is damaged, or it is something else") from None
    except (OSError, SyntaxError, EOFError) as error:
        raise ValueError(f"does not decode as a JPEG: {error}") from None


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


def to_grey(pixels: Array, limits: Range | None) -> NDArray[np.uint8]:
    """Grey values 0-255 (H W) of amplitudes; those outside the limits become 0 and 255. Eight bits stay as they are."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8)
    assert limits is not None
    low, high = limits
    scaled = (pixels.astype(np.float64) - low) / ((high - low) or 1.0)  # equal in an image of one amplitude
    return np.asarray((255 * scaled.clip(0, 1)).round().astype(np.uint8))


def find_range(pixels: Array, percentiles: Range) -> Range:
    """The amplitudes at two percentiles."""
    low, high = np.percentile(pixels.astype(np.float64), percentiles).tolist()
    return low, high
