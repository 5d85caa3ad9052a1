"""Image files of any usual kind as one channel of numbers, and masks as 0 and 1."""

import io
import struct
import warnings
import zlib
from pathlib import PurePath

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from salt.data.colour import from_palette, single_channel
from salt.data.damaged import decoding
from salt.data.orientation import exif_orientation, oriented
from salt.data.tiff import decode_tiff

warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # they name no file; decode's errors do
FORMATS = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".jpg": "JPEG", ".jpeg": "JPEG", ".npy": "NPY"}
SMALLEST = 32  # pixels, the shorter side of an image to train on: an encoder halves it five times
TILE_SIZE = 101  # pixels, both sides of Kaggle's tiles
SIGNATURE = b"\x89PNG\r\n\x1a\n"  # of a PNG
COLOUR_TYPE = 25  # the byte's place in a PNG; the number of bits stands before it
GREY, PALETTE = 0, 3  # colour types
END = b"\0\0\0\0IEND\xaeB`\x82"  # the last chunk of a PNG

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


def decode_png(data: bytes, size: tuple[int, int] | None = None, mask: bool = False) -> Array:
    """Return the grey pixels (H W) of one PNG of the given size as displayed, at its own bit depth.

    A `mask` may have a palette of colours.

    Raises:
        ValueError: it is damaged, of another size, in colour, or parts are transparent.
    """
    check_png(data, size)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise ValueError("does not decode as a PNG")
    if pixels.ndim == 3:
        if pixels.shape[2] == 4 and (pixels[..., 3] != np.iinfo(pixels.dtype).max).any():
            raise ValueError("is partly transparent, expected a grey image")
        if data[COLOUR_TYPE] == PALETTE:
            image = Image.open(io.BytesIO(data), formats=["PNG"])
            colours = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
            pixels = from_palette(np.asarray(image), colours, mask)
        elif not (pixels[..., :1] == pixels[..., :3]).all():
            raise ValueError("its colour channels differ, expected a grey image")
        else:
            pixels = pixels[..., 0]
    if data[COLOUR_TYPE] == GREY and (key := find_chunk(data, b"tRNS")) is not None:  # OpenCV passes over it
        n_bits = data[COLOUR_TYPE - 1]
        level = int.from_bytes(key, "big") * (255 // (2**n_bits - 1) if n_bits < 8 else 1)
        if (pixels == level).any():
            raise ValueError("is partly transparent, expected a grey image")
    exif = find_chunk(data, b"eXIf")
    return np.asarray(pixels if exif is None else oriented(pixels, exif_orientation(exif)))


def find_chunk(data: bytes, kind: bytes) -> bytes | None:
    """Return the content of a PNG's first chunk of a kind, or None if there is none."""
    at = len(SIGNATURE) if kind in data else len(data)  # nearly all have none
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == kind:
            return data[at + 8 : at + 8 + length]
        at += length + 12  # of length, kind and checksum
    return None


def check_png(data: bytes, size: tuple[int, int] | None) -> None:
    """Check what OpenCV is lenient about or would allocate memory for: size, checksums, completeness, animation.

    Raises:
        ValueError: a chunk is damaged, missing or not for a still image, or the size is another one.
    """
    stream = io.BytesIO(data)
    try:
        image = Image.open(stream, formats=["PNG"])
        width, height, animated = *image.size, getattr(image, "is_animated", False)
        image.verify()  # reads up to the checksum of the last chunk, which has no content
    except Image.DecompressionBombError:
        limit = "more than 178 million pixels" if size is None else f"expected {size[0]}x{size[1]} pixels"
        raise ValueError(f"is too large, {limit}") from None
    except UnidentifiedImageError:
        raise ValueError("does not decode as a PNG: it does not begin like one") from None
    except (OSError, SyntaxError, ValueError, struct.error, zlib.error):
        raise ValueError("does not decode as a PNG: it is truncated or a checksum is wrong") from None
    if size is not None and (height, width) != size:
        raise ValueError(f"is {height}x{width} pixels, expected {size[0]}x{size[1]}")
    if animated:
        raise ValueError("is an animation, expected a still image")
    n_left = len(data) - stream.tell() - 4
    if n_left or not data.endswith(END):
        raise ValueError(f"does not decode as a PNG: {n_left} bytes follow its end")


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """Decode a seismic image to grey values 0-255 (H W)."""
    pixels = decode_png(data, (TILE_SIZE, TILE_SIZE))
    if pixels.dtype != np.uint8:
        raise ValueError(f"has {pixels.dtype} pixels, expected 8 bits")
    return pixels.astype(np.uint8)


def decode_mask(data: bytes) -> NDArray[np.uint8]:
    """Decode a mask of any bit depth to 0 and 1 (H W)."""
    return to_mask(decode_png(data, (TILE_SIZE, TILE_SIZE), mask=True))


def to_mask(pixels: Array) -> NDArray[np.uint8]:
    """A mask (H W) with the values 0 and 1, of one in which salt has any other value than 0.

    Raises:
        ValueError: it has more than one value besides 0.
    """
    pixels = np.asarray(pixels)  # of a masked array all values: a mask may be tagged with a value for "no data"
    salt = pixels != 0
    found = pixels[salt]
    if found.size and (found != found[0]).any():
        values = np.unique(pixels)
        raise ValueError(f"has {len(values)} values {values[:5].tolist()}, expected 0 and one other")
    return salt.astype(np.uint8)


def salt_value(pixels: NDArray[np.generic]) -> float | None:
    """Return the value of salt in a mask, or None if it has none; white is 255 for any number of bits."""
    values = np.asarray(pixels)
    value = float(values.max())
    if values.dtype.kind == "u" and value == np.iinfo(values.dtype).max:
        return 255.0
    return value or None


def several_values(examples: dict[float, str]) -> str:
    """Return what to say of masks in which salt has different values, of which each has an example."""
    found = ", ".join(f"{value:g} ({name})" for value, name in sorted(examples.items()))
    return f"different values stand for salt: {found}; one of them may be something else"
