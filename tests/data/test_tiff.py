"""TIFF files of every kind of sample, byte order, layout and compression, written byte by byte or by Pillow."""

import io
import itertools
import sys

import cv2
import numpy as np
import pytest
import tiff_writer
from PIL import Image
from tiff_writer import SHORT, text, tiff

from salt.data.image import decode

RANDOM = np.random.default_rng(0)
BYTES = RANDOM.integers(0, 256, (40, 50), dtype=np.uint8)
BYTES[5:20] = 7  # runs, for the compressions
TYPES = ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")
LAYOUTS = ({}, {"rows": 16}, {"tile": (16, 32)})
WHITE_IS_ZERO = {262: (SHORT, [0])}


def read(data):
    return decode("a.tif", data)


def samples(code):
    """An image with the whole range of a type of integers, or floats of both signs with a NaN."""
    dtype = np.dtype(code)
    if dtype.kind == "f":
        values = (BYTES.astype(dtype) - 100) / 3
        values[3, 4] = np.nan
        return values
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    return np.array([low + int(b) * (high - low) // 255 for b in BYTES.ravel()], dtype).reshape(BYTES.shape)


def check(found, expected):
    assert found.dtype == expected.dtype and found.dtype.isnative and type(found) is np.ndarray
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("code", TYPES)
def test_every_type_order_photometric_and_layout(code, order):
    image = samples(code)
    rgb = np.dstack([image] * 3)
    for layout, compression, big in itertools.product(LAYOUTS, tiff_writer.COMPRESSIONS, (False, True)):
        kind = {**layout, "order": order, "compression": compression, "big": big}
        check(read(tiff(image, **kind)), image)
        check(read(tiff(rgb, **kind, planar=big)), image)
        if image.dtype.kind == "u":
            check(read(tiff(image, **kind, tags=WHITE_IS_ZERO)), ~image)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [1, 2, 4, 12])
def test_packed_samples_are_as_bright_as_a_viewer_shows_them(bits, order):
    image = (BYTES.astype(np.uint16) * 16) >> (12 - bits)
    expected = image if bits == 12 else (image * (255 // (2**bits - 1))).astype(np.uint8)
    for layout, compression in itertools.product(({}, {"rows": 16}), ("none", "deflate")):
        kind = {**layout, "order": order, "compression": compression, "bits": bits}
        check(read(tiff(image, **kind)), expected)
        check(read(tiff(image, **kind, tags=WHITE_IS_ZERO)), (2**bits - 1 if bits == 12 else 255) - expected)


@pytest.mark.parametrize(
    ("mode", "compression"),
    [(mode, c) for mode in ("1", "L", "I;16", "F") for c in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd")]
    + [("1", c) for c in ("group3", "group4", "tiff_ccitt") if sys.version_info >= (3, 11)],
)
def test_compressions_of_libtiff(mode, compression):
    image = {"1": BYTES > 99, "L": BYTES, "I;16": BYTES.astype(np.uint16) * 257, "F": BYTES / np.float32(3)}[mode]
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "TIFF", compression=compression)
    check(read(stream.getvalue()), image.astype(np.uint8) * 255 if mode == "1" else image)


def test_jpeg_within_tiff_is_what_pillow_reads():
    smooth = cv2.GaussianBlur(BYTES, (0, 0), 3)
    for array in (smooth, np.dstack([smooth] * 3)):  # the latter as YCbCr
        stream = io.BytesIO()
        Image.fromarray(array).save(stream, "TIFF", compression="jpeg")
        found = read(stream.getvalue())
        np.testing.assert_allclose(found.astype(int), np.asarray(Image.open(stream).convert("L")).astype(int), atol=1)


@pytest.mark.parametrize(
    ("code", "tag", "stored"),
    [
        ("f4", "-9999", -9999.0),
        ("f4", "-9999.0", -9999.0),
        ("f4", " -9999,0 ", -9999.0),
        ("f2", "-9999", -9999.0),
        ("f4", "nan", np.nan),
        ("f8", "-1.7976931348623157e+308", -1.7976931348623157e308),
        ("f4", "-3.4028234663852886e+38", np.finfo("f4").min),
        ("f4", "-3.40282346638529e+38", np.finfo("f4").min),
        ("f4", "inf", np.inf),
        ("i2", "-32768", -32768),
        ("u2", "65535", 65535),
        ("u1", "0", 0),
        ("u1", "255.0", 255),
        ("i8", "-9223372036854775808", -(2**63)),
    ],
)
def test_pixels_of_the_nodata_value_are_masked(code, tag, stored):
    image = (BYTES // 4 + 9).astype(code)
    image[:, :5] = stored
    for photometric in [[1], [0]] if image.dtype.kind == "u" else [[1]]:
        found = read(tiff(image, tags={42113: text(tag), 262: (SHORT, photometric)}, order=">", rows=7))
        assert isinstance(found, np.ma.MaskedArray) and found.dtype == image.dtype
        assert np.ma.getmaskarray(found)[:, :5].all() and not np.ma.getmaskarray(found)[:, 5:].any()
        np.testing.assert_array_equal(found.data, image if photometric == [1] else ~image)


@pytest.mark.parametrize(
    ("code", "tag"), [("u2", "-9999"), ("u1", "256"), ("u1", "0.5"), ("i2", "nan"), ("f4", "1e300")]
)
def test_a_nodata_value_that_the_type_cannot_hold_masks_nothing(code, tag):
    found = read(tiff(BYTES.astype(code), tags={42113: text(tag)}))
    assert isinstance(found, np.ma.MaskedArray) and not found.mask.any()


def test_only_infinite_pixels_that_are_not_missing_are_refused():
    image = BYTES.astype("f4")
    image[0, 0] = np.inf
    with pytest.raises(ValueError, match="has 1 infinite pixels"):
        read(tiff(image))
    assert read(tiff(image, tags={42113: text("inf")})).mask.sum() == 1


REDUCED, MASK, PREVIEW_OF_MASK = ({"tags": {254: (4, [i])}} for i in (1, 4, 5))


def test_previews_and_masks_are_no_images():
    seen = (BYTES > 128).astype(np.uint16)
    inner = {"bits": 1, "tags": {254: (4, [4]), 262: (SHORT, [4])}}
    check(read(tiff(BYTES, BYTES[::2, ::2], BYTES[::4, ::4], pages=({}, REDUCED, REDUCED))), BYTES)
    check(read(tiff(BYTES[::2, ::2], BYTES, pages=(REDUCED, {}))), BYTES)
    check(read(tiff(BYTES, pages=(REDUCED,))), BYTES)
    pages = ({}, inner, REDUCED, PREVIEW_OF_MASK)
    found = read(tiff(BYTES, seen, BYTES[::2, ::2], BYTES[::2, ::2], pages=pages, tags={274: (SHORT, [3])}))
    unmarked = read(tiff(BYTES, seen, pages=({}, {"bits": 1, "tags": {262: (SHORT, [4])}})))
    assert np.array_equal(unmarked.mask, seen == 0)
    assert np.array_equal(found.mask, seen[::-1, ::-1] == 0) and np.array_equal(found.data, BYTES[::-1, ::-1])
    for n in (2, 3):
        with pytest.raises(ValueError, match=f"has {n} pages, expected one image"):
            read(tiff(*[BYTES] * n))


@pytest.mark.parametrize("description", ["ImageJ=1.53t\nimages=3\nslices=3\n", '{"shape": [3, 40, 50]}'])
def test_stacks_behind_one_directory_are_refused(description):
    data = tiff(BYTES, tags={270: text(description)})
    check(read(data), BYTES)  # the two others are not in the file
    stack = tiff(np.concatenate([BYTES] * 3), tags={270: text(description), 257: (4, [40])})
    with pytest.raises(ValueError, match="has 3 pages, expected one image"):
        read(stack)


def test_metadata_of_microscopes_do_not_matter():
    ome = '<?xml version="1.0"?><OME><Image ID="Image:0"><Pixels SizeX="50" SizeY="40" SizeC="1"/></Image></OME>'
    for description in ("ImageJ=1.53t\nmin=0\nmax=255\n", ome, "<OME", '{"shape": [7]}', "{"):
        check(read(tiff(BYTES, tags={270: text(description)})), BYTES)


def test_what_salt_writes_is_read_again(tmp_path):
    from salt.inference.files import save_array

    probability = RANDOM.random((40, 50), dtype=np.float32)
    save_array(tmp_path / "x.tif", probability)
    check(read((tmp_path / "x.tif").read_bytes()), probability)
    save_array(tmp_path / "x.tiff", BYTES)
    check(read((tmp_path / "x.tiff").read_bytes()), BYTES)
