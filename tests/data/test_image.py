"""Image files of every kind: the same pixels from each, and one line about what is wrong."""

import io
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from salt.data.image import decode

BYTES = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
SHORTS = BYTES.astype(np.uint16) * 200 + 7
FLOATS = (BYTES / np.float32(3) - 40).astype(np.float32)


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def pillow(array, kind, **options):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.png", cv2.imencode(".png", BYTES)[1].tobytes(), BYTES),
        ("a.PNG", cv2.imencode(".png", np.dstack([BYTES] * 3))[1].tobytes(), BYTES),
        ("a.png", cv2.imencode(".png", SHORTS)[1].tobytes(), SHORTS),
        ("a.tif", pillow(BYTES, "TIFF"), BYTES),
        ("a.tiff", pillow(SHORTS, "TIFF"), SHORTS),
        ("a.tif", pillow(FLOATS, "TIFF"), FLOATS),
        ("a.tif", pillow(SHORTS, "TIFF", compression="tiff_lzw"), SHORTS),
        ("a.tif", cv2.imencode(".tif", FLOATS)[1].tobytes(), FLOATS),
        ("a.tif", pillow(np.dstack([BYTES] * 3), "TIFF"), BYTES),
        ("a.npy", npy(FLOATS), FLOATS),
        ("a.npy", npy(FLOATS.astype(">f8")), FLOATS),
        ("a.npy", npy(BYTES > 99), BYTES > 99),
        ("a.npy", npy(np.asfortranarray(SHORTS[..., None])), SHORTS),
    ],
)
def test_the_same_pixels_from_every_format(name, data, expected):
    assert np.array_equal(decode(name, data), expected)


def test_a_jpeg_is_nearly_the_same():
    smooth = cv2.GaussianBlur(BYTES, (0, 0), 3)
    for suffix in ("jpg", "jpeg"):
        assert np.abs(decode(f"a.{suffix}", pillow(smooth, "JPEG", quality=95)).astype(int) - smooth).max() < 6


PAGES = [Image.fromarray(BYTES), Image.fromarray(BYTES)]
TWO_PAGES = io.BytesIO()
PAGES[0].save(TWO_PAGES, "TIFF", save_all=True, append_images=PAGES[1:])


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.bmp", b"", "unknown extension, expected one of .png"),
        ("a", b"", "unknown extension"),
        ("a.tif", pillow(BYTES, "TIFF")[:200], "cannot be read"),
        ("a.jpg", b"nothing", "cannot identify image file"),
        ("a.jpg", pillow(BYTES, "TIFF"), "cannot identify image file"),
        ("a.npy", npy(BYTES)[:100], "cannot be read"),
        ("a.npy", npy(np.array(["a"])), "<U1"),
        ("a.npy", npy(FLOATS * 1j), "complex64"),
        ("a.npy", npy(np.zeros((4, 40, 50))), "(4, 40, 50)"),
        ("a.npy", npy(np.zeros(50)), "(50,)"),
        ("a.npy", npy(np.full((40, 40), np.inf)), "1600 infinite"),
        ("a.npy", npy(BYTES[:31]), "31x50"),
        ("a.png", cv2.imencode(".png", np.dstack([BYTES, BYTES, 255 - BYTES]))[1].tobytes(), "in colour"),
        ("a.tif", pillow(np.dstack([BYTES, BYTES, 255 - BYTES]), "TIFF"), "in colour"),
        ("a.tif", pillow(np.dstack([*[BYTES] * 3, 255 - BYTES]), "TIFF"), "transparent"),
        ("a.tif", TWO_PAGES.getvalue(), "2 pages"),
    ],
)
def test_what_is_wrong_is_said(name, data, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        decode(name, data)
