"""A check of a data set that reports all problems at once, though reading it for a run stops at the first."""

import hashlib
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salt.data import image, rle
from salt.data.amplitudes import BY_IMAGE, FEW, Scaling, exact, find_missing, has_few_levels, sample_type
from salt.data.archive import Directory
from salt.data.checkup import SHOWN, Checkup, File, Part, in_threads
from salt.data.folds import coverage_class
from salt.data.image import salt_value, several_values, to_mask
from salt.data.source import find_source
from salt.data.tables import table_by_id

TINY = 10  # pixels; smaller bodies are more likely slips of the hand than salt


def check_data(root: Path, nodata: float | None = None, options: Path | None = None) -> Checkup:
    """Look at every table, image and mask of a data set, of a kind that Salt or a folder of `options` knows.

    `nodata` is an amplitude that marks missing pixels.

    Raises:
        ValueError: there is no data at all.
    """
    found, source = Checkup(), find_source(root, options)
    hashes: dict[str, list[str]] = defaultdict(list)
    parts = source.checked_parts(found)
    for part in parts:
        check_part(part, Scaling(BY_IMAGE, nodata), found, hashes)
    folds = source.table("folds.csv")
    table = table_by_id(Directory(folds.parent), folds.name, ["id", "fold"], found) if folds.is_file() else None
    if table is not None and parts:
        odd = sorted(parts[0].images.keys() ^ set(table.index))
        if odd:
            found.add("error", "ids of folds.csv are not those of images", "give each image one fold", *odd)
    for names in hashes.values():
        if len(names) > 1:
            found.add("warning", "the same image more than once", "keep one, or put them into one fold", *names)
    return found


def check_part(part: Part, scaling: Scaling, found: Checkup, hashes: dict[str, list[str]]) -> None:
    """Decode every image and mask of a part, note what is wrong, and add up sizes, types and coverage."""
    images = decode_noted(part, "images", part.images, found)
    masks = decode_noted(part, "masks", part.masks or {}, found)
    sizes = Counter(f"{a.shape[0]}x{a.shape[1]}" for a in images.values())
    types = Counter(str(a.dtype) for a in images.values())
    found.facts.append(f"{part.name}: {len(part.images)} images; pixels {most_often(sizes)}; types {most_often(types)}")
    check_amplitudes(part.name, images, scaling, found)
    for name, pixels in images.items():
        if part.size and (pixels.shape != part.size or pixels.dtype != np.uint8):
            advice = f"expected {part.size[0]}x{part.size[1]} pixels of 8 bits; for others use data=folder"
            found.add("error", "tiles of another size or type", advice, name)
        known = pixels[~find_missing(pixels, scaling.nodata)]
        if known.size and known.min() == known.max():
            found.add("warning", "images of one grey value", "they show nothing; see data.constant_tiles", name)
        else:
            content = np.asarray(pixels).tobytes() + repr(pixels.shape).encode()
            hashes[hashlib.sha256(content).hexdigest()].append(name)
    if part.masks is None:
        return
    salt: dict[str, NDArray[np.uint8]] = {}
    values: dict[float, str] = {}
    for name, pixels in masks.items():
        try:
            salt[name] = to_mask(pixels)
            if (value := salt_value(pixels)) is not None:
                values.setdefault(value, name)
        except ValueError as error:
            found.add("error", f"mask {error}", "save masks with two values, without loss", name)
    if len(values) > 1:
        advice = "look at one mask of each value, and keep the value of salt alone"
        found.add("warning", f"masks: {several_values(values)}", advice, *values.values())
    coverage = np.array([mask.mean() for mask in salt.values()])
    found.facts.append(f"coverage of the masks: {histogram(coverage)}")
    for name, mask in salt.items():
        check_mask(part, name, mask, images, found)


def check_amplitudes(part: str, images: dict[str, image.Array], scaling: Scaling, found: Checkup) -> None:
    """Note missing pixels, what may be some, and images of which scaling leaves next to nothing."""
    types = {sample_type(pixels) for pixels in images.values()}
    if len(types) > 1:
        advice = "amplitudes.per=survey refuses them; convert them to one type"
        found.add("warning", f"{part} images of several types of samples: {', '.join(sorted(types))}", advice)
    n_missing = n_all = 0
    for name, pixels in images.items():
        grey = scaling(pixels)
        n_all += pixels.size
        n_missing += int(grey.missing.sum())
        if grey.missing.all():
            found.add("warning", "images of which every pixel is missing", "remove them, or look at nodata", name)
        elif grey.missing.any():
            found.add("warning", "images with missing pixels", "they are predicted as no salt there", name)
        if grey.outlier is not None:
            advice = "if it marks missing pixels, give it as --nodata and data.nodata; leave it if it is a real spike"
            found.add(
                "warning", "images with an amplitude far from all others", advice, f"{name} ({exact(grey.outlier)})"
            )
        if has_few_levels(grey):
            advice = "look at them; spikes or values that mark missing pixels flatten the others"
            found.add("warning", f"images of fewer than {FEW} grey levels after scaling", advice, name)
    if n_missing:
        found.facts.append(f"{part}: {n_missing} missing pixels ({n_missing / n_all:.2%})")


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


def decode_noted(part: Part, kind: str, files: dict[str, File], found: Checkup) -> dict[str, image.Array]:
    """The pixels of all files that decode, by id; the others are noted."""

    def work(file: File) -> image.Array | ValueError:
        try:
            return file.pixels(mask=kind == "masks")
        except ValueError as error:
            return error

    decoded: dict[str, image.Array] = {}
    for name, result in zip(files, in_threads(work, list(files.values()), f"{part.name} {kind}", "file"), strict=True):
        if isinstance(result, ValueError):
            found.add("error", f"{kind}: {result}", "export it again", name)
        else:
            decoded[name] = result
    return decoded


def most_often(counts: Counter[str]) -> str:
    """The most frequent values with their numbers."""
    parts = [f"{value} ({n})" for value, n in counts.most_common(SHOWN)]
    n_others = counts.total() - sum(n for _, n in counts.most_common(SHOWN))
    return (", ".join(parts) or "none") + (f" and others ({n_others})" if n_others else "")


def histogram(coverage: NDArray[np.float64]) -> str:
    """How many masks have how much salt."""
    names = ["none", *(f"to {10 * i} %" for i in range(1, 11))]
    counts = np.bincount(coverage_class(coverage), minlength=len(names))
    return ", ".join(f"{name} {n}" for name, n in zip(names, counts, strict=True) if n)
