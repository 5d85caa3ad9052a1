"""A check of a data folder that reports all problems at once, where reading it for a run stops at the first."""

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath

import pandas as pd

from salt.config import Amplitudes
from salt.data import image
from salt.data.amplitudes import Scaling
from salt.data.archive import OUTER_ZIP, Folder, Source
from salt.data.check_pixels import check_part
from salt.data.checkup import Checkup, Part
from salt.data.folder import own_table, test_folder
from salt.data.names import id_of, is_text, shown
from salt.data.tgs import open_part, open_root, read_table

BY_IMAGE = Amplitudes(per="image", percentiles=[1, 99], range=None)  # as configs/data/folder.yaml


def check(root: Path, nodata: float | None = None) -> Checkup:
    """Look at every table, image and mask of a data folder, in Kaggle's layout or with the folders images and masks.

    `nodata` is an amplitude that marks missing pixels.

    Raises:
        ValueError: there is no data at all.
    """
    found = Checkup()
    if root.is_dir() and not any((root / name).exists() for name in ("images", "train.csv", OUTER_ZIP)):
        raise ValueError(
            f"{root} holds no data set, expected the folders images and masks, or Kaggle's train.csv, depths.csv, "
            f"sample_submission.csv, train.zip and test.zip, or its {OUTER_ZIP}"
        )
    parts = own_parts(root, found) if (root / "images").is_dir() else kaggle_parts(root, found)
    hashes: dict[str, list[str]] = defaultdict(list)
    for part in parts:
        check_partners(part, found)
        check_part(part, Scaling(BY_IMAGE, nodata), found, hashes)
    for names in hashes.values():
        if len(names) > 1:
            found.add("warning", "the same image more than once", "keep one, or put them into one fold", *names)
    return found


def own_parts(root: Path, found: Checkup) -> list[Part]:
    """The train and test images of one's own folder."""
    table = read_if_there(Folder(root), "train.csv", ["id", "rle_mask"], found, own=True)
    train = Part("train", {}, {}, {}, table)
    list_folder(root / "images", "images", train.images, train.extensions, found)
    assert train.masks is not None
    list_folder(root / "masks", "masks", train.masks, train.extensions, found)
    test = Part("test", {}, None, {})
    if test_folder(root).is_dir():
        list_folder(test_folder(root), "images", test.images, test.extensions, found)
        if not test.images:
            found.add("error", "the folder test holds no image", "remove the folder, or add the images")
    if not train.images:
        found.add("error", "the folder images holds no image", "add the images and their masks")
    check_tables(root, train, test, found)
    return [train, test] if test.images else [train]


def check_tables(root: Path, train: Part, test: Part, found: Checkup) -> None:
    """Note images that depths.csv or folds.csv of one's own folder do not know, where these are there."""
    depths = read_if_there(Folder(root), "depths.csv", ["id", "z"], found, own=True)
    if depths is not None:
        missing = sorted((train.images.keys() | test.images.keys()) - set(depths.index))
        if missing:
            found.add("error", "images without a depth in depths.csv", "add them, or remove depths.csv", *missing)
    folds = read_if_there(Folder(root), "folds.csv", ["id", "fold"], found, own=True)
    if folds is not None:
        odd = sorted(train.images.keys() ^ set(folds.index))
        if odd:
            found.add("error", "ids of folds.csv are not those of images", "give each image one fold", *odd)


def list_folder(
    folder: Path, kind: str, files: dict[str, Callable[[], bytes]], extensions: dict[str, str], found: Checkup
) -> None:
    """Add the image files of a folder by id."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        name = id_of(path)
        if path.name.startswith("."):
            continue
        if path.suffix.lower() not in image.FORMATS:
            known = ", ".join(image.FORMATS)
            found.add("error", "unknown extension", f"convert to one of {known}, or move the file away", shown(path))
        elif not is_text(name):
            found.add("error", "file names that are not UTF-8", "rename them", shown(path))
        elif name in files:
            found.add("error", "two files of one name", "keep one of them", shown(path))
        else:
            files[name], extensions[f"{kind}/{name}"] = path.read_bytes, path.suffix


def kaggle_parts(root: Path, found: Checkup) -> list[Part]:
    """The train and test images in Kaggle's layout."""
    source = open_root(root)
    depths = read_if_there(source, "depths.csv", ["id", "z"], found)
    parts = []
    for name, file in (("train", "train.csv"), ("test", "sample_submission.csv")):
        table = read_if_there(source, file, ["id", "rle_mask"], found)
        if table is not None and depths is not None:
            missing = table.index.difference(depths.index)
            if len(missing):
                found.add("error", f"ids of {file} without a depth", "add them to depths.csv", *missing)
        try:
            files = open_part(source, name)
        except ValueError as error:
            found.add("error", str(error), "download the data again")
            continue
        masks = files_of(files, "masks") if name == "train" else None
        images = files_of(files, "images")
        extensions = {f"images/{i}": ".png" for i in images} | {f"masks/{i}": ".png" for i in masks or ()}
        parts.append(Part(name, images, masks, extensions, table, kaggle=True))
    return parts


def files_of(source: Source, folder: str) -> dict[str, Callable[[], bytes]]:
    """The PNGs below a folder of a source by id."""
    names = [name for name in sorted(source.names) if name.startswith(f"{folder}/") and name.endswith(".png")]
    return {PurePosixPath(name).stem: partial(source.read, name) for name in names}


def read_if_there(
    source: Source, name: str, columns: list[str], found: Checkup, own: bool = False
) -> pd.DataFrame | None:
    """Return a table, or None, with its problem noted; those of one's own folder are optional."""
    if name not in source.names and own:
        return None
    try:
        return own_table(source, name, columns) if own else read_table(source, name, columns)
    except ValueError as error:
        found.add("error", str(error), "mend the table, or download it again")
        return None


def check_partners(part: Part, found: Checkup) -> None:
    """Note images without a mask, masks without an image, and ids that are not in the table or not on the disk."""
    if part.masks is not None:
        lonely = sorted(part.images.keys() - part.masks.keys())
        if lonely:
            found.add("error", "images without a mask", "add the masks, or move the images to test", *lonely)
        lonely = sorted(part.masks.keys() - part.images.keys())
        if lonely:
            found.add("error", "masks without an image", "add the images, or remove the masks", *lonely)
    if part.table is not None:
        missing = sorted(set(part.table.index) - part.images.keys())
        if missing:
            found.add("error", f"ids of the {part.name} table without an image", "add the images", *missing)
        extra = sorted(part.images.keys() - set(part.table.index))
        if extra:
            found.add("error", f"{part.name} images that are not in the table", "add them, or remove them", *extra)
