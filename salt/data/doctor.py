"""A check of a data folder that reports all problems at once, where reading it for a run stops at the first."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from joblib import cpu_count
from numpy.typing import NDArray
from tqdm import tqdm

from salt.data import image, rle
from salt.data.archive import OUTER_ZIP, Folder, Source
from salt.data.folder import test_folder
from salt.data.folds import coverage_class
from salt.data.png import TILE_SIZE, to_mask
from salt.data.tgs import open_part, open_root, read_table

TINY = 10  # pixels; smaller bodies are more likely slips of the hand than salt
SHOWN = 3  # examples that a line names


@dataclass
class Finding:
    """One kind of problem: an error stops a run, a warning does not."""

    level: str
    what: str
    advice: str
    names: list[str] = field(default_factory=list)


@dataclass
class Part:
    """The train or the test images of a data set, before anything is decoded; files by id."""

    name: str
    images: dict[str, Callable[[], bytes]]
    masks: dict[str, Callable[[], bytes]] | None
    extensions: dict[str, str]  # of images and masks, by "images/id" and "masks/id"
    table: pd.DataFrame | None = None  # with the ids that there should be, of train.csv or sample_submission.csv
    kaggle: bool = False


@dataclass
class Checkup:
    """What is known of a data set, and what is wrong with it."""

    facts: list[str] = field(default_factory=list)
    findings: dict[str, Finding] = field(default_factory=dict)

    def add(self, level: str, what: str, advice: str, *names: str) -> None:
        """Note a problem of some files or ids."""
        finding = self.findings.setdefault(what, Finding(level, what, advice))
        finding.names += names

    @property
    def n_errors(self) -> int:
        """How many kinds of error there are."""
        return sum(finding.level == "error" for finding in self.findings.values())


def check(root: Path) -> Checkup:
    """Look at every table, image and mask of a data folder, in Kaggle's layout or with the folders images and masks.

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
        check_part(part, found, hashes)
    for names in hashes.values():
        if len(names) > 1:
            found.add("warning", "the same image more than once", "keep one, or put them into one fold", *names)
    return found


def own_parts(root: Path, found: Checkup) -> list[Part]:
    """The train and test images of one's own folder."""
    table = read_if_there(Folder(root), "train.csv", ["id", "rle_mask"], found, required=False)
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
    depths = read_if_there(Folder(root), "depths.csv", ["id", "z"], found, required=False)
    if depths is not None:
        missing = sorted((train.images.keys() | test.images.keys()) - set(depths.index))
        if missing:
            found.add("error", "images without a depth in depths.csv", "add them, or remove depths.csv", *missing)
    folds = read_if_there(Folder(root), "folds.csv", ["id", "fold"], found, required=False)
    if folds is not None:
        odd = sorted(train.images.keys() ^ set(folds.index))
        if odd:
            found.add("error", "ids of folds.csv are not those of images", "give each image one fold", *odd)


