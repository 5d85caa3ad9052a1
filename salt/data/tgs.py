"""Kaggle's TGS archives as arrays: read straight from the zips, checked, decoded once in threads."""

import csv
import hashlib
import io
import mmap
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from salt import rle

SIZE = 101  # pixels, both sides of every tile
OUTER_ZIP = "tgs-salt-identification-challenge.zip"  # what `kaggle competitions download` writes
SHOWN = 5  # offending ids that a message names
LARGE = 10_000_000  # bytes; no tile has as many
BOMB = 100  # no honest large member shrinks to less than one part in so many
INNER_LIMIT = 1_000_000_000  # bytes of an inner zip that is unpacked in memory


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
        path = self._path / name
        try:
            if name.endswith(".png") and path.stat().st_size > LARGE:
                raise ValueError(f"{path}: has {path.stat().st_size} bytes, too many for a tile")
            return path.read_bytes()
        except OSError as error:
            raise ValueError(f"{path}: cannot be read: {error.strerror}") from None

    def open_zip(self, name: str) -> "Zip":
        """A zip archive that lies in the folder."""
        return open_zip(self._path / name)


class Window(io.RawIOBase):
    """Bytes that are mapped or in memory as a seekable file; nothing is copied ahead."""

    def __init__(self, data: memoryview):
        self._data, self._at = data, 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position and return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._data)}[whence]
        if base + offset < 0:
            raise OSError("a position before the first byte")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as there are bytes."""
        part = self._data[self._at : self._at + len(buffer)]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)


class Zip:
    """The files in a zip archive, by their member name. They are checked and read in memory, never extracted."""

    def __init__(self, data: memoryview, label: str):
        self.label = label
        self._data = data
        self._members: dict[str, zipfile.ZipInfo] = {}
        for info in self._directory():
            fault = "occurs twice" if info.filename in self._members else find_fault(info)
            if fault:
                raise ValueError(f"{label}: member {info.orig_filename!r} {fault}")
            self._members[info.filename] = info
        self.names = {n for n in self._members if not n.endswith("/")}

    def _directory(self) -> list[zipfile.ZipInfo]:
        try:
            with zipfile.ZipFile(Window(self._data)) as archive:
                return archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, EOFError, struct.error):
            raise ValueError(f"{self.label}: this is not a complete zip archive; download it again") from None

    def packed(self, name: str) -> memoryview:
        """The bytes of one member as they are stored."""
        info = self._members[name]
        at = info.header_offset
        encoded = info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437")
        header = bytes(self._data[at : at + 30 + len(encoded)])
        start = at + 30 + sum(struct.unpack("<HH", header[26:30])) if len(header) >= 30 else 0
        packed = self._data[start : start + info.compress_size]
        if header[:4] + header[30:] != b"PK\3\4" + encoded or len(packed) < info.compress_size:
            raise ValueError(f"{self.label}: member {name} cannot be read: it is not where the directory says")
        return packed

    def read(self, name: str) -> bytes:
        """The bytes of one member."""
        info, packed = self._members[name], self.packed(name)
        try:
            content = bytes(packed) if info.compress_type == zipfile.ZIP_STORED else inflate(packed, info.file_size)
        except (zlib.error, ValueError) as error:
            raise ValueError(f"{self.label}: member {name} cannot be read: {error}") from None
        if len(content) != info.file_size or zlib.crc32(content) != info.CRC:
            raise ValueError(f"{self.label}: member {name} cannot be read: its content has another size or checksum")
        return content

    def open_zip(self, name: str) -> "Zip":
        """A zip archive within this one: in place if it is stored as it is, else unpacked in memory."""
        info = self._members[name]
        if info.compress_type == zipfile.ZIP_STORED and info.file_size == info.compress_size:
            return Zip(self.packed(name), f"{self.label}/{name}")
        if info.file_size > INNER_LIMIT:
            raise ValueError(
                f"{self.label}: member {name} is compressed and has {info.file_size} bytes, too many for the memory; "
                "unpack the outer archive and name its folder as data.root"
            )
        return Zip(memoryview(self.read(name)), f"{self.label}/{name}")


def open_zip(path: Path) -> Zip:
    """Map a zip archive into memory and read its directory."""
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    return Zip(memoryview(mapped), str(path))


def find_fault(info: zipfile.ZipInfo) -> str | None:
    """Why a member of an archive is refused by what the archive's directory says of it; None if it is not."""
    name = info.orig_filename
    if name.startswith("/") or ".." in name.split("/") or re.search(r"\\|\0|^[A-Za-z]:", name):
        return "has an unsafe name"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a symbolic link"
    if info.flag_bits & 1:
        return "is encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"is compressed by method {info.compress_type}, expected deflate or none"
    if info.file_size > LARGE and (name.endswith(".png") or info.file_size > BOMB * info.compress_size):
        return f"claims {info.file_size} bytes in {info.compress_size}, too many for what it is"
    return None


