"""TIFF files read as their tags describe them, and grey as a viewer shows them."""

import io
import logging
import math
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile, TiffPage

from salt.data.damaged import decoding
from salt.data.orientation import TAG as ORIENTATION
from salt.data.orientation import oriented
from salt.data.tiff_checks import check_blocks, check_kind, check_numbers, check_size
from salt.data.tiff_colour import as_displayed

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # its lines name no file; decode_tiff's errors do
NODATA = 42113  # GDAL's tag, a number as text
MOST_PAGES = 100  # that are looked at: a damaged directory may name itself as the next
REDUCED, MASK = 1, 4  # bits of NewSubfileType: a preview, and a page that says which pixels of another are to be seen
MASK_COLOUR = 4  # PhotometricInterpretation of such a page

Array = NDArray[np.generic]


def decode_tiff(data: bytes, mask: bool = False) -> Array:
    """Return the grey pixels (H W) of a TIFF as displayed, in their own number type; a `mask` may have a palette.

    Pixels of the nodata tag's value, and those outside a transparency mask, are masked.

    Raises:
        ValueError: it is damaged, not one grey image, too large, or of a kind that is not read.
    """
    with decoding("a TIFF"):
        file = TiffFile(io.BytesIO(data), _multifile=False)
        pages = [page.aspage() for page in islice(file.pages, MOST_PAGES)]
        for page in pages:
            check_numbers(page)
    if len(pages) == MOST_PAGES:
        raise ValueError(f"has {MOST_PAGES} or more pages, expected one image")
    page, shape = choose(pages)
    check_one(file, page, len(data))
    samples = read_samples(page, data)
    missing = nodata_pixels(page, samples[..., 0])
    if shape is not None:
        outside = read_samples(shape, data)[..., 0] == 0
        missing = outside if missing is None else missing | outside
    with decoding("a TIFF"):
        orientation = page.tags.valueof(ORIENTATION, 1)
    pixels = oriented(as_displayed(page, samples, mask), orientation)
    return pixels if missing is None else np.ma.MaskedArray(pixels, oriented(missing, orientation))


def choose(pages: list[TiffPage]) -> tuple[TiffPage, TiffPage | None]:
    """Return the one page that is an image, and its transparency mask or None; previews are left out.

    Raises:
        ValueError: there is no image, or more than one.
    """
    kinds = {page.offset: subfile_kind(page) for page in pages}
    images = [page for page in pages if not kinds[page.offset]] or pages[:1]
    if not images:
        raise ValueError("does not decode as a TIFF: it has no page")
    if len(images) > 1:
        raise ValueError(f"has {len(images)} pages, expected one image")
    image = images[0]
    masks = [page for page in pages if page is not image and kinds[page.offset] == MASK]
    fitting = [page for page in masks if (page.imagelength, page.imagewidth) == (image.imagelength, image.imagewidth)]
    return image, fitting[0] if fitting else None


def subfile_kind(page: TiffPage) -> int:
    """Return what a page is: 0 for an image, else bits of REDUCED and MASK."""
    return page.subfiletype & (REDUCED | MASK) | (MASK if page.photometric == MASK_COLOUR else 0)


def check_one(file: TiffFile, page: TiffPage, n_bytes: int) -> None:
    """Check that no more images follow the first one outside the directories, as ImageJ and MetaMorph store stacks.

    Raises:
        ValueError: they do.
    """
    with decoding("a TIFF"):
        if page.imagedepth != 1:
            n_images = int(page.imagedepth)
        elif page.is_contiguous and page.nbytes and (n_bytes - page.dataoffsets[0]) // page.nbytes > 1:
            n_images = file.series[0].size // math.prod(page.shape)
        else:
            n_images = 1
    if n_images > 1:
        raise ValueError(f"has {n_images} pages, expected one image")


def read_samples(page: TiffPage, data: bytes) -> Array:
    """Return the samples (H W C) of a page as stored, in native byte order.

    Raises:
        ValueError: the page is damaged, too large, or of a kind that is not read.
    """
    check_kind(page)
    check_size(page)
    nodata = nodata_value(page)
    with decoding("a TIFF"):
        check_blocks(page, data, sparse=nodata is not None)
        page.nodata = 0 if nodata is None else nodata.item()  # what blocks are filled with that were never written
        samples = page.asarray(squeeze=False, maxworkers=1)  # separate samples, depth, rows, columns, samples
    samples = np.moveaxis(samples[:, 0], 0, -1).reshape(page.imagelength, page.imagewidth, -1)
    return samples.astype(samples.dtype.newbyteorder("="), copy=False)


def nodata_pixels(page: TiffPage, stored: Array) -> NDArray[np.bool_] | None:
    """Return where stored pixels equal the value of GDAL's nodata tag, or None if there is no such tag."""
    if NODATA not in page.tags:
        return None
    value = nodata_value(page)
    if value is None:
        return np.zeros(stored.shape, dtype=bool)
    return np.asarray(np.isnan(stored) if value != value else stored == value)


def nodata_value(page: TiffPage) -> np.generic | None:
    """Return the number of GDAL's nodata tag as the page's samples hold it, or None if they cannot or it has none."""
    assert page.dtype is not None
    dtype, text = page.dtype, str(page.tags.valueof(NODATA, "")).strip("\0 ").replace(",", ".")  # some follow a locale
    try:
        number = int(text) if text.lstrip("+-").isdigit() else float(text)
    except ValueError:
        return None
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            value: np.generic = dtype.type(number)
        return None if np.isinf(value) and not math.isinf(number) else value
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return dtype.type(int(number)) if low <= number <= high and number == int(number) else None
