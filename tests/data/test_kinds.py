"""Training, the check and prediction read one file in the same way, whatever its kind."""

import io

import cv2
import numpy as np
from conftest import raw_config
from PIL import Image
from tiff_writer import SHORT, tiff

from salt.config import check_config
from salt.data.doctor import check_data as check
from salt.data.load import load_data
from salt.inference.files import read_amplitudes

GREY = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (48, 64), dtype=np.uint8), (0, 0), 4)
DRAWN = (GREY > 128).astype(np.uint8)
TURNED, TAG = np.rot90(GREY, 1), {274: (SHORT, [6])}


def saved(image, kind):
    stream, exif = io.BytesIO(), Image.Exif()
    exif[274] = 6
    image.save(stream, kind, exif=exif)
    return stream.getvalue()


def voc(mask):
    image = Image.frombytes("P", mask.shape[::-1], np.ascontiguousarray(mask).tobytes())
    image.putpalette([0, 0, 0, 128, 0, 0])
    return image


def test_the_same_pixels_everywhere(tmp_path):
    inverted = tiff(255 - TURNED, order=">", compression="deflate", tags={**TAG, 262: (SHORT, [0])})
    images = {"a.tif": inverted, "b.png": saved(Image.fromarray(TURNED), "PNG"), "c.tif": tiff(np.dstack([GREY] * 3))}
    white = tiff(1 - DRAWN, bits=1, tags={262: (SHORT, [0])})
    masks = {
        "a.png": saved(voc(np.rot90(DRAWN, 1)), "PNG"),
        "b.tif": tiff(np.rot90(DRAWN, 1), tags=TAG),
        "c.tif": white,
    }
    for folder, files in (("images", images), ("masks", masks)):
        (tmp_path / folder).mkdir()
        for name, data in files.items():
            (tmp_path / folder / name).write_bytes(data)
    train = load_data(check_config(raw_config("data=folder", f"data.root={tmp_path}"))).train
    for i, name in enumerate(images):
        assert np.array_equal(train.images[i], GREY) and np.array_equal(train.masks[i], DRAWN)
        assert np.array_equal(read_amplitudes(tmp_path / "images" / name), GREY)
    assert not [finding for finding in check(tmp_path).findings.values() if finding.level == "error"]
    (tmp_path / "images/b.png").write_bytes(saved(voc(np.rot90(DRAWN, 1)), "PNG"))
    assert [
        name for finding in check(tmp_path).findings.values() if "palette" in finding.what for name in finding.names
    ] == ["b"]
