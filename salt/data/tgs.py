"""Kaggle's TGS archives as arrays: read straight from the zips, checked, decoded once in threads."""

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from joblib import cpu_count
from numpy.typing import NDArray
from tqdm import tqdm

from salt.data import cache, rle
from salt.data.archive import OUTER_ZIP, Folder, Source, Subfolder, Zip, check_root, stamps, without_tables
from salt.data.image import TILE_SIZE as TILE_SIZE
from salt.data.image import decode_image, decode_mask
from salt.data.tiles import Dataset, Tiles
from salt.machine import distributed

SHOWN = 5  # offending ids that a message names
CHECKED = 4096  # masks compared at once


def read_dataset(root: Path, cache_folder: Path | None = None) -> Dataset:
    """Read and check the whole data set: a folder in Kaggle's layout (zips or unpacked) or Kaggle's outer zip.

    With a `cache_folder` the decoded tiles are kept there and mapped into memory.

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

    train_depths, test_depths = (depths_of(depths, table.index, source.label) for table in (truth, sample))

    def decode(allocate: cache.Allocate) -> dict[str, NDArray[np.uint8]]:
        masks = decode_all(train_files, "masks", truth.index, decode_mask, "train_masks", allocate)
        check_masks(truth["rle_mask"], masks, f"{source.label}/train.csv")
        images = decode_all(train_files, "images", truth.index, decode_image, "train_images", allocate)
        return {
            "train_masks": masks,
            "train_images": images,
            "test_images": decode_all(test_files, "images", sample.index, decode_image, "test_images", allocate),
        }

    if cache_folder is None:
        arrays = decode(cache.in_memory)
    else:
        counts = {"train_masks": len(truth), "train_images": len(truth), "test_images": len(sample)}
        shapes = {name: (n, TILE_SIZE, TILE_SIZE) for name, n in counts.items()}
        arrays = cache.cached_arrays(cache_folder, fingerprint(source, train_files, test_files), shapes, decode)
    return Dataset(
        train=Tiles(list(truth.index), arrays["train_images"], arrays["train_masks"], train_depths),
        test=Tiles(list(sample.index), arrays["test_images"], None, test_depths),
    )


def fingerprint(source: Source, train_files: Source, test_files: Source) -> str:
    """SHA-256 of the tables and of every tile's name with its size and checksum (unpacked: size and time)."""
    digest = hashlib.sha256()
    for name in ("train.csv", "sample_submission.csv"):
        digest.update(source.read(name))
    for files in (train_files, test_files):
        digest.update("\n".join(stamps(files)).encode())
    return digest.hexdigest()


def open_root(root: Path) -> Folder | Zip:
    """Open the data folder, or the outer zip (given itself, or lying alone in the folder)."""
    if root.is_dir() and not (root / "train.csv").exists() and (root / OUTER_ZIP).is_file():
        root = root / OUTER_ZIP
    check_root(root)
    source = Zip(root, str(root)) if root.is_file() else Folder(root)
    if "train.csv" not in source.names:
        raise ValueError(without_tables(root))
    return source


def open_part(source: Folder | Zip, part: str) -> Source:
    """Open the images and masks of "train" or "test": unpacked or as an inner zip."""
    if any(n.startswith(f"{part}/images/") for n in source.names):
        return Subfolder(source, part)
    name = f"{part}.zip"
    if name not in source.names:
        raise ValueError(f"{source.label}: expected {name} or {part}/images, found neither")
    inner = source.open_zip(name)
    return Subfolder(inner, part) if any(n.startswith(f"{part}/images/") for n in inner.names) else inner


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
    inside = [name.removeprefix(f"{folder}/") for name in files.names if name.startswith(f"{folder}/")]
    found = {name.removesuffix(".png") for name in inside if name.endswith(".png")}  # "a/b": too deep, as an extra one
    missing, extra = sorted(set(ids) - found), sorted(found - set(ids))
    label = f"{files.label}/{folder}"
    if missing:
        other = sorted({PurePosixPath(name).suffix for name in inside if PurePosixPath(name).stem in missing} - {""})
        hint = f"; found {', '.join(other)}: convert them to 8-bit grey PNG" if other else ""
        raise ValueError(f"{label}: {len(missing)} ids of {table} have no PNG, e.g. {missing[:SHOWN]}{hint}")
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
    files: Source,
    folder: str,
    ids: "pd.Index[str]",
    decode: Callable[[bytes], NDArray[np.uint8]],
    name: str,
    allocate: cache.Allocate,
) -> NDArray[np.uint8]:
    """Decode the PNGs of `ids` into one array (N H W); cv2 releases the GIL, so threads help."""
    tiles = allocate(name, (len(ids), TILE_SIZE, TILE_SIZE))

    def work(i: int) -> None:
        file = f"{folder}/{ids[i]}.png"
        data = files.read(file)
        try:
            tiles[i] = decode(data)
        except ValueError as error:
            raise ValueError(f"{files.label}/{file}: {error}") from None

    with ThreadPoolExecutor(cpu_count()) as pool:
        for _ in tqdm(
            pool.map(work, range(len(ids))),
            total=len(ids),
            desc=name.replace("_", " "),
            unit="tile",
            disable=distributed.hides_bars(),
            leave=False,
        ):
            pass
    return tiles


def check_masks(rles: "pd.Series[str]", masks: NDArray[np.uint8], label: str) -> None:
    """Check each mask (N H W) against its run-length string in train.csv."""
    differing: list[str] = []
    for start in range(0, len(masks), CHECKED):
        part = rles.iloc[start : start + CHECKED]
        try:
            expected = rle.decode_all(part.tolist(), (TILE_SIZE, TILE_SIZE))
        except rle.RunLengthError as error:
            raise ValueError(f"{label}: rle_mask of id {part.index[error.row]}: {error.reason}") from None
        differing += part.index[(expected != masks[start : start + CHECKED]).any(axis=(1, 2))].tolist()
    if differing:
        raise ValueError(f"{label}: {len(differing)} masks differ from their rle_mask, e.g. {differing[:SHOWN]}")
