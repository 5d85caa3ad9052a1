"""Seismic-looking tiles with salt bodies in Kaggle's layout, from a seed: for the demo, tests and first tries."""

import itertools
import json
import shutil
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from salt.config import Amplitudes
from salt.data import rle
from salt.data.amplitudes import Scaling
from salt.data.image import TILE_SIZE
from salt.data.made_up import make_line, make_tiles
from salt.data.tgs import TGS, read_dataset
from salt.data.tiles import Dataset
from salt.runs.files import locked
from salt.runs.stacks import Size

MARKER = "synthetic.json"  # in the folder, last written: what it holds
STRETCH = (0.5, 99.5)  # percentiles of a cut tile that become 0 and 255
SECONDS = 600.0  # to wait for another process that generates the same tiles


class Synthetic(TGS):
    """Generated tiles, which are written to `root` once: n_train with masks, n_test without."""

    competition = None

    def __init__(self, root: str | Path, n_train: int, n_test: int, seed: int, cache: str | None = None):
        super().__init__(root, cache)
        if n_train < 4 or n_test < 1 or seed < 0:
            raise ValueError(f"n_train={n_train}, n_test={n_test}, seed={seed}; expected at least 4, 1 and 0")
        self.tiles = {"n_train": n_train, "n_test": n_test, "seed": seed}

    @classmethod
    def recognises(cls, root: Path) -> bool:
        """Return False: a folder of generated tiles is one of Kaggle's layout."""
        return False

    def is_made(self) -> bool:
        """Return whether exactly these tiles are at `root`."""
        marker = self.root / MARKER
        return marker.is_file() and json.loads(marker.read_text(encoding="utf-8")) == self.tiles

    def check(self) -> None:
        """Check that the tiles are there, or nothing.

        Raises:
            ValueError: the folder holds something else.
        """
        if not (self.is_made() or is_empty(self.root)):
            raise ValueError(
                f"data.root: {self.root} holds other files than the synthetic tiles {self.tiles}; name an empty or new "
                "folder"
            )

    def prepare(self) -> None:
        """Write the tiles, unless they are there."""
        self.check()
        if self.is_made():
            return
        with locked(self.root.parent, self.root.name, wait=SECONDS):
            if self.is_made():  # by another process
                return
            temporary = self.root.with_name(f".{self.root.name}.tmp")
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            write_synthetic(temporary, **self.tiles)
            (temporary / MARKER).write_text(json.dumps(self.tiles), encoding="utf-8")
            if self.root.exists():
                self.root.rmdir()
            temporary.rename(self.root)  # whole or not there

    def load(self, scaling: Scaling) -> Dataset:
        """Read the tiles; if there are none yet, generate them in a temporary folder."""
        if not is_empty(self.root):
            return super().load(scaling)
        with TemporaryDirectory() as folder:
            write_synthetic(Path(folder), **self.tiles)
            return read_dataset(Path(folder))


def write_synthetic(folder: Path, n_train: int, n_test: int, seed: int) -> None:
    """Write train.zip, test.zip and the three tables; the same seed gives the same bytes."""
    rng = np.random.default_rng(seed)
    ids = unique_ids(rng, n_train + n_test)
    images, masks = make_tiles(rng, n_train)
    test_images, _ = make_tiles(rng, n_test)
    write_kaggle(rng, folder, ids, [*images, *test_images], list(masks))


def write_kaggle(
    rng: np.random.Generator,
    folder: Path,
    ids: list[str],
    images: list[NDArray[np.uint8]],
    masks: list[NDArray[np.uint8]],
) -> None:
    """Write tiles in Kaggle's layout: those that have masks for training, the rest as test tiles."""
    n = len(masks)
    files = {f"images/{i}.png": png(np.dstack([image] * 3)) for i, image in zip(ids, images, strict=True)}
    masks_files = {f"masks/{i}.png": png(mask * 255) for i, mask in zip(ids[:n], masks, strict=True)}
    write_zip(folder / "train.zip", dict(list(files.items())[:n]) | masks_files)
    write_zip(folder / "test.zip", dict(list(files.items())[n:]))
    tables: dict[str, dict[str, Any]] = {
        "train.csv": {"id": ids[:n], "rle_mask": rle.encode_all(np.stack(masks))},
        "depths.csv": {"id": ids, "z": rng.integers(50, 960, len(ids))},
        "sample_submission.csv": {"id": ids[n:], "rle_mask": ["1 1"] * (len(ids) - n)},
    }
    for name, table in tables.items():
        pd.DataFrame(table).to_csv(folder / name, index=False, lineterminator="\n")


