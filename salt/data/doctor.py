"""Check a data set and report all problems at once; reading it for a run stops at the first."""

import hashlib
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salt.config import TWO_VALUES, Labels
from salt.data import rle
from salt.data.amplitudes import BY_IMAGE, FEW_LEVELS, Scaling, exact, find_missing, has_few_levels, sample_type
from salt.data.archive import MOST_EXAMPLES, Checkup, File, Part, in_threads, open_folder
from salt.data.folds import coverage_class
from salt.data.image import Labelled, salt_value, several_values, to_labels
from salt.data.picture import Pixels
from salt.data.segy import Segy
from salt.data.source import find_source
from salt.data.tables import table_by_id

TINY = 10  # pixels; smaller bodies are more likely slips of the hand than salt


def check_data(
    root: Path,
    nodata: float | None = None,
    labels: Labels = TWO_VALUES,
    options: Path | None = None,
    line_bytes: tuple[int | None, int | None] = (None, None),
) -> Checkup:
    """Look at every table, image and mask of a data set; `line_bytes` are those of inline and crossline in SEG-Y.

    Raises:
        ValueError: there is no data set, or bytes are named for other data than SEG-Y.
    """
    found, source = Checkup(), find_source(root, options)
    if isinstance(source, Segy):
        source.inline_byte, source.crossline_byte = line_bytes
    elif line_bytes != (None, None):
        raise ValueError(f"--inline-byte and --crossline-byte: {root} holds no SEG-Y, expected {Segy.wanted}")
    scaling = Scaling(BY_IMAGE, nodata, labels)
    parts = source.checked_parts(found, scaling)
    names: dict[str, list[str]] = defaultdict(list)  # of equal images, by their SHA-256
    for part in parts:
        images = decode_noted(part, "images", part.images, found)
        check_images(part, images, scaling, found)
        for name, pixels in images.items():
            if not is_constant(pixels, nodata):
                content = np.asarray(pixels).tobytes() + repr(pixels.shape).encode()
                names[hashlib.sha256(content).hexdigest()].append(name)
        if part.masks is not None:
            check_masks(part, images, labels, found)
    for equal in names.values():
        if len(equal) > 1:
            found.add("warning", "the same image more than once", "keep one, or put them into one fold", *equal)
    folds = source.table("folds.csv")
    table = table_by_id(open_folder(folds.parent), folds.name, ["id", "fold"], found) if folds.is_file() else None
    if table is not None and parts and (odd := sorted(parts[0].images.keys() ^ set(table.index))):
        found.add("error", "ids of folds.csv are not those of images", "give each image one fold", *odd)
    return found


def decode_noted(part: Part, kind: str, files: dict[str, File], found: Checkup) -> dict[str, Pixels]:
    """Return the pixels of all files that decode, by id; note the others."""

    def work(file: File) -> Pixels | ValueError:
        try:
            return file.pixels(mask=kind == "masks")
        except ValueError as error:
            return error

    decoded: dict[str, Pixels] = {}
    for name, result in zip(files, in_threads(work, list(files.values()), f"{part.name} {kind}", "file"), strict=True):
        if isinstance(result, ValueError):
            found.add("error", f"{kind}: {result}", "export it again", name)
        else:
            decoded[name] = result
    return decoded


def is_constant(pixels: Pixels, nodata: float | None) -> bool:
    """Return whether an image (H W) has one value, apart from missing pixels."""
    known = pixels[~find_missing(pixels, nodata)]
    return bool(known.size and known.min() == known.max())


def check_images(part: Part, images: dict[str, Pixels], scaling: Scaling, found: Checkup) -> None:
    """Note sizes, types, missing pixels, and images that show next to nothing."""
    sizes = Counter(f"{a.shape[0]}x{a.shape[1]}" for a in images.values())
    types = Counter(str(a.dtype) for a in images.values())
    found.facts.append(f"{part.name}: {len(part.images)} images; pixels {most_often(sizes)}; types {most_often(types)}")
    kinds = sorted({sample_type(pixels) for pixels in images.values()})
    if len(kinds) > 1:
        advice = "amplitudes.per=survey refuses them; convert them to one type"
        found.add("warning", f"{part.name} images of several types of samples: {', '.join(kinds)}", advice)
    n_missing = 0
    for name, pixels in images.items():
        n_missing += check_image(name, pixels, scaling, found)
        if part.size and (pixels.shape != part.size or pixels.dtype != np.uint8):
            advice = f"expected {part.size[0]}x{part.size[1]} pixels of 8 bits; for others use data=folder"
            found.add("error", "tiles of another size or type", advice, name)
    if n_missing:
        share = n_missing / sum(pixels.size for pixels in images.values())
        found.facts.append(f"{part.name}: {n_missing} missing pixels ({share:.2%})")


