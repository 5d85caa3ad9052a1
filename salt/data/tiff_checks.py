"""What a page of a TIFF must be before its pixels are decoded, so that no tag can lie about kind or amount."""

import math

from tifffile import COMPRESSION, PHOTOMETRIC, TiffPage

from salt.data.damaged import LARGEST

MOST_SAMPLES = 5  # of a pixel: four colours and one alpha
JPEG = 7
CODECS = {1: "none", 2: "CCITT", 3: "CCITT", 4: "CCITT", 5: "LZW", JPEG: "JPEG", 8: "Deflate", 32946: "Deflate"}
CODECS |= {32773: "PackBits", 34925: "LZMA", 50000: "ZSTD"}
PREDICTING = {5, 8, 32946, 34925, 50000}  # compressions that a predictor goes with
NUMBERS: tuple[str, ...] = (
    "subfiletype",
    "imagewidth",
    "imagelength",
    "imagedepth",
    "samplesperpixel",
    "compression",
    "predictor",
)
NUMBERS += ("photometric", "planarconfig", "rowsperstrip", "tilewidth", "tilelength", "fillorder")
GREY_OR_RGB = range(5)  # PhotometricInterpretation: white-is-zero, black-is-zero, RGB, palette, transparency mask
YCBCR = 6
FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}  # JPEG's start of frame


def check_numbers(page: TiffPage) -> None:
    """Check that the tags on which all else depends are whole numbers, as a damaged directory may say otherwise.

    Raises:
        ValueError: one is not.
    """
    for name in NUMBERS:
        value = getattr(page, name)
        if not isinstance(value, int) or value < 0:
            raise ValueError(f"{name} is {str(value)[:30]}, expected a number")


def check_kind(page: TiffPage) -> None:
    """Check that the samples, the compression and the colour space of a page are read.

    Raises:
        ValueError: one of them is not; the message names it.
    """
    if isinstance(page.bitspersample, tuple):
        raise ValueError(f"has samples of {page.bitspersample} bits, expected the same number in each channel")
    if page.dtype is None or page.dtype.kind not in "buif":
        kind = getattr(page.sampleformat, "name", page.sampleformat)
        raise ValueError(f"has samples of {page.bitspersample} bits and the format {kind}, expected real numbers")
    if page.compression not in CODECS:
        known = ", ".join(dict.fromkeys(CODECS.values()))
        raise ValueError(f"has the compression {named(COMPRESSION, page.compression)}, expected one of {known}")
    if page.predictor != 1 and page.compression not in PREDICTING | {JPEG}:
        raise ValueError("has a predictor without the compression for it: readers differ about its pixels")
    converted = page.photometric == YCBCR and page.compression == JPEG  # to RGB, by the decoder
    if page.photometric not in GREY_OR_RGB and not converted:
        raise ValueError(f"is in the colour space {named(PHOTOMETRIC, page.photometric)}, expected a grey image")


def named(numbers: type[COMPRESSION] | type[PHOTOMETRIC], number: int) -> str:
    """Return the name that TIFF gives to the number of a tag."""
    try:
        return numbers(number).name.replace("SEPARATED", "CMYK")
    except ValueError:
        return str(number)


def check_size(page: TiffPage) -> None:
    """Check that a page and its blocks are of a size that is decoded.

    Raises:
        ValueError: they are not.
    """
    if not 1 <= page.samplesperpixel <= MOST_SAMPLES:
        raise ValueError(f"has {page.samplesperpixel} channels, expected a grey image")
    n_rows, n_columns = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, 1)
    n_pixels = max(page.imagelength * page.imagewidth, n_rows * n_columns)
    if n_pixels > LARGEST or n_pixels * page.samplesperpixel * page.bitspersample > LARGEST * 64:
        raise ValueError("is too large: more than 178 million pixels; cut it first")
    if not page.imagelength * page.imagewidth * n_rows * n_columns:
        raise ValueError("does not decode as a TIFF: a length is 0")


def check_blocks(page: TiffPage, data: bytes, sparse: bool) -> None:
    """Check that all strips or tiles lie within the file; if `sparse`, some may have never been written.

    Raises:
        ValueError: one does not, or is cut short.
    """
    n_blocks = math.prod(page.chunked)
    blocks = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if len(blocks) < n_blocks:
        raise ValueError(f"it lists {len(blocks)} of {n_blocks} blocks")
    written = [block for block in blocks[:n_blocks] if any(block)]
    if len(written) < n_blocks and not (sparse and written):
        raise ValueError(f"{n_blocks - len(written)} of {n_blocks} blocks were never written")
    for offset, count in written:
        if offset <= 0 or count <= 0 or offset + count > len(data):
            raise ValueError("a block lies beyond the end of the file")
        if page.compression == JPEG:
            check_jpeg(page, data[offset : offset + count])
    if page.is_contiguous and sum(count for _, count in written) < page.nbytes:  # it is read in one piece
        raise ValueError(f"its blocks hold fewer than {page.nbytes} bytes")


def check_jpeg(page: TiffPage, block: bytes) -> None:
    """Check that a block of JPEG is complete and not larger than the tags say, about which its decoder is lenient.

    Raises:
        ValueError: it is not.
    """
    n_rows, n_columns = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    at = 2
    while block[at + 1 : at + 2] and block[at + 1] not in FRAMES:
        at += 2 + int.from_bytes(block[at + 2 : at + 4], "big")
    height, width = (int.from_bytes(block[at + i : at + i + 2], "big") for i in (5, 7))
    if height > n_rows or width > n_columns or not block.rstrip(b"\0").endswith(b"\xff\xd9"):
        raise ValueError("a block of JPEG is damaged or cut short")
