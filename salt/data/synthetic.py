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
from scipy import ndimage
from tqdm.auto import tqdm

from salt.data import rle
from salt.data.amplitudes import Scaling
from salt.data.image import TILE_SIZE
from salt.data.tgs import TGS, read_dataset
from salt.data.tiles import Dataset
from salt.runs.files import locked
from salt.runs.stacks import Size

MARKER = "synthetic.json"  # what the folder holds; written last
LOCK_SECONDS = 600.0  # to wait for another process that generates the same tiles
SHARE_EMPTY = 0.39  # share of tiles without salt, as in Kaggle's train set
SHARE_CONSTANT = 0.02  # share of tiles with one grey value, likewise
GREY, CONTRAST = 128, 40  # grey value of zero amplitude, grey values per unit of amplitude
ZERO, UNIT = 32768, 4000  # the same of a 16-bit line
SALT_AMPLITUDE = 0.55  # inside salt, relative to the layers outside
Field = NDArray[np.float64]
TILE: Size = (TILE_SIZE, TILE_SIZE)


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
        """Raise ValueError if the folder holds something else than the tiles."""
        if not (self.is_made() or has_no_files(self.root)):
            others = f"holds other files than the synthetic tiles {self.tiles}"
            raise ValueError(f"data.root: {self.root} {others}; name an empty or new folder")

    def prepare(self) -> None:
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
    """Write n lines for data=folder: 16-bit TIFFs and PNG masks; raise ValueError if the folder is not empty."""
    if not has_no_files(folder):
        raise ValueError(f"{folder} is not empty; name a new folder")
    if min(size) < TILE_SIZE or n < 1 or n_bodies < 0:
        lines = f"{n} lines of {size[0]}x{size[1]} pixels with {n_bodies} bodies"
        raise ValueError(f"{lines}, expected {TILE_SIZE} or more")
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for i in tqdm(range(n), "generate", unit="line", disable=None, leave=False):
        image, mask = make_line(np.random.default_rng((seed, i)), size, n_bodies)
        (folder / "images" / f"line_{i}.tif").write_bytes(cv2.imencode(".tif", image)[1].tobytes())
        (folder / "masks" / f"line_{i}.png").write_bytes(png(mask * 255))


def has_no_files(folder: Path) -> bool:
    """Return whether there is nothing at a place, or an empty folder."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def make_tiles(rng: np.random.Generator, n: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return n images (N H W, grey 0-255) and masks (N H W, 0 or 1), shuffled."""
    n_constant = round(n * SHARE_CONSTANT)
    n_empty = max(round(n * SHARE_EMPTY), n_constant)
    kinds = rng.permutation(["constant"] * n_constant + ["layers"] * (n_empty - n_constant) + ["salt"] * (n - n_empty))
    tiles = [make_tile(rng, kind) for kind in tqdm(kinds, "generate", unit="tile", disable=None, leave=False)]
    return np.stack([image for image, _ in tiles]), np.stack([mask for _, mask in tiles])


