"""Kaggle's TGS archives as arrays: read straight from the zips, checked, decoded once in threads."""

import hashlib
import os
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from salt.data import cache
from salt.data.amplitudes import Scaling
from salt.data.archive import Archive, Directory, Subfolder, Zip, stamps
from salt.data.checkup import Checkup, File, FirstError, Part, in_threads
from salt.data.image import TILE_SIZE as TILE_SIZE
from salt.data.image import decode_image, decode_mask
from salt.data.kaggle import COMPETITION, PAGE
from salt.data.names import composed
from salt.data.source import Source
from salt.data.tables import check_runs, depths_of, table_by_id
from salt.data.tiles import Dataset, Tiles

OUTER_ZIP = f"{COMPETITION}.zip"  # what `kaggle competitions download` writes
TABLES = {"train": "train.csv", "test": "sample_submission.csv"}


class TGS(Source):
    """Kaggle's TGS Salt Identification Challenge, or other tiles in its layout."""

    wanted = (
        "Kaggle's train.csv, depths.csv, sample_submission.csv, train.zip and test.zip (or train/ and test/ unpacked), "
        f"or {OUTER_ZIP}"
    )
    competition: ClassVar[str | None] = COMPETITION

    def __init__(self, root: str | Path, cache: str | None = None):
        super().__init__(root)
        self.cache = None if cache is None else Path(cache).expanduser()

    @classmethod
    def recognises(cls, root: Path) -> bool:
        """Return whether the tables are there, or a zip."""
        return any((root / name).exists() for name in ("train.csv", OUTER_ZIP)) or (
            root.is_file() and root.suffix == ".zip"
        )

    def check(self) -> None:
        """Check that there are tables or archives.

        Raises:
            ValueError: there are none; the message names the ways to get data.
        """
        if self.root == Path() and os.environ.get("SALT_DATA") == "":
            raise ValueError(
                "data.root: the variable SALT_DATA is empty; set it to the data's folder, or unset it for data/tgs"
            )
        if self.root.is_file() and not is_zip(self.root):
            raise ValueError(
                f"data.root: {self.root} is a file; expected the folder of the data, or Kaggle's outer zip"
            )
        if not self.root.exists():
            raise ValueError(
                f"data.root: there is no folder {self.root}. Download the data from {PAGE} (accept its rules "
                "first), or name the folder where it is: data.root=FOLDER or the variable SALT_DATA; data=synthetic "
                "needs no download."
            )
        if self.root.is_dir() and not self.recognises(self.root):
            raise ValueError(f"data.root: {self.root} has no train.csv; expected {self.wanted}")

    def load(self, scaling: Scaling) -> Dataset:
        """Read and check the whole data set; its grey values need no scaling."""
        return read_dataset(self.root, self.cache)

    def unlabelled(self, place: Path, scaling: Scaling) -> Tiles:
        """Return the test tiles of another folder, with a cache of its own."""
        return read_dataset(place, self.cache and self.cache / "unlabelled").test

    def parts(self, found: Checkup) -> list[Part]:
        """Return the train and test tiles."""
        archive = open_root(self.root)
        return parts_of(archive, open_parts(archive, found), found)


def read_dataset(root: Path, cache_folder: Path | None = None) -> Dataset:
    """Read and check the whole data set: a folder in Kaggle's layout (zips or unpacked) or Kaggle's outer zip.

    With a `cache_folder` the decoded tiles are kept there and mapped into memory.

    Raises:
        ValueError: something is missing, does not decode, has a wrong size or contradicts the tables;
            the message names file and id.
    """
    archive = open_root(root)
    found = FirstError(archive.label)
    opened = open_parts(archive, found)
    train, test = parts_of(archive, opened, found)
    train.check(found)
    test.check(found)
    assert train.table is not None and test.table is not None
    truth, ids, test_ids = train.table, list(train.table.index), list(test.table.index)
    depths, test_depths = (depths_of(train.depths, names, archive.label) for names in (ids, test_ids))

    def decode(allocate: cache.Allocate) -> dict[str, NDArray[np.uint8]]:
        masks = decode_tiles(train, "masks", decode_mask, allocate)
        check_runs(truth, masks, f"{archive.label}/train.csv")
        return {
            "train_masks": masks,
            "train_images": decode_tiles(train, "images", decode_image, allocate),
            "test_images": decode_tiles(test, "images", decode_image, allocate),
        }

    if cache_folder is None:
        arrays = decode(cache.allocate_in_memory)
    else:
        counts = {"train_masks": len(ids), "train_images": len(ids), "test_images": len(test_ids)}
        shapes = {name: (n, TILE_SIZE, TILE_SIZE) for name, n in counts.items()}
        arrays = cache.cached_arrays(cache_folder, fingerprint(archive, opened), shapes, decode)
    return Dataset(
        train=Tiles(ids, arrays["train_images"], arrays["train_masks"], depths),
        test=Tiles(test_ids, arrays["test_images"], None, test_depths),
    )