def unique_ids(rng: np.random.Generator, n: int) -> list[str]:
    """n different ids of ten hexadecimal digits."""
    ids: dict[str, None] = {}
    while len(ids) < n:
        ids[rng.bytes(5).hex()] = None
    return list(ids)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """The bytes of a PNG."""
    return cv2.imencode(".png", pixels)[1].tobytes()


def write_zip(path: Path, files: dict[str, bytes]) -> None:
    """Write a zip whose members have no date of today."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)


def write_lines(folder: Path, n: int, size: Size, n_bodies: int, seed: int) -> None:
    """Write n lines as a folder of one's own data: 16-bit TIFFs in images, PNGs in masks.

    Raises:
        ValueError: the folder holds something already, or the lines are smaller than a tile.
    """
    check_new(folder)
    if min(size) < TILE_SIZE or n < 1 or n_bodies < 0:
        raise ValueError(
            f"{n} lines of {size[0]}x{size[1]} pixels with {n_bodies} bodies, expected {TILE_SIZE} or more"
        )
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for i in tqdm(range(n), "generate", unit="line", disable=None, leave=False):
        image, mask = make_line(np.random.default_rng((seed, i)), size, n_bodies)
        (folder / "images" / f"line_{i}.tif").write_bytes(cv2.imencode(".tif", image)[1].tobytes())
        (folder / "masks" / f"line_{i}.png").write_bytes(png(mask * 255))


def cut_lines(
    rng: np.random.Generator, n: int, rows: int, columns: int, held_back: float
) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]], pd.DataFrame]:
    """Tiles (grey 0-255) of n lines, each stretched by its own percentiles, their masks (0 or 1), and where they lie.

    A share of the tiles is held back, the others are shuffled. The table's columns: mosaic (the line), row, column.
    """
    tiles, masks, places = [], [], []
    scaling = Scaling(Amplitudes(per="image", percentiles=list(STRETCH), range=None))
    for line in tqdm(range(n), "generate", unit="line", disable=None, leave=False):
        amplitudes, mask = make_line(rng, (rows * TILE_SIZE, columns * TILE_SIZE), n_bodies=2)
        for row, column in itertools.product(range(rows), range(columns)):
            if rng.random() < held_back:
                continue
            y, x = row * TILE_SIZE, column * TILE_SIZE
            tile = amplitudes[y : y + TILE_SIZE, x : x + TILE_SIZE]
            tiles.append(scaling(tile).levels)
            masks.append(mask[y : y + TILE_SIZE, x : x + TILE_SIZE])
            places.append((line, row, column))
    order = rng.permutation(len(tiles))
    table = pd.DataFrame(places, columns=["mosaic", "row", "column"]).iloc[order].reset_index(drop=True)
    return [tiles[i] for i in order], [masks[i] for i in order], table


def write_tiles(folder: Path, n: int, size: Size, held_back: float, test_share: float, seed: int) -> int:
    """Write the tiles of n lines of `size` (rows, columns) in Kaggle's layout; returns their number.

    truth.csv tells where each lies, in the form of `salt-data mosaic` (id, mosaic, row, column).

    Raises:
        ValueError: the folder holds something already, or too few tiles are left.
    """
    check_new(folder)
    if n < 1 or min(size) < 1 or not 0 <= held_back < 1 or not 0 < test_share < 1:
        raise ValueError(f"{n} lines of {size[0]}x{size[1]} tiles, {held_back} held back, {test_share} as test tiles")
    rng = np.random.default_rng(seed)
    images, masks, places = cut_lines(rng, n, *size, held_back)
    n_test = round(test_share * len(images))
    if not 0 < n_test < len(images):
        raise ValueError(f"{len(images)} tiles are too few to divide; ask for more or longer lines")
    folder.mkdir(parents=True, exist_ok=True)
    ids = unique_ids(rng, len(images))
    write_kaggle(rng, folder, ids, images, masks[: len(images) - n_test])
    places.assign(id=ids)[["id", "mosaic", "row", "column"]].to_csv(folder / "truth.csv", index=False)
    return len(images)


def check_new(folder: Path) -> None:
    """Refuse a folder that holds something already."""
    if not is_empty(folder):
        raise ValueError(f"{folder} is not empty; name a new folder")


def is_empty(folder: Path) -> bool:
    """Return whether there is nothing at a place, or an empty folder."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