def make_tile(rng: np.random.Generator, kind: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return one image and mask (H W) of kind "constant", "layers" or "salt"."""
    nothing = np.zeros(TILE, dtype=np.uint8)
    if kind == "constant":
        return nothing + np.uint8(rng.integers(0, 200)), nothing
    outside = layers(rng, TILE)
    mask = salt_body(rng) if kind == "salt" else nothing.astype(bool)
    amplitude = with_salt(rng, outside, mask)
    image = np.clip(GREY + CONTRAST * rng.uniform(0.7, 1.3) * amplitude, 0, 255).astype(np.uint8)
    return image, mask.astype(np.uint8)


def make_line(rng: np.random.Generator, size: Size, n_bodies: int) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Return a line of 16-bit amplitudes and its mask (H W), with salt bodies much larger than a tile."""
    outside = layers(rng, size, faults=int(rng.integers(2, 8)))
    mask = np.zeros(size, dtype=bool)
    for _ in range(n_bodies):
        mask |= large_body(rng, size)
    amplitude = with_salt(rng, outside, mask)
    return np.clip(ZERO + UNIT * amplitude, 0, 65535).astype(np.uint16), mask.astype(np.uint8)


def with_salt(rng: np.random.Generator, outside: Field, mask: NDArray[np.bool_]) -> Field:
    """Return amplitudes (H W) of layers, salt inside the mask, the reflection of its top, and noise."""
    amplitude = outside
    if mask.any():
        amplitude = np.where(mask, SALT_AMPLITUDE * noise(rng, rng.uniform(0.9, 1.6), mask.shape), amplitude)
        amplitude += top_reflector(rng, mask)
    return amplitude + rng.uniform(0.1, 0.35) * noise(rng, 0.7, mask.shape)


def ricker(t: Field, period: float) -> Field:
    """Return a Ricker wavelet (Ricker 1953): second derivative of a Gaussian, 1 at t = 0, main frequency 1 / period."""
    a = (np.pi * t / period) ** 2
    return (1 - 2 * a) * np.exp(-a)


def layers(rng: np.random.Generator, size: Size, faults: int | None = None) -> Field:
    """Return layered reflectivity convolved with a wavelet, then dipped, folded and faulted; unit spread."""
    z, x = grid(size)
    reach = max(size)
    depth = np.arange(-2.0 * reach, 3.0 * reach)
    reflectivity = rng.normal(size=depth.size) * (rng.random(depth.size) < 0.25)
    trace = np.convolve(reflectivity, ricker(np.arange(-15.0, 16.0), rng.uniform(6, 13)), mode="same")
    dip, bend = rng.normal(0, 0.25), rng.uniform(0, 6)
    position = z + dip * x + bend * np.sin(2 * np.pi * (x / rng.uniform(60, 200) + rng.random()))
    for _ in range(rng.integers(0, 3) if faults is None else faults):
        fault = x + rng.normal(0, 0.5) * z > rng.uniform(0, size[1])
        position = position + fault * rng.normal(0, 8)
    return np.interp(position, depth, trace / trace.std())


def grid(size: Size) -> tuple[Field, Field]:
    """Return pixels down and pixels to the right (each H W)."""
    z, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
    return z, x


def wave(rng: np.random.Generator, x: Field, height: float, period: float) -> Field:
    """Return a random wave along x, in pixels, that bends the boundary of a body."""
    parts = (rng.normal(0, height / k) * np.sin(2 * np.pi * k * x / period + rng.uniform(0, 6.3)) for k in (1, 2, 3))
    return sum(parts, np.zeros(()))


def salt_body(rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return a dome that rises from below in a tile, or a closed body; never empty."""
    z, x = grid(TILE)
    bend = wave(rng, x, 5, TILE_SIZE)
    if rng.random() < 0.6:
        center, width = rng.uniform(0, TILE_SIZE), rng.uniform(15, 60)
        top = rng.uniform(5, 75) + 70 * (1 - np.exp(-(((x - center) / width) ** 2)))
        body = top + bend < z
    else:
        depth, place, radius = rng.uniform(20, 80), rng.uniform(15, 85), rng.uniform(10, 35)
        body = np.hypot((z - depth) * rng.uniform(0.8, 1.8), x - place) + bend < radius
    return body if body.any() else salt_body(rng)


def large_body(rng: np.random.Generator, size: Size) -> NDArray[np.bool_]:
    """Return a closed body in a line, of up to a quarter of its height."""
    z, x = grid(size)
    bend = wave(rng, x, 12, 400)
    depth, place = rng.uniform(0.1, 0.9, 2) * size
    radius = rng.uniform(0.08, 0.25) * min(size)
    return np.asarray(np.hypot((z - depth) * rng.uniform(0.8, 1.8), x - place) + bend < radius)


def top_reflector(rng: np.random.Generator, mask: NDArray[np.bool_]) -> Field:
    """Return a strong reflection along the upper boundary of the salt."""
    distance = ndimage.distance_transform_edt(~mask) - ndimage.distance_transform_edt(mask)
    upper = np.cumsum(mask, axis=0) < 8  # the flanks and the base reflect little
    return np.asarray(rng.uniform(1.5, 3) * ricker(distance, rng.uniform(6, 10)) * upper)


def noise(rng: np.random.Generator, blur: float, size: Size) -> Field:
    """Return noise without direction, blurred by so many pixels; unit spread."""
    field = ndimage.gaussian_filter(rng.normal(size=size), blur)
    return np.asarray(field / field.std())
