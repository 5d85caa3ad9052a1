"""Read Kaggle's TGS archives as arrays: straight from the zips, checked, decoded once in threads."""

import hashlib
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from salt.config import TWO_VALUES
from salt.data import cache
from salt.data.amplitudes import Scaling
from salt.data.archive import Archive, Checkup, File, FirstError, Part, in_threads, open_folder, open_zip
from salt.data.image import TILE_SIZE, to_mask
from salt.data.kaggle import COMPETITION, COMPETITION_PAGE
from salt.data.source import AS_THEY_ARE, Source
from salt.data.tables import check_runs, depths_of, table_by_id
from salt.data.tiles import Dataset, Tiles
from salt.paths import composed

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
        is_zip = root.is_file() and root.suffix == ".zip"
        return is_zip or any((root / name).exists() for name in ("train.csv", OUTER_ZIP))

    def check(self) -> None:
        """Raise ValueError, with the ways to get data, if there are neither tables nor archives."""
        if self.recognises(self.root):
            return
        if self.root.exists():
            hint = " (is the variable SALT_DATA empty?)" if self.root == Path() else ""
            raise ValueError(f"data.root: {self.root} has no train.csv{hint}; expected {self.wanted}")
        raise ValueError(
            f"data.root: there is no folder {self.root}. Download the data from {COMPETITION_PAGE} (accept its rules "
            "first), or name the folder where it is: data.root=FOLDER or the variable SALT_DATA; data=synthetic "
            "needs no download."
        )

    def load(self, scaling: Scaling) -> Dataset:
        """Read and check the whole data set; its grey values need no scaling, and its masks are known everywhere."""
        if scaling.labels != TWO_VALUES:
            raise ValueError("data.labels: these masks have two values, expected null (data=folder takes others)")
        return read_dataset(self.root, self.cache)

    def unlabelled(self, place: Path, scaling: Scaling) -> Tiles:
        """Return the test tiles of another folder, with a cache of its own."""
        return read_dataset(place, self.cache and self.cache / "unlabelled").test

    def parts(self, found: Checkup, scaling: Scaling = AS_THEY_ARE) -> list[Part]:
        archive = open_root(self.root)
        return parts_of(archive, open_parts(archive, found), found)


def read_dataset(root: Path, cache_folder: Path | None = None) -> Dataset:
    """Read and check a folder in Kaggle's layout or the outer zip; raise ValueError with file and id."""
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
        masks = decode_tiles(train, "masks", allocate)
        check_runs(truth, masks, f"{archive.label}/train.csv")
        images = (decode_tiles(part, "images", allocate) for part in (train, test))
        return dict(zip(("train_masks", "train_images", "test_images"), (masks, *images), strict=True))

    if cache_folder is None:
        arrays = decode(lambda _, shape: np.empty(shape, np.uint8))
    else:
        counts = {"train_masks": len(ids), "train_images": len(ids), "test_images": len(test_ids)}
        shapes = {name: (n, TILE_SIZE, TILE_SIZE) for name, n in counts.items()}
        arrays = cache.cached_arrays(cache_folder, fingerprint(archive, opened), shapes, decode)
    tiles = Tiles(ids, arrays["train_images"], arrays["train_masks"], depths)
    return Dataset(tiles, Tiles(test_ids, arrays["test_images"], None, test_depths))


def fingerprint(archive: Archive, opened: dict[str, Archive]) -> str:
    """Return the SHA-256 of the tables and of every tile's name, size and checksum (unpacked: size and time)."""
    digest = hashlib.sha256()
    for name in TABLES.values():
        digest.update(archive.files[name].read())
    for part in opened.values():
        digest.update("\n".join(f"{name} {part.files[name].stamp}" for name in sorted(part.files)).encode())
    return digest.hexdigest()


def open_root(root: Path) -> Archive:
    """Return the files of the data folder, or of the outer zip (given itself, or alone in the folder)."""
    if not (root / "train.csv").exists() and (root / OUTER_ZIP).is_file():
        root = root / OUTER_ZIP
    TGS(root).check()
    archive = open_zip(root, str(root)) if root.is_file() else open_folder(root)
    if "train.csv" not in archive.files:
        raise ValueError(f"data.root: {root} has no train.csv; expected {TGS.wanted}")
    return archive


def open_parts(archive: Archive, found: Checkup) -> dict[str, Archive]:
    """Return the images and masks of "train" and "test", unpacked or in an inner zip; note one that is missing."""
    parts: dict[str, Archive] = {}
    for part in TABLES:
        place, zipped = archive.part(part), archive.files.get(f"{part}.zip")
        if zipped is not None and not place.part("images").files:
            inner = open_zip(BytesIO(zipped.read()), zipped.label)
            place = inner if inner.part("images").files else inner.part(part)
        if place.part("images").files:
            parts[part] = place
        else:
            message = f"{archive.label}: expected images in {part}.zip or {part}/images, found none"
            found.add("error", message, "download the data again")
    return parts


def parts_of(archive: Archive, opened: dict[str, Archive], found: Checkup) -> list[Part]:
    """Return the tiles with what the tables say of them; note problems of the tables."""
    depths, parts = table_by_id(archive, "depths.csv", ["id", "z"], found, needed=True), []
    for name, part in opened.items():
        table = table_by_id(archive, TABLES[name], ["id", "rle_mask"], found, needed=True)
        others = [n for n in part.files if n.startswith(("images/", "masks/")) and not n.endswith(".png")]
        strays = [n for n in others if table is not None and PurePosixPath(n).stem in table.index]
        if strays:
            found.add("error", f"{name} tiles in another format", "convert them to 8-bit grey PNG", *sorted(strays))
        masks = pngs(part, "masks") if name == "train" else None
        size, place = (TILE_SIZE, TILE_SIZE), part.label.removeprefix(archive.label).lstrip("/")
        parts.append(Part(name, pngs(part, "images"), masks, table, depths, size, place, TABLES[name]))
    return parts


def pngs(archive: Archive, folder: str) -> dict[str, File]:
    """Return the PNGs in a folder of an archive by id."""
    files = archive.part(folder).files
    return {composed(n.removesuffix(".png")): files[n] for n in sorted(files) if n.endswith(".png")}


def decode_tiles(part: Part, kind: str, allocate: cache.Allocate) -> NDArray[np.uint8]:
    """Decode the images or masks of a part in the order of its table into one array (N H W)."""
    assert part.table is not None
    files = part.images if kind == "images" else part.masks or {}
    ordered = [files[name] for name in part.table.index]
    tiles = allocate(f"{part.name}_{kind}", (len(ordered), TILE_SIZE, TILE_SIZE))

    def work(i: int) -> None:
        try:
            tiles[i] = decode_tile(ordered[i], mask=kind == "masks")
        except ValueError as error:
            raise ValueError(f"{ordered[i].label}: {error}") from None

    in_threads(work, range(len(ordered)), f"{part.name} {kind}")
    return tiles


def decode_tile(file: File, mask: bool) -> NDArray[np.generic]:
    """Return a tile's grey values, or its mask of any bit depth as 0 and 1 (H W)."""
    pixels = file.pixels(mask)
    if pixels.shape != (TILE_SIZE, TILE_SIZE):
        raise ValueError(f"is {pixels.shape[0]}x{pixels.shape[1]} pixels, expected {TILE_SIZE}x{TILE_SIZE}")
    if not mask and pixels.dtype != np.uint8:
        raise ValueError(f"has {pixels.dtype} pixels, expected 8 bits")
    return to_mask(pixels) if mask else pixels
