"""The part of a data check that decodes: amplitudes, masks, and what is odd about them."""

import hashlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from joblib import cpu_count
from numpy.typing import NDArray
from tqdm import tqdm

from salt.data import image, rle
from salt.data.amplitudes import FEW, Scaling, exact, find_missing, has_few_levels
from salt.data.checkup import SHOWN, Checkup, Part
from salt.data.folder import kind_of
from salt.data.folds import coverage_class
from salt.data.image import TILE_SIZE, salt_value, several_values, to_mask

TINY = 10  # pixels; smaller bodies are more likely slips of the hand than salt


def check_part(part: Part, scaling: Scaling, found: Checkup, hashes: dict[str, list[str]]) -> None:
    """Decode every image and mask of a part, note what is wrong, and add up sizes, types and coverage."""
    images = decode_all(part, "images", part.images, found)
    masks = decode_all(part, "masks", part.masks or {}, found)
    sizes = Counter(f"{a.shape[0]}x{a.shape[1]}" for a in images.values())
    types = Counter(str(a.dtype) for a in images.values())
    found.facts.append(f"{part.name}: {len(part.images)} images; pixels {listed(sizes)}; types {listed(types)}")
    check_amplitudes(part.name, images, scaling, found)
    for name, pixels in images.items():
        if part.kaggle and (pixels.shape != (TILE_SIZE, TILE_SIZE) or pixels.dtype != np.uint8):
            advice = "Kaggle's tiles are 101x101 pixels of 8 bits; for others use data=folder"
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
    types = {kind_of(pixels) for pixels in images.values()}
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
