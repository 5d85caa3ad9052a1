"""One's own data: a folder of images and masks with the same names, of any size and usual format."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import cpu_count
from numpy.typing import NDArray
from tqdm import tqdm

from salt.data import image, rle
from salt.data.amplitudes import Grey, Scaling, find_range, remarks
from salt.data.archive import WANTED, Folder, Source
from salt.data.image import salt_value, several_values, to_mask
from salt.data.names import by_composed_id, id_of, is_text, shown
from salt.data.tgs import SHOWN, depths_of, read_table
from salt.data.tiles import Dataset, Tiles
from salt.machine import distributed
from salt.runs.stacks import Stack, as_stack, sizes_of

SAMPLED = 10_000  # pixels of each image from which the survey's percentiles are taken

log = logging.getLogger("salt")

Files = dict[str, Path]  # by id, which is the name without its extension


def read_folder(root: Path, scaling: Scaling) -> Dataset:
    """Read and check a folder.

    Raises:
        ValueError: something is missing, does not decode or does not fit together; the message names the file.
    """
    images, masks = list_files(root / "images"), list_files(root / "masks")
    check_partners(root, images, masks)
    test = list_files(test_folder(root)) if test_folder(root).is_dir() else {}
    source = Folder(root)
    truth = own_table(source, "train.csv", ["id", "rle_mask"]) if "train.csv" in source.names else None
    ids = list(images) if truth is None else in_order_of(truth, images, root)

    scaling = with_survey_range(scaling, [*images.values(), *test.values()])
    train = read_tiles(source, {i: images[i] for i in ids}, scaling, "images")
    train_masks = read_masks([masks[i] for i in ids])
    check_sizes(root, ids, masks, train.images, train_masks)
    if truth is not None:
        check_runs(truth, train_masks, root)
    nothing = Tiles([], train.images[:0], None, train.depths[:0])
    test_tiles = read_tiles(source, test, scaling, "test images") if test else nothing
    return Dataset(replace(train, masks=train_masks), test_tiles, scaling.amplitudes.limits)


def read_images(folder: Path, scaling: Scaling) -> Tiles:
    """The images without a mask of a folder: those in test/images or test, or else those that lie in it.

    Raises:
        ValueError: there are none, or one does not decode.
    """
    files = list_files(test_folder(folder) if test_folder(folder).is_dir() else folder)
    return read_tiles(Folder(folder), files, with_survey_range(scaling, list(files.values())), "images")


def read_tiles(source: Folder, files: Files, scaling: Scaling, title: str) -> Tiles:
    """Read images as tiles without masks, and warn of what may be wrong with their amplitudes."""
    greys: list[Grey] = read_all(list(files.values()), scaling, title)
    odd = [(path, lines[0]) for path, grey in zip(files.values(), greys, strict=True) if (lines := remarks(grey))]
    if odd:
        log.warning("%s: %s (%d of %d %s are odd; salt-data check lists them)", *odd[0], len(odd), len(greys), title)
    missing = as_stack([grey.missing for grey in greys]) if any(grey.missing.any() for grey in greys) else None
    ids = list(files)
    return Tiles(ids, as_stack([grey.levels for grey in greys]), None, read_depths(source, ids), missing)


def read_masks(files: list[Path]) -> Stack:
    """Read masks (N H W) with the values 0 and 1, and warn if salt has another value in some than in others."""
    pixels: list[tuple[NDArray[np.uint8], float | None]] = read_all(
        files, lambda p: (to_mask(p), salt_value(p)), "masks", mask=True
    )
    values = {
        value: path for (_, value), path in zip(reversed(pixels), reversed(files), strict=True) if value is not None
    }
    if len(values) > 1:
        log.warning("masks: %s", several_values({value: path.name for value, path in values.items()}))
    return as_stack([mask for mask, _ in pixels])


def test_folder(root: Path) -> Path:
    """Where images without a mask lie, if there are any: test/images or test."""
    inner = root / "test" / "images"
    return inner if inner.is_dir() else root / "test"


def list_files(folder: Path) -> Files:
    """Return the image files of a folder by id, in the order of their names; hidden files do not count.

    Raises:
        ValueError: there is no folder or no file, or one is not an image, two have one name, or a name is not UTF-8.
    """
    if not folder.is_dir():
        raise ValueError(f"data.root: there is no folder {folder}; {WANTED}")
    files: Files = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.suffix.lower() not in image.FORMATS:
            raise ValueError(f"{path}: has an unknown extension, expected one of {', '.join(image.FORMATS)}")
        name = id_of(path)
        if not is_text(name):
            raise ValueError(f"{shown(path)}: its name is not UTF-8; rename it")
        if name in files:
            raise ValueError(f"{path}: another file has the same name, {files[name].name}; keep one of them")
        files[name] = path
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


def with_survey_range(scaling: Scaling, files: list[Path]) -> Scaling:
    """Return the scaling with the range of all images together, if it asks for the survey's; 8-bit images have none.

    Raises:
        ValueError: the images have several types of samples, whose amplitudes cannot be compared.
    """
    amplitudes = scaling.amplitudes
    if amplitudes.per == "image" or amplitudes.limits is not None:
        return scaling

    def sample(pixels: image.Array) -> image.Array:
        known = scaling.split(pixels)[1]
        return np.random.default_rng(0).choice(known, SAMPLED) if known.size else known

    parts = read_all(files, sample, "amplitudes")
    kinds = {kind_of(part): path for path, part in zip(reversed(files), reversed(parts), strict=True)}
    if len(kinds) > 1:
        found = ", ".join(f"{kind} ({path.name})" for kind, path in kinds.items())
        raise ValueError(
            f"data.amplitudes.per=survey: the images have several types of samples, {found}; expected one, or per=image"
        )
    if "uint8" in kinds:
        return scaling
    limits = list(find_range(np.concatenate(parts), amplitudes.pair))
    return Scaling(amplitudes.model_copy(update={"range": limits}), scaling.nodata)


def kind_of(samples: image.Array) -> str:
    """Return the type of samples, one for floats of all widths."""
    return "float" if samples.dtype.kind == "f" else str(samples.dtype)


def read_all(files: list[Path], convert: Callable[[image.Array], Any], title: str, mask: bool = False) -> list[Any]:
    """Decode image files in threads, and convert each one's pixels."""

    def work(path: Path) -> Any:
        try:
            return convert(image.decode(path.name, path.read_bytes(), mask=mask))
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
    return depths_of(own_table(source, "depths.csv", ["id", "z"]), pd.Index(ids), source.label)


def own_table(source: Source, name: str, columns: list[str]) -> pd.DataFrame:
    """Read a table as `read_table`, with ids in the spelling of `list_files`.

    Raises:
        ValueError: it is missing or damaged.
    """
    return by_composed_id(read_table(source, name, columns), f"{source.label}/{name}")
