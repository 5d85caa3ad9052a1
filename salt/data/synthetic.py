"""Seismic-looking tiles with salt bodies in Kaggle's layout, from a seed: for the demo, tests and first tries."""

import itertools
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from tqdm import tqdm

from salt.config import Amplitudes
from salt.data import rle
from salt.data.amplitudes import Scaling
from salt.data.tgs import TILE_SIZE

MARKER = "synthetic.json"  # in the folder, last written: what it holds
EMPTY = 0.39  # share of tiles without salt, as in Kaggle's train set
CONSTANT = 0.02  # share of tiles with one grey value, likewise
GREY, CONTRAST = 128, 40  # grey value of zero amplitude, grey values per unit of amplitude
ZERO, UNIT = 32768, 4000  # the same of a 16-bit line
STRETCH = (0.5, 99.5)  # percentiles of a cut tile that become 0 and 255
SALT_AMPLITUDE = 0.55  # inside salt, relative to the layers outside

Field = NDArray[np.float64]
Size = tuple[int, int]
TILE: Size = (TILE_SIZE, TILE_SIZE)


def ensure_synthetic(root: Path, n_train: int, n_test: int, seed: int) -> None:
    """Write the data set to `root`, unless exactly this one is there.

    Raises:
        ValueError: the folder holds something else.
    """
    if holds_synthetic(root, n_train, n_test, seed):
        return
    temporary = root.with_name(f".{root.name}.tmp")  # the caller holds a lock
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    write_synthetic(temporary, n_train, n_test, seed)
    marker = json.dumps({"n_train": n_train, "n_test": n_test, "seed": seed})
    (temporary / MARKER).write_text(marker, encoding="utf-8")
    if root.exists():
        root.rmdir()
    temporary.rename(root)  # whole or not there


def holds_synthetic(root: Path, n_train: int, n_test: int, seed: int) -> bool:
    """Whether exactly this data set is at `root`; False if nothing is.

    Raises:
        ValueError: the folder holds something else.
    """
    wanted = {"n_train": n_train, "n_test": n_test, "seed": seed}
    marker = root / MARKER
    if marker.is_file() and json.loads(marker.read_text(encoding="utf-8")) == wanted:
        return True
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ValueError(
            f"data.root: {root} holds other files than the synthetic tiles {wanted}; name an empty or new folder"
        )
    return False


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


def make_tiles(rng: np.random.Generator, n: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """n images (N H W, grey 0-255) and masks (N H W, 0 or 1), shuffled."""
    n_constant = round(n * CONSTANT)
    n_empty = max(round(n * EMPTY), n_constant)
    kinds = rng.permutation(["constant"] * n_constant + ["layers"] * (n_empty - n_constant) + ["salt"] * (n - n_empty))
    tiles = [make_tile(rng, kind) for kind in tqdm(kinds, "generate", unit="tile", disable=None, leave=False)]
    return np.stack([image for image, _ in tiles]), np.stack([mask for _, mask in tiles])


def make_tile(rng: np.random.Generator, kind: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One image and mask (H W) of kind "constant", "layers" or "salt"."""
    nothing = np.zeros(TILE, dtype=np.uint8)
    if kind == "constant":
        return nothing + np.uint8(rng.integers(0, 200)), nothing
    outside = layers(rng, TILE)
    mask = salt_body(rng) if kind == "salt" else nothing.astype(bool)
    amplitude = with_salt(rng, outside, mask)
    image = np.clip(GREY + CONTRAST * rng.uniform(0.7, 1.3) * amplitude, 0, 255).astype(np.uint8)
    return image, mask.astype(np.uint8)


def make_line(rng: np.random.Generator, size: Size, n_bodies: int) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """A line of 16-bit amplitudes and its mask (H W), with salt bodies much larger than a tile."""
    outside = layers(rng, size, faults=int(rng.integers(2, 8)))
    mask = np.zeros(size, dtype=bool)
    for _ in range(n_bodies):
        mask |= large_body(rng, size)
    amplitude = with_salt(rng, outside, mask)
    return np.clip(ZERO + UNIT * amplitude, 0, 65535).astype(np.uint16), mask.astype(np.uint8)


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
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not empty; name a new folder")


def with_salt(rng: np.random.Generator, outside: Field, mask: NDArray[np.bool_]) -> Field:
    """Amplitudes (H W) of layers outside the mask and salt inside it, with the reflection of its top, and noise."""
    amplitude = outside
    if mask.any():
        amplitude = np.where(mask, SALT_AMPLITUDE * noise(rng, rng.uniform(0.9, 1.6), mask.shape), amplitude)
        amplitude += top_reflector(rng, mask)
    return amplitude + rng.uniform(0.1, 0.35) * noise(rng, 0.7, mask.shape)


def ricker(t: Field, period: float) -> Field:
    """Ricker wavelet (Ricker 1953): second derivative of a Gaussian, 1 at t = 0, main frequency 1 / period."""
    a = (np.pi * t / period) ** 2
    return (1 - 2 * a) * np.exp(-a)


def layers(rng: np.random.Generator, size: Size, faults: int | None = None) -> Field:
    """Layered reflectivity convolved with a wavelet, then dipped, folded and faulted; unit spread."""
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
    """Pixels down and pixels to the right (each H W)."""
    z, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
    return z, x


def salt_body(rng: np.random.Generator) -> NDArray[np.bool_]:
    """A dome that rises from below in a tile, or a closed body; never empty."""
    z, x = grid(TILE)
    wave = sum(
        (rng.normal(0, 5 / k) * np.sin(2 * np.pi * k * x / TILE_SIZE + rng.uniform(0, 6.3)) for k in (1, 2, 3)),
        np.zeros(()),
    )
    if rng.random() < 0.6:
        center, width = rng.uniform(0, TILE_SIZE), rng.uniform(15, 60)
        top = rng.uniform(5, 75) + 70 * (1 - np.exp(-(((x - center) / width) ** 2)))
        body = top + wave < z
    else:
        depth, place, radius = rng.uniform(20, 80), rng.uniform(15, 85), rng.uniform(10, 35)
        body = np.hypot((z - depth) * rng.uniform(0.8, 1.8), x - place) + wave < radius
    return body if body.any() else salt_body(rng)


def large_body(rng: np.random.Generator, size: Size) -> NDArray[np.bool_]:
    """A closed body in a line, of up to a quarter of its height."""
    z, x = grid(size)
    wave = sum(
        (rng.normal(0, 12 / k) * np.sin(2 * np.pi * k * x / 400 + rng.uniform(0, 6.3)) for k in (1, 2, 3)),
        np.zeros(()),
    )
    depth, place = rng.uniform(0.1, 0.9, 2) * size
    radius = rng.uniform(0.08, 0.25) * min(size)
    return np.asarray(np.hypot((z - depth) * rng.uniform(0.8, 1.8), x - place) + wave < radius)


def top_reflector(rng: np.random.Generator, mask: NDArray[np.bool_]) -> Field:
    """A strong reflection along the upper boundary of the salt."""
    distance = ndimage.distance_transform_edt(~mask) - ndimage.distance_transform_edt(mask)
    upper = np.cumsum(mask, axis=0) < 8  # the flanks and the base reflect little
    return np.asarray(rng.uniform(1.5, 3) * ricker(distance, rng.uniform(6, 10)) * upper)


def noise(rng: np.random.Generator, blur: float, size: Size) -> Field:
    """Noise without direction, blurred by so many pixels; unit spread."""
    field = ndimage.gaussian_filter(rng.normal(size=size), blur)
    return np.asarray(field / field.std())
