"""Read TIFF files as their tags describe them."""

import io
import logging
import math
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from tifffile import PHOTOMETRIC, TiffFile, TiffPage

from salt.data.amplitudes import find_missing
from salt.data.picture import ORIENTATION, Picture, Pixels

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # its lines name no file; our errors do
PHOTOMETRIC_TAG, NODATA_TAG = 262, 42113  # the latter is GDAL's: a number as text
MOST_PAGES = 100  # to look at: a damaged directory may name itself as the next
REDUCED, MASK = 1, 4  # bits of NewSubfileType: a preview, and a page that says which pixels of another are visible
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, MASK_COLOUR, _, YCBCR = range(7)  # PhotometricInterpretation
JPEG = 7  # a compression


def read_tiff(data: bytes) -> Picture:
    """Read the one image of a TIFF, at 8 bits or more, and its missing pixels; raise ValueError if it is none."""
    file = TiffFile(io.BytesIO(data), _multifile=False)
    pages = [page.aspage() for page in islice(file.pages, MOST_PAGES)]
    images = [page for page in pages if not subfile_kind(page)] or pages[:1]
    page, n_images = images[0], max(len(images), images[0].imagedepth)
    samples = read_samples(page, data)
    if page.is_contiguous and len(data) - page.dataoffsets[0] >= 2 * page.nbytes:  # ImageJ and others: a stack
        n_images = max(n_images, file.series[0].size // math.prod(page.shape))
    if n_images > 1:
        raise ValueError(f"it has {n_images} pages, expected one image")
    missing = None
    if NODATA_TAG in page.tags:
        missing = find_missing(samples[..., 0], nodata_value(page))
    for other in pages:
        if other is not page and subfile_kind(other) == MASK:
            outside = read_samples(other, data)[..., 0] == 0
            missing = outside if missing is None else missing | outside
            break
    samples, palette = shown_samples(page, samples)
    return Picture(samples, page.tags.valueof(ORIENTATION, 1), palette, missing)


def subfile_kind(page: TiffPage) -> int:
    """Return what a page is: 0 for an image, else bits of REDUCED and MASK."""
    return page.subfiletype & (REDUCED | MASK) | (MASK if page.photometric == MASK_COLOUR else 0)


def read_samples(page: TiffPage, data: bytes) -> Pixels:
    """Return the samples (H W C) of a page as stored; unlike tifffile, refuse blocks that are missing or cut short."""
    if isinstance(page.bitspersample, tuple) or page.dtype is None or page.dtype.kind not in "buif":
        kind = getattr(page.sampleformat, "name", page.sampleformat)
        raise ValueError(f"its samples have {page.bitspersample} bits and the format {kind}, expected real numbers")
    n_blocks = math.prod(page.chunked)
    blocks = list(zip(page.dataoffsets, page.databytecounts, strict=False))[:n_blocks]
    inside = [count for offset, count in blocks if offset > 0 and 0 < count <= len(data) - offset]
    if len(inside) < n_blocks or (page.is_contiguous and sum(inside) < page.nbytes):
        raise ValueError(f"it is truncated, or some of its {n_blocks} blocks were never written")
    samples = page.asarray(squeeze=False, maxworkers=1)  # separate samples, depth, rows, columns, samples
    return np.moveaxis(samples[:, 0], 0, -1).reshape(page.imagelength, page.imagewidth, -1)


def nodata_value(page: TiffPage) -> float | None:
    """Return the number of GDAL's nodata tag, or None if it is no number."""
    try:
        return float(str(page.tags.valueof(NODATA_TAG)).strip("\0 ").replace(",", "."))  # some writers follow a locale
    except ValueError:
        return None


def shown_samples(page: TiffPage, samples: Pixels) -> tuple[Pixels, NDArray[np.uint8] | None]:
    """Return samples (H W C) with black as the least value and at least 8 bits, and the palette (N 3) if any."""
    n_channels, n_bits = samples.shape[-1], page.bitspersample
    photometric = page.photometric
    if PHOTOMETRIC_TAG not in page.tags:
        photometric = RGB if n_channels in (3, 4) else BLACK_IS_ZERO
    if photometric == PALETTE:
        palette: Pixels = np.asarray(page.colormap, dtype=np.uint16).T
        palette = palette if palette.max() < 256 else palette >> 8  # some writers fill the lower byte alone
        return samples.astype(np.intp), palette.astype(np.uint8)
    if photometric > MASK_COLOUR and not (photometric == YCBCR and page.compression == JPEG):  # this arrives as RGB
        name = PHOTOMETRIC(photometric).name.replace("SEPARATED", "CMYK")
        raise ValueError(f"its colour space is {name}, expected a grey image")
    if photometric == WHITE_IS_ZERO:
        samples = inverted(samples, n_bits)
    if n_bits < 8:
        samples = (samples.astype(np.uint16) * 255 // (2**n_bits - 1)).astype(np.uint8)
    return samples, None


def inverted(samples: Pixels, n_bits: int) -> Pixels:
    """Return white-is-zero samples with black as the least value.

    Signed integers n become -1 - n, and floats -n, unless there is one value besides 0, as in a mask: then they swap.
    """
    kind = samples.dtype.kind
    if kind in ("b", "u"):
        return ~samples if kind == "b" else samples.dtype.type(2**n_bits - 1) - samples
    drawn = samples[samples != 0]
    if (drawn == drawn[:1]).all():
        return np.where(samples == 0, drawn[0] if drawn.size else 1, 0).astype(samples.dtype)
    return ~samples if kind == "i" else -samples