def inflate(packed: memoryview, size: int) -> bytes:
    """Decompress to at most one byte more than declared."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    content = stream.decompress(packed, size + 1)
    if len(content) > size:
        raise ValueError("its content is longer than declared")
    if not stream.eof or stream.unused_data:
        raise ValueError("its content does not end where it should")
    return content


class Below:
    """The files of another source below a prefix."""

    def __init__(self, source: Folder | Zip, prefix: str):
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
    source = open_zip(root) if root.is_file() else Folder(root)
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
    inner = source.open_zip(name)
    return Below(inner, part) if any(n.startswith(f"{part}/images/") for n in inner.names) else inner


def read_table(source: Source, name: str, columns: list[str]) -> pd.DataFrame:
    """Read a CSV as text (an id like 123e456789 is no number), indexed by its unique ids."""
    label = f"{source.label}/{name}"
    if name not in source.names:
        raise ValueError(f"{label}: this file is missing")
    try:
        header, *rows = split_csv(source.read(name).decode("utf-8-sig"))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{label}: cannot be read as a CSV: {error}") from None
    if header != columns:
        raise ValueError(f"{label}: expected the columns {','.join(columns)}, found {','.join(header)}")
    table = pd.DataFrame(rows, columns=columns, dtype=str)
    twice = table["id"][table["id"].duplicated()].unique()
    if len(twice):
        raise ValueError(f"{label}: {len(twice)} ids occur more than once, e.g. {list(twice[:SHOWN])}")
    bad = [i for i in table["id"] if not i or PurePosixPath(i).name != i or i.startswith(("=", "+", "-", "@", "."))]
    if bad:
        raise ValueError(f"{label}: an id must be a plain file name, found {bad[:SHOWN]}")
    if table.empty:
        raise ValueError(f"{label}: has no rows")
    return table.set_index("id")


def split_csv(text: str) -> Iterator[list[str]]:
    """The rows of a CSV, the header first, without blank lines.

    Raises:
        ValueError: it has no header or a NUL, or a row has not as many fields as the header.
    """
    if "\0" in text:
        raise ValueError("it contains a NUL byte")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    n_fields = 0
    for row in filter(None, reader):
        n_fields = n_fields or len(row)
        if len(row) != n_fields:
            raise ValueError(f"line {reader.line_num} has {len(row)} fields, expected {n_fields}")
        yield row
    if not n_fields:
        raise ValueError("it is empty")


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
    odd = numbers.index[~np.isfinite(numbers.to_numpy(dtype=np.float64))]
    if len(odd):
        raise ValueError(f"{label}/depths.csv: z of id {odd[0]} is {depths['z'].loc[odd[0]]!r}, expected a number")
    return numbers.to_numpy(dtype=np.float64)


def decode_all(
    files: Source, folder: str, ids: Iterable[str], decode: Callable[[bytes], NDArray[np.uint8]], title: str
) -> NDArray[np.uint8]:
    """Decode the PNGs of `ids` into one array (N H W); cv2 releases the GIL, so threads help."""
    ids = list(ids)
    tiles = np.empty((len(ids), SIZE, SIZE), dtype=np.uint8)

    def work(i: int) -> None:
        name = f"{folder}/{ids[i]}.png"
        data = files.read(name)
        try:
            tiles[i] = decode(data)
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
    check_png(data)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.shape[:2] != (SIZE, SIZE):
        raise ValueError("does not decode as a PNG")
    if pixels.ndim == 3:
        if pixels.shape[2] == 4 and (pixels[..., 3] != np.iinfo(pixels.dtype).max).any():
            raise ValueError("is partly transparent, expected a grey image")
        if not (pixels[..., :1] == pixels[..., :3]).all():
            raise ValueError("its colour channels differ, expected a grey image")
        pixels = pixels[..., 0]
    return np.asarray(pixels)


def check_png(data: bytes) -> None:
    """Check what a decoder is lenient about or would allocate memory for: size, checksums, completeness, animation.

    Raises:
        ValueError: a chunk is damaged, missing or not for a still image, or the size is not that of a tile.
    """
    if data[:16] != b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR":
        raise ValueError("does not decode as a PNG: it does not begin like one")
    at, kind = 8, b""
    while kind != b"IEND":
        length = int.from_bytes(data[at : at + 4], "big")
        kind, end = data[at + 4 : at + 8], at + 12 + length
        if end > len(data) or zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise ValueError("does not decode as a PNG: it is truncated or a checksum is wrong")
        if kind == b"IHDR":
            width, height = struct.unpack(">II", data[16:24])
            if (height, width) != (SIZE, SIZE):
                raise ValueError(f"is {height}x{width} pixels, expected {SIZE}x{SIZE}")
        if kind == b"acTL":
            raise ValueError("is an animation, expected a still image")
        at = end
    if at != len(data):
        raise ValueError(f"does not decode as a PNG: {len(data) - at} bytes follow its end")


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
