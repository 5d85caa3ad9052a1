import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from salt import rle
from salt.data.synthetic import png
from salt.data.tgs import OUTER_ZIP, decode_mask, read_dataset


@pytest.fixture
def unpacked(synthetic_root, tmp_path) -> Path:
    root = tmp_path / "unpacked"
    root.mkdir()
    for name in ("train.csv", "depths.csv", "sample_submission.csv"):
        shutil.copy(synthetic_root / name, root)
    for part in ("train", "test"):
        zipfile.ZipFile(synthetic_root / f"{part}.zip").extractall(root / part)
    return root


def equal(a, b) -> bool:
    return a.digest() == b.digest() and np.array_equal(a.train.depths, b.train.depths)


def test_all_layouts_give_the_same(synthetic_root, unpacked, tmp_path):
    zipped = read_dataset(synthetic_root)
    assert len(zipped.train.ids) == 24 and len(zipped.test.ids) == 6
    assert zipped.train.images.shape == (24, 101, 101) and zipped.train.masks.max() == 1
    assert equal(zipped, read_dataset(unpacked))
    outer = tmp_path / "download"
    outer.mkdir()
    with zipfile.ZipFile(outer / OUTER_ZIP, "w") as archive:
        for file in synthetic_root.iterdir():
            archive.write(file, file.name)
    assert equal(zipped, read_dataset(outer))
    assert equal(zipped, read_dataset(outer / OUTER_ZIP))


def test_order_is_that_of_the_tables(synthetic_root):
    data = read_dataset(synthetic_root)
    lines = (synthetic_root / "train.csv").read_text().splitlines()[1:]
    assert data.train.ids == [line.split(",")[0] for line in lines]
    for line, mask in zip(lines, data.train.masks, strict=True):
        assert rle.encode(mask) == line.split(",")[1]


def test_sixteen_bit_masks():
    mask = np.zeros((101, 101), np.uint16)
    mask[:, 40:] = 65535
    assert np.array_equal(decode_mask(cv2.imencode(".png", mask)[1].tobytes()), (mask > 0).astype(np.uint8))
    mask[mask > 0] = 200  # a depth that a conversion to 8 bits would lose
    assert decode_mask(cv2.imencode(".png", mask)[1].tobytes()).sum() == 101 * 61


def first(root: Path, part: str = "train", kind: str = "images") -> Path:
    return sorted((root / part / kind).iterdir())[0]


def rewrite(path: Path, change) -> None:
    path.write_text(change(path.read_text()))


FAULTS = {
    "no folder": (lambda r: shutil.rmtree(r), "there is no folder .*unpacked"),
    "empty folder": (lambda r: (shutil.rmtree(r), r.mkdir()), "has no train.csv. Expected"),
    "no depths": (lambda r: (r / "depths.csv").unlink(), "depths.csv: this file is missing"),
    "no part": (lambda r: shutil.rmtree(r / "test"), "expected test.zip or test/images, found neither"),
    "no image": (lambda r: first(r).unlink(), "train/images: 1 ids of train.csv have no PNG"),
    "no mask": (lambda r: first(r, kind="masks").unlink(), "train/masks: 1 ids of train.csv have no PNG"),
    "no test image": (lambda r: first(r, "test").unlink(), "1 ids of sample_submission.csv have no PNG"),
    "extra image": (
        lambda r: shutil.copy(first(r), r / "train/images/zz.png"),
        "1 PNGs are not in train.csv, e.g. .'zz'",
    ),
    "truncated": (
        lambda r: first(r).write_bytes(first(r).read_bytes()[:40]),
        r"images/\w+.png: does not decode as a PNG",
    ),
    "no bytes": (lambda r: first(r).write_bytes(b""), r"images/\w+.png: does not decode as a PNG"),
    "wrong size": (
        lambda r: first(r).write_bytes(png(np.zeros((101, 100), np.uint8))),
        "is 101x100 pixels, expected 101x101",
    ),
    "16-bit image": (
        lambda r: first(r).write_bytes(png(np.zeros((101, 101), np.uint16))),
        "has uint16 pixels, expected 8 bits",
    ),
    "colour": (
        lambda r: first(r).write_bytes(png(np.dstack([np.eye(101, dtype=np.uint8) * k for k in (1, 2, 3)]))),
        "colour channels differ",
    ),
    "three values": (
        lambda r: first(r, kind="masks").write_bytes(png(np.diag(np.arange(101) % 3).astype(np.uint8))),
        "has 3 values .0, 1, 2., expected 0 and one other",
    ),
    "other mask": (
        lambda r: first(r, kind="masks").write_bytes(png(np.eye(101, dtype=np.uint8))),
        "1 masks differ from their rle_mask",
    ),
    "duplicate id": (
        lambda r: rewrite(r / "train.csv", lambda t: t + t.splitlines()[1] + "\n"),
        "1 ids occur more than once",
    ),
    "out of bounds": (
        lambda r: rewrite(
            r / "train.csv",
            lambda t: (
                t.splitlines()[0] + "\n" + t.split("\n")[1].split(",")[0] + ",10201 2\n" + "\n".join(t.split("\n")[2:])
            ),
        ),
        r"train.csv: rle_mask of id \w+: run '10201 2' is outside 1..10201",
    ),
    "wrong columns": (
        lambda r: rewrite(r / "train.csv", lambda t: t.replace("rle_mask", "mask")),
        "expected the columns id,rle_mask",
    ),
    "depth no number": (
        lambda r: rewrite(
            r / "depths.csv", lambda t: t.replace("\n", ",\n").replace("id,z,", "id,z").replace(",,", ",")
        ),
        "depths.csv",
    ),
    "depth missing": (
        lambda r: rewrite(r / "depths.csv", lambda t: "\n".join(t.split("\n")[:4]) + "\n"),
        "ids have no depth",
    ),
    "path as id": (
        lambda r: rewrite(r / "sample_submission.csv", lambda t: t + "../x,1 1\n"),
        "an id must be a plain file name",
    ),
    "binary table": (lambda r: (r / "train.csv").write_bytes(b"\xff\xfe\x00\x01" * 50), "train.csv"),
    "empty table": (lambda r: (r / "train.csv").write_bytes(b""), "train.csv: cannot be read as a CSV"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_its_message(unpacked, fault):
    break_it, message = FAULTS[fault]
    break_it(unpacked)
    with pytest.raises(ValueError, match=message):
        read_dataset(unpacked)


def test_a_truncated_zip(synthetic_root, tmp_path):
    root = shutil.copytree(synthetic_root, tmp_path / "broken")
    (root / "train.zip").write_bytes((root / "train.zip").read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"train.zip: this is not a complete zip archive"):
        read_dataset(root)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member(synthetic_root, tmp_path, compression):
    root = shutil.copytree(synthetic_root, tmp_path / "broken")
    with zipfile.ZipFile(synthetic_root / "train.zip") as old, zipfile.ZipFile(root / "train.zip", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name), compression)
    data = bytearray((root / "train.zip").read_bytes())
    data[100:160] = bytes(60)
    (root / "train.zip").write_bytes(data)
    with pytest.raises(ValueError, match=r"train.zip.*png"):
        read_dataset(root)


def test_the_real_excerpt(tgs):
    data = read_dataset(tgs)
    assert data.train.images.shape == (3600, 101, 101) and data.test.images.shape == (800, 101, 101)
    assert not data.train.masks[data.train.constant].any()
    assert 0.37 < (~data.train.masks.any(axis=(1, 2))).mean() < 0.41
