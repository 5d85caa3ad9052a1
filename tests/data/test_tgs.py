import os
import re
import shutil
import struct
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from salt.data import archive, rle
from salt.data.image import decode, to_mask
from salt.data.synthetic import png
from salt.data.tgs import OUTER_ZIP, read_dataset


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
    assert np.array_equal(to_mask(decode("a.png", png(mask))), mask > 0)
    mask[mask > 0] = 200  # a depth that a conversion to 8 bits would lose
    assert to_mask(decode("a.png", png(mask))).sum() == 101 * 61


def first(root: Path, part: str = "train", kind: str = "images") -> Path:
    return sorted((root / part / kind).iterdir())[0]


def rewrite(path: Path, change) -> None:
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


def with_depth(z: str):
    return lambda text: re.sub(r"(?<=,)\d+", z, text, count=1)


def made_png(kind: bytes, change, *before: tuple[bytes, bytes]) -> bytes:
    """A tile's PNG with one chunk changed (None: dropped) and others put before it, all with right checksums."""
    data, at, made = png(np.random.default_rng(0).integers(0, 255, (101, 101)).astype(np.uint8)), 8, b""
    while at < len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        chunks = [(name, data[at + 8 : at + 8 + length])]
        if name == kind:
            chunks = [*before, *((name, c) for c in [change(chunks[0][1])] if c is not None)]
        for name, content in chunks:
            made += struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        at += 12 + length
    return data[:8] + made


FAULTS = {
    "no folder": (lambda r: shutil.rmtree(r), "there is no folder .*unpacked"),
    "empty folder": (lambda r: (shutil.rmtree(r), r.mkdir()), "has no train.csv; expected"),
    "no depths": (lambda r: (r / "depths.csv").unlink(), "depths.csv: this file is missing"),
    "no part": (lambda r: shutil.rmtree(r / "test"), "expected images in test.zip"),
    "no image": (lambda r: first(r).unlink(), "train: ids of train.csv without an image: [0-9a-f]{10}; add"),
    "another format": (
        lambda r: first(r).rename(first(r).with_suffix(".jpg")),
        r"train tiles in another format: images/\w+.jpg; convert them to 8-bit grey PNG",
    ),
    "no mask": (lambda r: first(r, kind="masks").unlink(), "images without a mask: [0-9a-f]{10}; add"),
    "no test image": (
        lambda r: first(r, "test").unlink(),
        "test: ids of sample_submission.csv without an image: [0-9a-f]{10}; add",
    ),
    "extra image": (
        lambda r: shutil.copy(first(r), r / "train/images/zz.png"),
        "train: images that are not in train.csv: zz; add them, or",
    ),
    "truncated": (
        lambda r: first(r).write_bytes(first(r).read_bytes()[:40]),
        r"images/\w+.png: cannot be read",
    ),
    "no bytes": (lambda r: first(r).write_bytes(b""), r"images/\w+.png: cannot be read"),
    "wrong size": (
        lambda r: first(r).write_bytes(png(np.zeros((101, 100), np.uint8))),
        "is 101x100 pixels",
    ),
    "16-bit image": (
        lambda r: first(r).write_bytes(png(np.zeros((101, 101), np.uint16))),
        "uint16",
    ),
    "colour": (
        lambda r: first(r).write_bytes(png(np.dstack([np.eye(101, dtype=np.uint8) * k for k in (1, 2, 3)]))),
        "in colour",
    ),
    "three values": (
        lambda r: first(r, kind="masks").write_bytes(png(np.diag(np.arange(101) % 3).astype(np.uint8))),
        "0, 1, 2",
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
        "images without a depth in depths.csv: ",
    ),
    "path as id": (
        lambda r: rewrite(r / "sample_submission.csv", lambda t: t + "../x,1 1\n"),
        "an id must be a plain file name",
    ),
    "a JPEG": (
        lambda r: first(r).write_bytes(cv2.imencode(".jpg", np.zeros((101, 101), np.uint8))[1].tobytes()),
        r"images/\w+.png: cannot be read",
    ),
    "enormous size": (
        lambda r: first(r).write_bytes(made_png(b"IHDR", lambda c: struct.pack(">II", 50_000, 50_000) + c[8:])),
        r"images/\w+.png: cannot be read",
    ),
    "spoiled pixels": (
        lambda r: first(r).write_bytes(made_png(b"IDAT", lambda c: c[:50] + b"\0\1\2\3" + c[54:])),
        r"images/\w+.png: cannot be read",
    ),
    "animation": (
        lambda r: first(r).write_bytes(made_png(b"IDAT", lambda c: c, (b"acTL", struct.pack(">II", 2, 0)))),
        "animation",
    ),
    "transparent": (
        lambda r: first(r).write_bytes(png(np.dstack([np.eye(101, dtype=np.uint8) * k for k in (1, 1, 1, 2)]))),
        "transparent",
    ),
    "folder for a file": (
        lambda r: ((r / "depths.csv").unlink(), (r / "depths.csv").mkdir()),
        "depths.csv: this file is missing",
    ),
    "depth inf": (
        lambda r: rewrite(r / "depths.csv", with_depth("inf")),
        r"depths.csv: z of id \w+ is 'inf', expected",
    ),
    "depth too large": (lambda r: rewrite(r / "depths.csv", with_depth("1e999")), "is '1e999', expected a number"),
    "NUL": (lambda r: rewrite(r / "depths.csv", with_depth("1\0")), "depths.csv"),
    "UTF-16": (
        lambda r: (r / "depths.csv").write_bytes((r / "depths.csv").read_text().encode("utf-16")),
        "depths.csv: cannot be read as a CSV: 'utf-8' codec",
    ),
    "Latin-1": (
        lambda r: (r / "train.csv").write_bytes((r / "train.csv").read_bytes() + b"\xe4,\n"),
        "train.csv: cannot be read as a CSV: 'utf-8' codec",
    ),
    "long row": (
        lambda r: rewrite(r / "depths.csv", with_depth("1,2")),
        "depths.csv: expected 2 fields",
    ),
    "short row": (
        lambda r: rewrite(r / "train.csv", lambda t: t + "0123456789\n"),
        "train.csv: expected 2 fields .* 0123456789",
    ),
    "open quote": (lambda r: rewrite(r / "depths.csv", with_depth('"1')), "depths.csv: cannot be read as a CSV"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_its_message(unpacked, fault):
    break_it, message = FAULTS[fault]
    break_it(unpacked)
    with pytest.raises(ValueError, match=message):
        read_dataset(unpacked)


def test_the_real_excerpt(tgs):
    data = read_dataset(tgs)
    assert data.train.images.shape == (3600, 101, 101) and data.test.images.shape == (800, 101, 101)
    assert not data.train.masks[data.train.constant].any()
    assert 0.37 < (~data.train.masks.any(axis=(1, 2))).mean() < 0.41


def test_no_more_threads_decode_than_the_process_may_use_cpus(synthetic_root, monkeypatch):
    asked = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, n):
            asked.append(n)
            super().__init__(n)

    monkeypatch.setattr(archive, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)  # of the machine
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        read_dataset(synthetic_root)
    finally:
        os.sched_setaffinity(0, allowed)
    assert set(asked) == {1}


def test_a_table_or_an_empty_variable_is_no_data_folder(tmp_path):
    (tmp_path / "train.csv").write_text("id,rle_mask\n")
    with pytest.raises(ValueError, match=r"data\.root: .*train.csv"):
        read_dataset(tmp_path / "train.csv")
    with pytest.raises(ValueError, match="SALT_DATA"):
        read_dataset(Path(""))
