"""One's own data: a folder of images and masks with the same names, of any size and usual format."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import cpu_count
from tqdm import tqdm

from salt.config import Amplitudes
from salt.data import image, rle
from salt.data.archive import WANTED, Folder
from salt.data.png import to_mask
from salt.data.tgs import SHOWN, depths_of, read_table
from salt.data.tiles import Dataset, Tiles
from salt.machine import distributed
from salt.runs.stacks import Stack, as_stack, sizes_of

SAMPLED = 10_000  # pixels of each image from which the survey's percentiles are taken

Files = dict[str, Path]  # by id, which is the name without its extension


def read_folder(root: Path, amplitudes: Amplitudes) -> Dataset:
    """Read and check a folder.

    Raises:
        ValueError: something is missing, does not decode or does not fit together; the message names the file.
    """
    images, masks = list_files(root / "images"), list_files(root / "masks")
    check_partners(root, images, masks)
    test = list_files(test_folder(root)) if test_folder(root).is_dir() else {}
    source = Folder(root)
    truth = read_table(source, "train.csv", ["id", "rle_mask"]) if "train.csv" in source.names else None
    ids = list(images) if truth is None else in_order_of(truth, images, root)

    limits = amplitudes.limits
    if amplitudes.per == "survey" and limits is None:
        limits = survey_range([*images.values(), *test.values()], amplitudes.pair)
    grey = grey_reader(amplitudes, limits)
    train_images = decode_all([images[i] for i in ids], grey, "images")
    train_masks = decode_all([masks[i] for i in ids], to_mask, "masks")
    check_sizes(root, ids, masks, train_images, train_masks)
    if truth is not None:
        check_runs(truth, train_masks, root)
    test_ids = list(test)
    test_images = decode_all([test[i] for i in test_ids], grey, "test images") if test else train_images[:0]
    depths = [read_depths(source, part) for part in (ids, test_ids)]
    train = Tiles(ids, train_images, train_masks, depths[0])
    return Dataset(train, Tiles(test_ids, test_images, None, depths[1]), limits)


def read_images(folder: Path, amplitudes: Amplitudes) -> Tiles:
    """The images without a mask of a folder: those in test/images or test, or else those that lie in it.

    Raises:
        ValueError: there are none, or one does not decode.
    """
    files = list_files(test_folder(folder) if test_folder(folder).is_dir() else folder)
    limits, ids = amplitudes.limits, list(files)
    if amplitudes.per == "survey" and limits is None:
        limits = survey_range(list(files.values()), amplitudes.pair)
    images = decode_all(list(files.values()), grey_reader(amplitudes, limits), "images")
    return Tiles(ids, images, None, read_depths(Folder(folder), ids))


def test_folder(root: Path) -> Path:
    """Where images without a mask lie, if there are any: test/images or test."""
    inner = root / "test" / "images"
    return inner if inner.is_dir() else root / "test"


def list_files(folder: Path) -> Files:
    """The image files of a folder by id, in the order of their names; hidden files do not count.

    Raises:
        ValueError: there is no folder or no file, or one is not an image, or two have one name.
    """
    if not folder.is_dir():
        raise ValueError(f"data.root: there is no folder {folder}; {WANTED}")
    files: Files = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.suffix.lower() not in image.FORMATS:
            raise ValueError(f"{path}: has an unknown extension, expected one of {', '.join(image.FORMATS)}")
        if path.stem in files:
            raise ValueError(f"{path}: another file has the same name, {files[path.stem].name}; keep one of them")
        files[path.stem] = path
    if not files:
        raise ValueError(f"{folder}: holds no image; {WANTED}")
    return files


def check_partners(root: Path, images: Files, masks: Files) -> None:
    """Check that each image has a mask, and each mask an image."""
    for missing, folder, what, remedy in (
        (sorted(images.keys() - masks.keys()), "masks", "images", "images that have no mask belong into test"),
        (sorted(masks.keys() - images.keys()), "images", "masks", "add them, or remove the masks"),
    ):
        if missing:
            raise ValueError(
                f"{root / folder}: has no file for {len(missing)} {what}, e.g. {missing[:SHOWN]}; {remedy}"
            )


def in_order_of(truth: pd.DataFrame, images: Files, root: Path) -> list[str]:
    """The ids in the order of train.csv, which must name exactly the images."""
    odd = sorted(set(truth.index) ^ set(images))
    if odd:
        raise ValueError(f"{root}/train.csv: its ids are not those of images; {len(odd)} differ, e.g. {odd[:SHOWN]}")
    return list(truth.index)


def grey_reader(amplitudes: Amplitudes, limits: image.Range | None) -> Callable[[image.Array], Any]:
    """What makes grey values of pixels: by the survey's range, or by each image's own."""
    if limits is not None:
        return lambda pixels: image.to_grey(pixels, limits)
    return lambda pixels: image.to_grey(pixels, image.find_range(pixels, amplitudes.pair))


def survey_range(files: list[Path], percentiles: image.Range) -> image.Range | None:
    """The amplitudes at two percentiles of all images together; None if all have eight bits."""

    def sample(pixels: image.Array) -> image.Array:
        return np.random.default_rng(0).choice(pixels.ravel(), SAMPLED)

    parts = [part for part in read_all(files, sample, "amplitudes") if part.dtype != np.uint8]
    return image.find_range(np.concatenate(parts), percentiles) if parts else None


def decode_all(files: list[Path], convert: Callable[[image.Array], Any], title: str) -> Stack:
    """Decode image files into one array."""
    return as_stack(read_all(files, convert, title))


def read_all(files: list[Path], convert: Callable[[image.Array], Any], title: str) -> list[Any]:
    """Decode image files in threads, and convert each one's pixels."""

    def work(path: Path) -> Any:
        try:
            return convert(image.decode(path.name, path.read_bytes(), mask=convert is to_mask))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        except OSError as error:
            raise ValueError(f"{path}: cannot be read: {error.strerror}") from None

    hidden = distributed.hides_bars()
    with ThreadPoolExecutor(cpu_count()) as pool:
        return list(tqdm(pool.map(work, files), title, len(files), unit="tile", disable=hidden, leave=False))


def check_sizes(root: Path, ids: list[str], masks: Files, images: Stack, found: Stack) -> None:
    """Check that each mask has the size of its image."""
    for name, size, other in zip(ids, sizes_of(images), sizes_of(found), strict=True):
        if size != other:
            raise ValueError(
                f"{masks[name]}: is {other[0]}x{other[1]} pixels, expected {size[0]}x{size[1]}, as its image"
            )


def check_runs(truth: pd.DataFrame, masks: Stack, root: Path) -> None:
    """Check each mask against its run-length string in train.csv."""
    try:
        expected = rle.decode_sizes(truth["rle_mask"].tolist(), sizes_of(masks))
    except rle.RunLengthError as error:
        raise ValueError(f"{root}/train.csv: rle_mask of id {truth.index[error.row]}: {error.reason}") from None
    pairs = zip(truth.index, expected, masks, strict=True)
    differing = [name for name, runs, mask in pairs if (runs != mask).any()]
    if differing:
        raise ValueError(
            f"{root}/train.csv: {len(differing)} masks differ from their rle_mask, e.g. {differing[:SHOWN]}"
        )


def read_depths(source: Folder, ids: list[str]) -> Any:
    """Survey depths (N, feet) of depths.csv; NaN where there is none."""
    if "depths.csv" not in source.names or not ids:
        return np.full(len(ids), np.nan)
    return depths_of(read_table(source, "depths.csv", ["id", "z"]), pd.Index(ids), source.label)