def check_image(name: str, pixels: Pixels, scaling: Scaling, found: Checkup) -> int:
    """Note what is odd with the amplitudes of an image (H W), and return how many pixels are missing."""
    grey = scaling(pixels)
    if grey.missing.all():
        found.add("warning", "images of which every pixel is missing", "remove them, or look at nodata", name)
    elif grey.missing.any():
        found.add("warning", "images with missing pixels", "they are predicted as no salt there", name)
    if grey.outlier is not None:
        advice = "if it marks missing pixels, give it as --nodata and data.nodata; leave it if it is a real spike"
        found.add("warning", "images with an amplitude far from all others", advice, f"{name} ({exact(grey.outlier)})")
    if has_few_levels(grey):
        advice = "look at them; spikes or values that mark missing pixels flatten the others"
        found.add("warning", f"images of fewer than {FEW_LEVELS} grey levels after scaling", advice, name)
    if is_constant(pixels, scaling.nodata):
        found.add("warning", "images of one grey value", "they show nothing; see data.constant_tiles", name)
    return int(grey.missing.sum())


def check_masks(part: Part, images: dict[str, Pixels], labels: Labels, found: Checkup) -> None:
    """Note what is wrong or odd with the masks of a part, and how much salt they have."""
    salt: dict[str, Labelled] = {}
    values: dict[float, str] = {}
    for name, pixels in decode_noted(part, "masks", part.masks or {}, found).items():
        try:
            salt[name] = to_labels(pixels, labels)
        except ValueError as error:
            advice = "save masks without loss, or name the values by --salt and --unknown (data.labels)"
            found.add("error", f"mask {error}", advice, name)
        else:
            if (value := salt_value(pixels, labels)) is not None:
                values.setdefault(value, name)
    if len(values) > 1:
        advice = "look at one mask of each value, and keep the value of salt alone"
        found.add("warning", f"masks: {several_values(values)}", advice, *values.values())
    coverage = np.array([mask.salt[mask.known].mean() for mask in salt.values() if mask.known.any()])
    found.facts.append(f"coverage of the masks: {histogram(coverage)}")
    known = [mask.known for mask in salt.values()]
    if n_unknown := sum(np.count_nonzero(~one) for one in known):
        found.facts.append(
            f"{n_unknown} unknown pixels of the masks ({n_unknown / sum(one.size for one in known):.1%})"
        )
    for name, mask in salt.items():
        if not mask.known.any():
            found.add("warning", "masks without a known pixel", "these images count as images without a mask", name)
        check_mask(part, name, mask.salt, images, found)


def check_mask(part: Part, name: str, mask: NDArray[np.uint8], images: dict[str, Pixels], found: Checkup) -> None:
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


def most_often(counts: Counter[str]) -> str:
    """Return the most frequent values with their numbers."""
    parts = [f"{value} ({n})" for value, n in counts.most_common(MOST_EXAMPLES)]
    n_others = counts.total() - sum(n for _, n in counts.most_common(MOST_EXAMPLES))
    return (", ".join(parts) or "none") + (f" and others ({n_others})" if n_others else "")


def histogram(coverage: NDArray[np.float64]) -> str:
    """Return how many masks have how much salt."""
    names = ["none", *(f"to {10 * i} %" for i in range(1, 11))]
    counts = np.bincount(coverage_class(coverage), minlength=len(names))
    return ", ".join(f"{name} {n}" for name, n in zip(names, counts, strict=True) if n)


def checkup_report(found: Checkup) -> str:
    """Return the facts, and a table of all problems."""
    rows = [
        (one.level, len(one.names) or 1, one.what, ", ".join(one.names[:MOST_EXAMPLES]), one.advice)
        for one in sorted(found.findings.values(), key=lambda finding: finding.level)
    ]
    frame = pd.DataFrame(rows, columns=["", "number", "problem", "for example", "what to do"])
    table = frame.to_string(index=False, justify="left") if rows else "no problem found"
    return "\n".join([*found.facts, "", table])
