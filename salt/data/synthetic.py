"""Generated tiles with salt bodies in Kaggle's layout, and lines in a folder: for the demo, tests and first tries."""

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
from tqdm.auto import tqdm

from salt.data import rle
from salt.data.amplitudes import Scaling
from salt.data.image import TILE_SIZE
from salt.data.made_up import make_line, make_tiles
from salt.data.tgs import TGS, read_dataset
from salt.data.tiles import Dataset
from salt.runs.files import locked
from salt.runs.stacks import Size

MARKER = "synthetic.json"  # what the folder holds; written last
LOCK_SECONDS = 600.0  # to wait for another process that generates the same tiles


class Synthetic(TGS):
    """Generated tiles, written to `root` once: n_train with masks, n_test without."""

    competition = None

    def __init__(self, root: str | Path, n_train: int, n_test: int, seed: int, cache: str | None = None):
        super().__init__(root, cache)
        if n_train < 4 or n_test < 1 or seed < 0:
            raise ValueError(f"n_train={n_train}, n_test={n_test}, seed={seed}; expected at least 4, 1 and 0")
        self.tiles = {"n_train": n_train, "n_test": n_test, "seed": seed}

    @classmethod
    def recognises(cls, root: Path) -> bool:
        """Return False: a folder of generated tiles has Kaggle's layout."""
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
        if not (self.is_made() or has_no_files(self.root)):
            raise ValueError(
                f"data.root: {self.root} holds other files than the synthetic tiles {self.tiles}; name an empty or new "
                "folder"
            )

    def prepare(self) -> None:
        """Write the tiles, unless they are there."""
        self.check()
        if self.is_made():
            return
        with locked(self.root.parent, self.root.name, wait=LOCK_SECONDS):
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
        if not has_no_files(self.root):
            return super().load(scaling)
        with TemporaryDirectory() as folder:
            write_synthetic(Path(folder), **self.tiles)
            return read_dataset(Path(folder))


def write_synthetic(folder: Path, n_train: int, n_test: int, seed: int) -> None:
    """Write train.zip, test.zip and the three tables; the same seed gives the same bytes."""
    rng = np.random.default_rng(seed)
    unique: dict[str, None] = {}
    while len(unique) < n_train + n_test:
        unique[rng.bytes(5).hex()] = None
    ids, n = list(unique), n_train
    images, masks = make_tiles(rng, n_train)
    test_images, _ = make_tiles(rng, n_test)
    pairs = zip(ids, [*images, *test_images], strict=True)
    files = [(f"images/{i}.png", png(np.dstack([image] * 3))) for i, image in pairs]
    mask_files = [(f"masks/{i}.png", png(mask * 255)) for i, mask in zip(ids[:n], masks, strict=True)]
    write_zip(folder / "train.zip", files[:n] + mask_files)
    write_zip(folder / "test.zip", files[n:])
    tables: dict[str, dict[str, Any]] = {
        "train.csv": {"id": ids[:n], "rle_mask": rle.encode_all(masks)},
        "depths.csv": {"id": ids, "z": rng.integers(50, 960, len(ids))},
        "sample_submission.csv": {"id": ids[n:], "rle_mask": ["1 1"] * n_test},
    }
    for name, table in tables.items():
        pd.DataFrame(table).to_csv(folder / name, index=False, lineterminator="\n")


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Return the bytes of a PNG."""
    return cv2.imencode(".png", pixels)[1].tobytes()


def write_zip(path: Path, files: list[tuple[str, bytes]]) -> None:
    """Write a zip whose members do not have today's date."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files:
            archive.writestr(zipfile.ZipInfo(name), content)


def write_lines(folder: Path, n: int, size: Size, n_bodies: int, seed: int) -> None:
    """Write n lines for data=folder: 16-bit TIFFs in images, PNGs in masks.

    Raises:
        ValueError: the folder is not empty, or the lines are smaller than a tile.
    """
    if not has_no_files(folder):
        raise ValueError(f"{folder} is not empty; name a new folder")
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


def has_no_files(folder: Path) -> bool:
    """Return whether there is nothing at a place, or an empty folder."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
