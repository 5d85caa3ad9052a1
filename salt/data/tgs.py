"""Kaggle's TGS archives as arrays: read straight from the zips, checked, decoded once in threads."""

import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from salt import rle

SIZE = 101  # pixels, both sides of every tile
OUTER_ZIP = "tgs-salt-identification-challenge.zip"  # what `kaggle competitions download` writes
SHOWN = 5  # offending ids that a message names


@dataclass(frozen=True)
class Tiles:
    """N tiles as arrays: images (N H W, grey 0-255), masks (N H W, 0 or 1; None for the test set), depths (N, feet)."""

    ids: list[str]
    images: NDArray[np.uint8]
    masks: NDArray[np.uint8] | None
    depths: NDArray[np.float64]

    def __getitem__(self, index: NDArray[np.int64]) -> "Tiles":
        """Some of the tiles."""
        masks = None if self.masks is None else self.masks[index]
        return Tiles([self.ids[i] for i in index], self.images[index], masks, self.depths[index])

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Which tiles (N) hold one single grey value: nothing can be seen in them."""
        flat = self.images.reshape(len(self.images), -1)
        return np.asarray(flat.min(axis=1, initial=255) == flat.max(axis=1, initial=0))

    def digest(self) -> str:
        """SHA-256 of ids, images, masks and depths, to recognise changed data."""
        digest = hashlib.sha256("\n".join(self.ids).encode())
        for array in (self.images, self.masks, self.depths):
            digest.update(b"" if array is None else np.ascontiguousarray(array).data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Dataset:
    """The train tiles with masks and the test tiles in the order of sample_submission.csv."""

    train: Tiles
    test: Tiles

    def digest(self) -> str:
        """SHA-256 over both parts."""
        return hashlib.sha256((self.train.digest() + self.test.digest()).encode()).hexdigest()


class Folder:
    """The files of a folder and those two levels down in train/ and test/, by their name relative to it."""

    def __init__(self, path: Path):
        self.label = str(path)
        self._path = path
        # not rglob: a user may name a folder that holds much else
        files = [p for p in (*path.glob("*"), *path.glob("train/*/*"), *path.glob("test/*/*")) if p.is_file()]
        self.names = {p.relative_to(path).as_posix() for p in files}

    def read(self, name: str) -> bytes:
        """The bytes of one file."""
        return (self._path / name).read_bytes()


class Zip:
    """The files in a zip archive, by their member name."""

    def __init__(self, source: Path | BytesIO, label: str):
        self.label = label
        try:
            self._zip = zipfile.ZipFile(source)
        except zipfile.BadZipFile:
            raise ValueError(f"{label}: this is not a complete zip archive; download it again") from None
        self.names = {n for n in self._zip.namelist() if not n.endswith("/")}

    def read(self, name: str) -> bytes:
        """The bytes of one member."""
        try:
            return self._zip.read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError) as error:
            raise ValueError(f"{self.label}: member {name} cannot be read: {error}") from None


class Below:
    """The files of another source below a prefix."""

    def __init__(self, source: "Folder | Zip", prefix: str):
        self.label = f"{source.label}/{prefix}"
        self._source, self._prefix = source, prefix
        self.names = {n[len(prefix) + 1 :] for n in source.names if n.startswith(prefix + "/")}

    def read(self, name: str) -> bytes:
        """The bytes of one file."""
        return self._source.read(f"{self._prefix}/{name}")


Source = Folder | Zip | Below


def read_dataset(root: Path) -> Dataset:
    """Read and check the whole data set: a folder in Kaggle's layout (zips or unpacked) or Kaggle's outer zip.

    Raises:
        ValueError: something is missing, does not decode, has a wrong size or contradicts the tables;
            the message names file and id.
    """
    source = open_root(root)
    depths = read_table(source, "depths.csv", ["id", "z"])
    truth = read_table(source, "train.csv", ["id", "rle_mask"])
    sample = read_table(source, "sample_submission.csv", ["id", "rle_mask"])
    train_files, test_files = open_part(source, "train"), open_part(source, "test")
    check_same_ids(truth.index, train_files, "images", "train.csv")
    check_same_ids(truth.index, train_files, "masks", "train.csv")
    check_same_ids(sample.index, test_files, "images", "sample_submission.csv")

    masks = decode_all(train_files, "masks", truth.index, decode_mask, "train masks")
    check_masks(truth["rle_mask"], masks, f"{source.label}/train.csv")
    images = decode_all(train_files, "images", truth.index, decode_image, "train images")
    test_images = decode_all(test_files, "images", sample.index, decode_image, "test images")
    return Dataset(
        train=Tiles(list(truth.index), images, masks, depths_of(depths, truth.index, source.label)),
        test=Tiles(list(sample.index), test_images, None, depths_of(depths, sample.index, source.label)),
    )


def open_root(root: Path) -> Folder | Zip:
    """Open the data folder, or the outer zip (given itself, or lying alone in the folder)."""
    if root.is_dir() and not (root / "train.csv").exists() and (root / OUTER_ZIP).is_file():
        root = root / OUTER_ZIP
    if not root.exists():
        raise ValueError(
            f"data.root: there is no folder {root}. `make data` explains the download; "
            "data.root=FOLDER (or SALT_DATA) names another place; data=synthetic needs no download."
        )
    source = Zip(root, str(root)) if root.is_file() else Folder(root)
    if "train.csv" not in source.names:
        raise ValueError(
            f"data.root: {root} has no train.csv. Expected train.csv, depths.csv, sample_submission.csv, "
            f"train.zip and test.zip (or train/ and test/ unpacked), or {OUTER_ZIP}."
        )
    return source


def open_part(source: Folder | Zip, part: str) -> Source:
    """Open the images and masks of "train" or "test": unpacked or as an inner zip."""
    if any(n.startswith(f"{part}/images/") for n in source.names):
        return Below(source, part)
    name = f"{part}.zip"
    if name not in source.names:
        raise ValueError(f"{source.label}: expected {name} or {part}/images, found neither")
    inner = Zip(BytesIO(source.read(name)), f"{source.label}/{name}")
    return Below(inner, part) if any(n.startswith(f"{part}/images/") for n in inner.names) else inner


def read_table(source: Source, name: str, columns: list[str]) -> pd.DataFrame:
    """Read a CSV as text (an id like 123e456789 is no number), indexed by its unique ids."""
    label = f"{source.label}/{name}"
    if name not in source.names:
        raise ValueError(f"{label}: this file is missing")
    try:
        table = pd.read_csv(BytesIO(source.read(name)), dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{label}: cannot be read as a CSV: {error}") from None
    if list(table.columns) != columns:
        raise ValueError(
            f"{label}: expected the columns {','.join(columns)}, found {','.join(map(str, table.columns))}"
        )
    twice = table["id"][table["id"].duplicated()].unique()
    if len(twice):
        raise ValueError(f"{label}: {len(twice)} ids occur more than once, e.g. {list(twice[:SHOWN])}")
    bad = [i for i in table["id"] if not i or PurePosixPath(i).name != i or i.startswith(("=", "+", "-", "@", "."))]
    if bad:
        raise ValueError(f"{label}: an id must be a plain file name, found {bad[:SHOWN]}")
    if table.empty:
        raise ValueError(f"{label}: has no rows")
    return table.set_index("id")


def check_same_ids(ids: Iterable[str], files: Source, folder: str, table: str) -> None:
    """Check that a folder's PNGs are exactly the ids of the table."""
    found = {PurePosixPath(n).stem for n in files.names if n.startswith(f"{folder}/") and n.endswith(".png")}
    missing, extra = sorted(set(ids) - found), sorted(found - set(ids))
    label = f"{files.label}/{folder}"
    if missing:
        raise ValueError(f"{label}: {len(missing)} ids of {table} have no PNG, e.g. {missing[:SHOWN]}")
    if extra:
        raise ValueError(f"{label}: {len(extra)} PNGs are not in {table}, e.g. {extra[:SHOWN]}")


