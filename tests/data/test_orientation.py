"""All eight orientations in every format, for images and masks, checked against positions and Pillow."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps
from tiff_writer import SHORT, tiff

from salt.data.image import decode, to_mask

UPRIGHT = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (48, 64), dtype=np.uint8), (0, 0), 4)
STORED = {  # how the upright image lies in the file, by TIFF 6.0's words: the 0th row and the 0th column are its
    1: UPRIGHT,  # top and left
    2: np.fliplr(UPRIGHT),  # top and right
    3: np.rot90(UPRIGHT, 2),  # bottom and right
    4: np.flipud(UPRIGHT),  # bottom and left
    5: UPRIGHT.T,  # left and top
    6: np.rot90(UPRIGHT, 1),  # right and top: a viewer turns it clockwise
    7: np.rot90(UPRIGHT, 2).T,  # right and bottom
    8: np.rot90(UPRIGHT, -1),  # left and bottom
}
KINDS = [("a.png", "PNG"), ("a.jpg", "JPEG"), ("a.tif", "TIFF")]


def saved(array, kind, orientation):
    stream, exif = io.BytesIO(), Image.Exif()
    exif[274] = orientation
    Image.fromarray(array).save(stream, kind, exif=exif, **({"quality": 100} if kind == "JPEG" else {}))
    return stream.getvalue()


@pytest.mark.parametrize(("name", "kind"), KINDS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_as_displayed(name, kind, orientation):
    data = saved(STORED[orientation], kind, orientation)
    found = decode(name, data)
    assert found.flags["C_CONTIGUOUS"]
    np.testing.assert_allclose(found.astype(int), UPRIGHT.astype(int), atol=2 if kind == "JPEG" else 0)
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(found, np.asarray(shown))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_other_depths_and_masks(orientation):
    stored = STORED[orientation]
    deep = stored.astype(np.uint16) * 200
    tags = {274: (SHORT, [orientation])}
    rgb = tiff(np.dstack([deep] * 3), order=">", tags=tags, tile=(16, 32), compression="deflate")
    for data in (tiff(deep, tags=tags), rgb):
        assert np.array_equal(decode("a.tif", data), UPRIGHT.astype(np.uint16) * 200)
    assert np.array_equal(decode("a.png", saved(deep, "PNG", orientation)), UPRIGHT.astype(np.uint16) * 200)
    for kind, name in (("PNG", "a.png"), ("TIFF", "a.tif")):
        drawn = decode(name, saved((stored > 128).astype(np.uint8), kind, orientation), mask=True)
        assert np.array_equal(to_mask(drawn), UPRIGHT > 128)


def test_an_orientation_of_no_meaning_is_upright():
    for orientation in (0, 9, 700):
        for name, kind in KINDS[::2]:
            assert np.array_equal(decode(name, saved(UPRIGHT, kind, orientation)), UPRIGHT)