def fingerprint(archive: Archive, opened: dict[str, Archive]) -> str:
    """SHA-256 of the tables and of every tile's name with its size and checksum (unpacked: size and time)."""
    digest = hashlib.sha256()
    for name in TABLES.values():
        digest.update(archive.read(name))
    for files in opened.values():
        digest.update("\n".join(stamps(files)).encode())
    return digest.hexdigest()


def is_zip(path: Path) -> bool:
    """Return whether a path is a zip archive, or a file that is called one."""
    return path.is_file() and (path.suffix == ".zip" or zipfile.is_zipfile(path))


def open_root(root: Path) -> Directory | Zip:
    """Open the data folder, or the outer zip (given itself, or lying alone in the folder)."""
    if root.is_dir() and not (root / "train.csv").exists() and (root / OUTER_ZIP).is_file():
        root = root / OUTER_ZIP
    TGS(root).check()
    archive = Zip(root, str(root)) if root.is_file() else Directory(root)
    if "train.csv" not in archive.names:
        raise ValueError(f"data.root: {root} has no train.csv; expected {TGS.wanted}")
    return archive


def open_parts(archive: Directory | Zip, found: Checkup) -> dict[str, Archive]:
    """Return the images and masks of "train" and "test", unpacked or in an inner zip; one that is missing is noted."""
    parts: dict[str, Archive] = {}
    for part in TABLES:
        name = f"{part}.zip"
        if any(n.startswith(f"{part}/images/") for n in archive.names):
            parts[part] = Subfolder(archive, part)
        elif name in archive.names:
            inner = archive.open_zip(name)
            in_folder = any(n.startswith(f"{part}/images/") for n in inner.names)
            parts[part] = Subfolder(inner, part) if in_folder else inner
        else:
            message = f"{archive.label}: expected {name} or {part}/images, found neither"
            found.add("error", message, "download the data again")
    return parts


def parts_of(archive: Archive, opened: dict[str, Archive], found: Checkup) -> list[Part]:
    """Return the tiles with what the tables say of them; problems of the tables are noted."""
    depths, parts = table_by_id(archive, "depths.csv", ["id", "z"], found, needed=True), []
    for name, files in opened.items():
        table = table_by_id(archive, TABLES[name], ["id", "rle_mask"], found, needed=True)
        others = [n for n in files.names if n.startswith(("images/", "masks/")) and not n.endswith(".png")]
        strays = [n for n in others if table is not None and PurePosixPath(n).stem in table.index]
        if strays:
            found.add("error", f"{name} tiles in another format", "convert them to 8-bit grey PNG", *sorted(strays))
        masks = pngs(files, "masks") if name == "train" else None
        size, place = (TILE_SIZE, TILE_SIZE), files.label.removeprefix(archive.label).lstrip("/")
        parts.append(Part(name, pngs(files, "images"), masks, table, depths, size, place, TABLES[name]))
    return parts


def pngs(files: Archive, folder: str) -> dict[str, File]:
    """Return the PNGs below a folder of an archive by id."""
    names = [name for name in sorted(files.names) if name.startswith(f"{folder}/") and name.endswith(".png")]
    ids = [composed(name.removeprefix(f"{folder}/").removesuffix(".png")) for name in names]
    return {i: File(f"{files.label}/{n}", partial(files.read, n)) for i, n in zip(ids, names, strict=True)}


def decode_tiles(
    part: Part, kind: str, decode: Callable[[bytes], NDArray[np.uint8]], allocate: cache.Allocate
) -> NDArray[np.uint8]:
    """Decode the images or masks of a part in the order of its table into one array (N H W)."""
    assert part.table is not None
    files = part.images if kind == "images" else part.masks or {}
    ordered = [files[name] for name in part.table.index]
    tiles = allocate(f"{part.name}_{kind}", (len(ordered), TILE_SIZE, TILE_SIZE))

    def work(i: int) -> None:
        content = ordered[i].read()
        try:
            tiles[i] = decode(content)
        except ValueError as error:
            raise ValueError(f"{ordered[i].label}: {error}") from None

    in_threads(work, range(len(ordered)), f"{part.name} {kind}")
    return tiles