def list_folder(
    folder: Path, kind: str, files: dict[str, Callable[[], bytes]], extensions: dict[str, str], found: Checkup
) -> None:
    """Add the image files of a folder by id."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith("."):
            continue
        if path.suffix.lower() not in image.FORMATS:
            known = ", ".join(image.FORMATS)
            found.add("error", "unknown extension", f"convert to one of {known}, or move the file away", str(path))
        elif path.stem in files:
            found.add("error", "two files of one name", "keep one of them", str(path))
        else:
            files[path.stem], extensions[f"{kind}/{path.stem}"] = path.read_bytes, path.suffix


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
    source: Source, name: str, columns: list[str], found: Checkup, required: bool = True
) -> pd.DataFrame | None:
    """A table, or None, with its problem noted."""
    if name not in source.names and not required:
        return None
    try:
        return read_table(source, name, columns)
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


def check_part(part: Part, found: Checkup, hashes: dict[str, list[str]]) -> None:
    """Decode every image and mask of a part, note what is wrong, and add up sizes, types and coverage."""
    images = decode_all(part, "images", part.images, found)
    masks = decode_all(part, "masks", part.masks or {}, found)
    sizes = Counter(f"{a.shape[0]}x{a.shape[1]}" for a in images.values())
    types = Counter(str(a.dtype) for a in images.values())
    found.facts.append(f"{part.name}: {len(part.images)} images; pixels {listed(sizes)}; types {listed(types)}")
    for name, pixels in images.items():
        if part.kaggle and (pixels.shape != (TILE_SIZE, TILE_SIZE) or pixels.dtype != np.uint8):
            advice = "Kaggle's tiles are 101x101 pixels of 8 bits; for others use data=folder"
            found.add("error", "tiles of another size or type", advice, name)
        if pixels.min() == pixels.max():
            found.add("warning", "images of one grey value", "they show nothing; see data.constant_tiles", name)
        else:
            hashes[hashlib.sha256(pixels.tobytes() + repr(pixels.shape).encode()).hexdigest()].append(name)
    if part.masks is None:
        return
    salt = {}
    for name, pixels in masks.items():
        try:
            salt[name] = to_mask(pixels)
        except ValueError as error:
            found.add("error", f"mask {error}", "save masks with two values, without loss", name)
    coverage = np.array([mask.mean() for mask in salt.values()])
    found.facts.append(f"coverage of the masks: {histogram(coverage)}")
    for name, mask in salt.items():
        check_mask(part, name, mask, images, found)


def check_mask(part: Part, name: str, mask: NDArray[np.uint8], images: dict[str, image.Array], found: Checkup) -> None:
    """Note what is wrong or odd with one mask (H W)."""
    if name in images and images[name].shape != mask.shape:
        found.add("error", "masks of another size than their image", "cut or resize them", name)
    if part.table is not None and name in part.table.index:
        try:
            if (rle.decode(str(part.table.loc[name, "rle_mask"]), mask.shape) != mask).any():
                found.add("error", "masks that differ from their rle_mask", "one of the two is wrong", name)
        except ValueError as error:
            found.add("error", f"rle_mask: {error}", "mend the table", name)
    if 0 < mask.sum() < TINY:
        found.add("warning", f"masks of fewer than {TINY} pixels", "look at them; a slip of the hand?", name)
    if mask.any() and not mask.all() and (mask == mask[0]).all():
        found.add("warning", "masks of whole columns", "look at them; marked without the lower border?", name)


def decode_all(part: Part, kind: str, files: dict[str, Callable[[], bytes]], found: Checkup) -> dict[str, image.Array]:
    """The pixels of all files that decode, by id; the others are noted."""

    def work(name: str) -> image.Array | ValueError:
        try:
            file = f"{name}{part.extensions[f'{kind}/{name}']}"
            return image.decode(file, files[name](), mask=kind == "masks")
        except (ValueError, OSError) as error:
            return ValueError(str(error))

    title = f"{part.name} {kind}"
    with ThreadPoolExecutor(cpu_count()) as pool:
        results = list(tqdm(pool.map(work, files), title, len(files), unit="file", disable=None, leave=False))
    decoded = {}
    for name, result in zip(files, results, strict=True):
        if isinstance(result, ValueError):
            found.add("error", f"{kind}: {result}", "export it again", name)
        else:
            decoded[name] = result
    return decoded


def listed(counts: Counter[str]) -> str:
    """The most frequent values with their numbers."""
    parts = [f"{value} ({n})" for value, n in counts.most_common(SHOWN)]
    n_others = counts.total() - sum(n for _, n in counts.most_common(SHOWN))
    return (", ".join(parts) or "none") + (f" and others ({n_others})" if n_others else "")


def histogram(coverage: NDArray[np.float64]) -> str:
    """How many masks have how much salt."""
    names = ["none", *(f"to {10 * i} %" for i in range(1, 11))]
    counts = np.bincount(coverage_class(coverage), minlength=len(names))
    return ", ".join(f"{name} {n}" for name, n in zip(names, counts, strict=True) if n)


def in_words(found: Checkup) -> str:
    """The facts, and a table of all problems."""
    rows = [
        {
            "": finding.level,
            "number": len(finding.names) or 1,
            "problem": finding.what,
            "for example": ", ".join(finding.names[:SHOWN]),
            "what to do": finding.advice,
        }
        for finding in sorted(found.findings.values(), key=lambda finding: finding.level)
    ]
    table = pd.DataFrame(rows).to_string(index=False, justify="left") if rows else "no problem found"
    return "\n".join([*found.facts, "", table])
