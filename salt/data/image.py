"""Read image files of any usual kind as one channel of numbers, and masks as 0 and 1."""

import io
import warnings
from pathlib import PurePath
from typing import NamedTuple

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from salt.config import TWO_VALUES, Labels
from salt.data.amplitudes import find_missing
from salt.data.picture import ORIENTATION, Picture, Pixels
from salt.data.tiff import read_tiff

warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # they name no file; our errors do
SMALLEST = 32  # pixels, the shorter side of an image to train on: an encoder halves it five times
TILE_SIZE = 101  # pixels, both sides of Kaggle's tiles


def read_png(data: bytes) -> Picture:
    """Read a PNG at its own bit depth; fewer than 8 bits become 8."""
    image = Image.open(io.BytesIO(data), formats=["PNG"])
    if getattr(image, "is_animated", False):
        raise ValueError("it is an animation, expected a still image")
    samples = np.atleast_3d(imagecodecs.png_decode(data))  # stricter than Pillow and OpenCV, and keeps 16 bits
    orientation = image.getexif().get(ORIENTATION, 1) if b"eXIf" in data else 1
    if image.mode == "P" and samples.shape[-1] == 3:
        palette = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
        return Picture(np.asarray(image)[..., None], orientation, palette)
    return Picture(samples, orientation)


def read_jpeg(data: bytes) -> Picture:
    """Read a JPEG."""
    image = Image.open(io.BytesIO(data), formats=["JPEG"])
    n_pages = getattr(image, "n_frames", 1)
    if n_pages > 1:
        raise ValueError(f"it has {n_pages} pages, expected one image")
    if image.mode == "CMYK":  # also YCCK, which Pillow converts
        raise ValueError("its colour space is CMYK, expected a grey image")
    return Picture(np.atleast_3d(np.asarray(image)), image.getexif().get(ORIENTATION, 1))


def read_npy(data: bytes) -> Picture:
    """Read an array (H W), or (H W C) with equal channels, in NumPy's own format; never a pickle."""
    array = np.load(io.BytesIO(data), allow_pickle=False)
    if array.dtype.kind not in "buif":
        raise ValueError(f"its type is {array.dtype}, expected real numbers")
    if array.ndim != 2 and not (array.ndim == 3 and 1 <= array.shape[2] <= 4):
        raise ValueError(f"its shape is {array.shape}, expected two dimensions: samples down, traces to the right")
    return Picture(np.atleast_3d(array))


READERS = {
    ".png": read_png,
    ".tif": read_tiff,
    ".tiff": read_tiff,
    ".jpg": read_jpeg,
    ".jpeg": read_jpeg,
    ".npy": read_npy,
}
EXTENSIONS = tuple(READERS)


def decode(name: str, data: bytes, smallest: int = SMALLEST, mask: bool = False) -> Pixels:
    """Return the pixels (H W) of an image file as displayed, in its own type of number; its name tells the format.

    NaN stay. Pixels that a TIFF declares missing are masked: then the array is a `numpy.ma.MaskedArray`.
    `smallest` is the least length of a side, in pixels; a `mask` may have a palette of colours, whose 0 is black.

    Raises:
        ValueError: it is damaged, of an unknown kind, not grey, too small, or holds infinite values.
    """
    read = READERS.get(PurePath(name).suffix.lower())
    if read is None:
        raise ValueError(f"has an unknown extension, expected one of {', '.join(EXTENSIONS)}")
    try:
        pixels = read(data).grey(mask)
    except Exception as error:  # libraries raise many classes for damaged files
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ValueError(f"cannot be read as an image: {reason.partition(' <_io')[0][:200]}") from None
    return check_pixels(pixels, smallest)


def check_pixels(pixels: Pixels, smallest: int) -> Pixels:
    """Return pixels (H W); raise ValueError if a side is shorter than `smallest`, or one of them is infinite."""
    if min(pixels.shape) < smallest:
        raise ValueError(f"is {pixels.shape[0]}x{pixels.shape[1]} pixels, expected {smallest} or more on both sides")
    if pixels.dtype.kind == "f":
        n_infinite = np.count_nonzero(np.isinf(np.ma.getdata(pixels)) & ~np.ma.getmaskarray(pixels))
        if n_infinite:
            raise ValueError(f"has {n_infinite} infinite pixels, expected numbers, or NaN for missing")
    return pixels


class Labelled(NamedTuple):
    """A mask as training takes it."""

    salt: NDArray[np.uint8]  # (H W), 0 or 1; 0 at unknown pixels
    known: NDArray[np.bool_]  # (H W), pixels that somebody interpreted


def to_labels(pixels: Pixels, labels: Labels = TWO_VALUES) -> Labelled:
    """Return salt and the known pixels of a mask (H W); raise ValueError if a value has no meaning."""
    pixels = np.asarray(pixels)  # of a masked array all values: a mask may be tagged with a value for "no data"
    unknown = find_missing(pixels, labels.unknown)
    others = ~unknown & (pixels != 0)
    found = pixels[others]
    if found.size and (found != (found[0] if labels.salt is None else labels.salt)).any():
        values = np.unique(pixels[~unknown])
        if labels == TWO_VALUES:
            raise ValueError(
                f"has {len(values)} values {values[:5].tolist()}, expected 0 and one other; {hint_at_option(values)}"
            )
        odd = values[(values != 0) & (values != labels.salt)]
        meanings = [f"0, {'one for salt' if labels.salt is None else f'{labels.salt:g} for salt'}"]
        meanings += [] if labels.unknown is None else [f"{labels.unknown:g} for unknown"]
        raise ValueError(f"has the values {odd[:5].tolist()}, expected {' and '.join(meanings)} (data.labels)")
    return Labelled(others.astype(np.uint8), ~unknown)


def hint_at_option(values: Pixels) -> str:
    """Return which settings may be missing if a mask has these values (N)."""
    others = [f"{value:g}" for value in values[values != 0].tolist()]
    if len(others) > 2:
        return "save masks without loss, or name the meaning of values by data.labels.salt and data.labels.unknown"
    options = " or ".join(f"data.labels.unknown={value}" for value in others)
    return f"if one of them marks what nobody interpreted, set {options}"


def to_mask(pixels: Pixels) -> NDArray[np.uint8]:
    """Return a mask (H W) of 0 and 1 that is known everywhere; raise ValueError if it has other values."""
    salt, known = to_labels(pixels)
    if not known.all():
        raise ValueError(f"has {np.count_nonzero(~known)} NaN, expected a mask that is known everywhere")
    return salt


def salt_value(pixels: Pixels, labels: Labels = TWO_VALUES) -> float | None:
    """Return the value of salt in a mask, or None if it has none; white is 255 for any number of bits."""
    values = np.asarray(pixels)
    values = values[~find_missing(values, labels.unknown)]
    value = float(values.max(initial=0))
    if values.dtype.kind == "u" and value == np.iinfo(values.dtype).max:
        return 255.0
    return value or None


def several_values(examples: dict[float, str]) -> str:
    """Return a warning about masks in which salt has different values, each with an example."""
    found = ", ".join(f"{value:g} ({name})" for value, name in sorted(examples.items()))
    return f"salt has different values: {found}; one of them may be something else"