def depths_of(depths: pd.DataFrame, ids: pd.Index, label: str) -> NDArray[np.float64]:
    """Survey depth z of each id in feet."""
    missing = ids.difference(depths.index)
    if len(missing):
        raise ValueError(f"{label}/depths.csv: {len(missing)} ids have no depth, e.g. {list(missing[:SHOWN])}")
    numbers = pd.to_numeric(depths["z"].loc[ids], errors="coerce")
    if numbers.isna().any():
        first = numbers.index[numbers.isna()][0]
        raise ValueError(f"{label}/depths.csv: z of id {first} is {depths['z'].loc[first]!r}, expected a number")
    return numbers.to_numpy(dtype=np.float64)


def decode_all(
    files: Source, folder: str, ids: Iterable[str], decode: Callable[[bytes], NDArray[np.uint8]], title: str
) -> NDArray[np.uint8]:
    """Decode the PNGs of `ids` into one array (N H W); cv2 releases the GIL, so threads help."""
    ids = list(ids)
    tiles = np.empty((len(ids), SIZE, SIZE), dtype=np.uint8)

    def work(i: int) -> None:
        name = f"{folder}/{ids[i]}.png"
        try:
            tiles[i] = decode(files.read(name))
        except ValueError as error:
            raise ValueError(f"{files.label}/{name}: {error}") from None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in tqdm(
            pool.map(work, range(len(ids))),
            total=len(ids),
            desc=title,
            unit="tile",
            disable=None,
            leave=False,
        ):
            pass
    return tiles


def decode_png(data: bytes) -> NDArray[np.generic]:
    """Decode one PNG to a single channel (H W) at its own bit depth."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if pixels is None:
        raise ValueError("does not decode as a PNG")
    if pixels.shape[:2] != (SIZE, SIZE):
        raise ValueError(f"is {pixels.shape[0]}x{pixels.shape[1]} pixels, expected {SIZE}x{SIZE}")
    if pixels.ndim == 3:
        if not (pixels[..., :1] == pixels[..., :3]).all():
            raise ValueError("its colour channels differ, expected a grey image")
        pixels = pixels[..., 0]
    return np.asarray(pixels)


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """Decode a seismic image to grey values 0-255 (H W)."""
    pixels = decode_png(data)
    if pixels.dtype != np.uint8:
        raise ValueError(f"has {pixels.dtype} pixels, expected 8 bits")
    return pixels.astype(np.uint8)


def decode_mask(data: bytes) -> NDArray[np.uint8]:
    """Decode a mask of any bit depth to 0 and 1 (H W)."""
    pixels = decode_png(data)
    values = np.unique(pixels)
    if np.count_nonzero(values) > 1:
        raise ValueError(f"has {len(values)} values {values[:SHOWN].tolist()}, expected 0 and one other")
    return (pixels != 0).astype(np.uint8)


def check_masks(rles: "pd.Series[str]", masks: NDArray[np.uint8], label: str) -> None:
    """Check each mask (N H W) against its run-length string in train.csv."""
    try:
        expected = rle.decode_all(rles.tolist(), (SIZE, SIZE))
    except rle.RunLengthError as error:
        raise ValueError(f"{label}: rle_mask of id {rles.index[error.row]}: {error.reason}") from None
    differing = rles.index[(expected != masks).any(axis=(1, 2))].tolist()
    if differing:
        raise ValueError(f"{label}: {len(differing)} masks differ from their rle_mask, e.g. {differing[:SHOWN]}")
