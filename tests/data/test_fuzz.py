"""Whatever befalls a file, reading ends in a message that names it or in exactly the undamaged arrays.

Three changes cannot be noticed, because nothing in Kaggle's layout says what was there before:
- another number as a depth (nothing else repeats it);
- two images that change places (no checksum or table ties an image to its id; a mask is tied to its run lengths);
- an id that changes everywhere at once, which needs more than one damaged file and is not tried here.
"""

import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from salt.data.synthetic import Synthetic
from salt.data.tgs import read_dataset
from salt.data.tiles import Dataset

Files = dict[str, bytes]  # by their name relative to the root


@pytest.fixture(scope="module")
def layouts(tmp_path_factory) -> list[tuple[Files, Dataset]]:
    root = tmp_path_factory.mktemp("fuzz") / "data"
    Synthetic(root, n_train=6, n_test=2, seed=0).prepare()
    zipped = {file.name: file.read_bytes() for file in root.iterdir() if file.name != "synthetic.json"}
    unpacked = {name: content for name, content in zipped.items() if name.endswith(".csv")}
    for part in ("train", "test"):
        with zipfile.ZipFile(root / f"{part}.zip") as archive:
            unpacked |= {f"{part}/{name}": archive.read(name) for name in archive.namelist()}
    expected = read_dataset(root)
    return [(zipped, expected), (unpacked, expected)]


def write(files: Files, root: Path) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def flip_bits(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 20])):
        changed[rng.integers(len(data))] ^= 1 << rng.integers(8)
    return bytes(changed)


def place(data: bytes, rng: np.random.Generator) -> tuple[int, int]:
    at = int(rng.integers(len(data)))
    return at, at + int(rng.choice([1, 2, 16, 300]))


def truncate(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: place(data, rng)[0]] if rng.random() < 0.5 else data[: -rng.integers(1, 30)]


def delete(data: bytes, rng: np.random.Generator) -> bytes:
    start, stop = place(data, rng)
    return data[:start] + data[stop:]


def duplicate(data: bytes, rng: np.random.Generator) -> bytes:
    start, stop = place(data, rng)
    return data[:stop] + data[start:stop] + data[stop:]


def insert(data: bytes, rng: np.random.Generator) -> bytes:
    start, stop = place(data, rng)
    some = rng.bytes(stop - start) if rng.random() < 0.5 else rng.choice([b"\n", b",", b'"', b"\0", b"\r", b" ", b"9"])
    return data[:start] + some + data[start:]


def remove_line(data: bytes, rng: np.random.Generator) -> bytes:
    lines = data.splitlines(keepends=True)
    del lines[rng.integers(len(lines))]
    return b"".join(lines)


CHANGES: list[Callable[[bytes, np.random.Generator], bytes]] = [
    flip_bits, flip_bits, truncate, delete, duplicate, insert, remove_line,
]  # fmt: skip


def corrupt(files: Files, rng: np.random.Generator) -> tuple[Files, set[str]]:
    """The files with one damage, and the names of the one or two files that it concerns."""
    suffix = rng.choice(sorted({PurePosixPath(name).suffix for name in files}))
    a, b = rng.choice([name for name in files if name.endswith(suffix)], 2, replace=False).tolist()
    if rng.random() < 0.15:
        return files | {a: files[b], b: files[a]}, {a, b}
    if rng.random() < 0.05:
        return {name: content for name, content in files.items() if name != a}, {a}
    return files | {a: CHANGES[rng.integers(len(CHANGES))](files[a], rng)}, {a}


def arrays(data: Dataset) -> dict[str, np.ndarray | list[str] | None]:
    return {f"{part} {key}": value for part in ("train", "test") for key, value in vars(getattr(data, part)).items()}


def named(damaged: set[str], message: str) -> bool:
    """A message names a table or archive by its file name, a tile by its id."""
    return any((PurePosixPath(n).stem if n.endswith(".png") else n) in message for n in damaged)


def check(files: Files, damaged: set[str], expected: Dataset, root: Path) -> None:
    try:
        found = arrays(read_dataset(write(files, root)))
    except ValueError as error:
        assert named(damaged, str(error)), error
        return
    swapped_images = len(damaged) == 2 and all("/images/" in name for name in damaged)
    for key, value in arrays(expected).items():
        if key.endswith("depths") and damaged == {"depths.csv"}:
            assert np.isfinite(found[key]).all() and found[key].shape == value.shape
        elif not (key.endswith("images") and swapped_images):
            assert np.array_equal(found[key], value) if isinstance(value, np.ndarray) else found[key] == value, key
    if swapped_images:
        both = [np.concatenate([part["train images"], part["test images"]]) for part in (found, arrays(expected))]
        assert sorted(image.tobytes() for image in both[0]) == sorted(image.tobytes() for image in both[1])


@pytest.mark.parametrize("seed", range(30))
def test_some_damages(layouts, seed, tmp_path):
    files, expected = layouts[seed % 2]
    check(*corrupt(files, np.random.default_rng(seed)), expected, tmp_path)


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(200))
def test_many_damages(layouts, seed, tmp_path):
    test_some_damages(layouts, seed, tmp_path)


def test_without_damage_both_layouts_read_the_same(layouts, tmp_path):
    for i, (files, expected) in enumerate(layouts):
        check(files, {"-"}, expected, tmp_path / str(i))
