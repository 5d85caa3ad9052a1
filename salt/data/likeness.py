"""What a run's training data looks like, and how strongly other data differs from it.

Distances are those of Wasserstein: how far the shares of one histogram move, on average, to become the other. Measured,
as `levels_apart` and `frequency_apart`, on 3,600 TGS tiles and on 800 generated ones:

    the same kind of images                             TGS           generated
    quarters, at random or in order                     2.4   0.04    2.4   0.06
    100 random tiles and all, the farthest of 300       10.4  0.22    4.2   0.07
    other images
    2 times as many samples                             0.5   0.97    1.9   1.08
    1.5 times as many                                   0.5   0.54    1.9   0.55
    1.25 times as many                                  0.5   0.28    1.9   0.29
    1.5 times fewer                                     0.4   0.39    3.3   0.36
    2 times fewer                                       0.6   0.79    4.2   0.74
    contrast times 0.5                                  16.0  0.02    14.1  0.01
    contrast times 1.5                                  14.1  0.03    13.2  0.01
    contrast times 2                                    26.4  0.04    23.9  0.02
    brighter by 20 levels                               18.8  0.02    18.9  0.01
    inverted                                            14.6  0.02    3.0   0.01
    the other kind                                      5.9   1.00    5.9   1.00

Amplitudes that are as often positive as negative look the same inverted. Single lines of the generator (600x900, each
of another wavelet) are up to 17.4 and 0.40 from the other 15, two of them up to 12.5 and 0.41.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salt.data.tiles import Tiles
from salt.runs.files import read_json, write_json
from salt.runs.stacks import Stack

Shares = NDArray[np.float64]

LOOKS = "data.json"  # in the run directory
PIXELS = 2**22  # of which the grey levels are counted, about; more images are counted at every second pixel, and so on
WINDOW = 64  # samples of a trace in a window of the spectrum
SHORTEST = 16  # samples; shorter images have no spectrum
WINDOWS = 4096  # of the spectrum, over all images
EVENLY = (0.7548776662466927, 0.5698402909980532)  # 1/p and 1/p² with p³ = p + 1: multiples fill a square evenly
FREQUENCIES = np.fft.rfftfreq(WINDOW)  # cycles per sample of the 33 bins
DIGEST = 16  # hexadecimal, of a SHA-256: among a million images, two have the same by chance once in 10^7 times
ROUNDED = 6  # decimals in the file
LEVELS_APART = 12.0  # grey levels from which on data differs strongly, see above
FREQUENCY_APART = 0.35  # the same of the spectrum, in mean frequencies
INTERVAL_APART = 1.05  # ratio of two sample intervals


@dataclass(frozen=True)
class Likeness:
    """What images look like after scaling; all zeros if there is nothing to see."""

    levels: Shares  # (256), share of the known pixels that have each grey level
    spectrum: Shares  # (33), share of the power along traces at 0 to 0.5 cycles per sample
    interval: float | None = None  # between samples, in ms
    images: tuple[str, ...] = ()  # first digits of the SHA-256 of each image that shows something, sorted
    others: tuple[str, ...] = ()  # of more that networks saw: without a mask, or before they came to this data

    @property
    def frequency(self) -> float:
        """Return the mean frequency along traces, in cycles per sample, weighted by power."""
        return float(self.spectrum @ FREQUENCIES)


def describe(tiles: Tiles, interval: float | None = None) -> Likeness:
    """Return what tiles look like; only the digests read every pixel. `interval` is in ms."""
    return glance(tiles, interval, digests_of(tiles.images))


def glance(tiles: Tiles, interval: float | None = None, images: tuple[str, ...] = ()) -> Likeness:
    """Return what tiles look like without their digests, in a time that does not grow with their size."""
    return Likeness(share_of_levels(tiles), spectrum_of(tiles), interval, images)


def share_of_levels(tiles: Tiles) -> Shares:
    """Return the share of the known pixels that have each grey level (256)."""
    counts = np.zeros(256, np.int64)
    step = max(1, round(math.sqrt(sum(image.size for image in tiles.images) / PIXELS)))
    for number, image in enumerate(tiles.images):
        seen = image[::step, ::step]
        if tiles.missing is not None:
            seen = seen[~tiles.missing[number][::step, ::step]]
        counts += np.bincount(seen.ravel(), minlength=256)
    return as_shares(counts)


def spectrum_of(tiles: Tiles) -> Shares:
    """Return the share of the power along traces at each frequency (33): the mean over windows spread over the tiles.

    A window is `WINDOW` samples of a trace (fewer in a smaller image) without a missing pixel, less their mean, under a
    Hann taper.
    """
    power = np.zeros(len(FREQUENCIES))
    windows: dict[int, list[NDArray[np.uint8]]] = {}
    for window in cut_traces(tiles):
        windows.setdefault(len(window), []).append(window)
    for length, found in sorted(windows.items()):
        samples = np.stack(found).astype(np.float64)
        tapered = (samples - samples.mean(axis=1, keepdims=True)) * np.hanning(length)
        total = (np.abs(np.fft.rfft(tapered)) ** 2).sum(axis=0) / length**2  # a density, the same for each length
        power += np.interp(FREQUENCIES, np.fft.rfftfreq(length), total)
    return as_shares(power)


def cut_traces(tiles: Tiles) -> Iterator[NDArray[np.uint8]]:
    """Yield pieces of traces (at most `WINDOW` samples each) without missing pixels, spread evenly over the tiles."""
    n = len(tiles.images)
    for number in range(WINDOWS if n else 0):
        at = number * n // WINDOWS if n > WINDOWS else number % n
        image = tiles.images[at]
        length = min(WINDOW, len(image))
        down, right = (number * step % 1 for step in EVENLY)
        trace = int(right * image.shape[1])
        top = int(down * (len(image) - length + 1))
        rows = slice(top, top + length)
        if length >= SHORTEST and (tiles.missing is None or not tiles.missing[at][rows, trace].any()):
            yield image[rows, trace]


def as_shares(amounts: NDArray[np.generic]) -> Shares:
    """Return amounts (N) divided by their sum; zeros if all are."""
    values = amounts.astype(np.float64)
    return values / (values.sum() or 1.0)


def digests_of(images: Stack) -> tuple[str, ...]:
    """Return the first digits of the SHA-256 of the size and pixels of each image, sorted.

    Images of one grey level are left out: they show nothing, and unrelated data sets have the same.
    """
    found = set()
    for image in images:
        if image.min() < image.max():
            digest = hashlib.sha256(repr(image.shape).encode())
            digest.update(np.ascontiguousarray(image).data)
            found.add(digest.hexdigest()[:DIGEST])
    return tuple(sorted(found))


def apart(one: Shares, other: Shares) -> float:
    """Return how far, in bins, the shares (N) of one have to move to become the other's: the Wasserstein distance."""
    return float(np.abs(np.cumsum(one - other)).sum())


def levels_apart(one: Likeness, other: Likeness) -> float:
    """Return how far two kinds of images are apart, in grey levels; 0 if one has no known pixel."""
    return apart(one.levels, other.levels) if one.levels.any() and other.levels.any() else 0.0


def frequency_apart(one: Likeness, other: Likeness) -> float:
    """Return how far two spectra are apart, as a multiple of the lower mean frequency; 0 if one shows nothing."""
    lower = min(one.frequency, other.frequency)
    return apart(one.spectrum, other.spectrum) * float(FREQUENCIES[1]) / lower if lower else 0.0


def differences(trained: Likeness, other: Likeness) -> list[str]:
    """Return a sentence for each strong difference of other images from those of the training."""
    found = []
    if (distance := levels_apart(trained, other)) > LEVELS_APART:
        (mean, spread), (mean_before, spread_before) = moments(other.levels), moments(trained.levels)
        found.append(
            f"grey levels differ by {distance:.0f} of 255 on average: mean {mean:.0f} and standard deviation "
            f"{spread:.0f}, in training {mean_before:.0f} and {spread_before:.0f}"
        )
    if (distance := frequency_apart(trained, other)) > FREQUENCY_APART:
        now, before = other.frequency, trained.frequency
        is_shift = max(now, before) / min(now, before) - 1 > distance / 2  # else the spectrum has another shape
        effect = f": as if sampled at {now / before:.2g} times the interval" if is_shift else ""
        found.append(
            f"the mean frequency along traces is {now:.3f} cycles per sample, in training {before:.3f}{effect}"
        )
    if trained.interval and other.interval:
        low, high = sorted((trained.interval, other.interval))
        if high > INTERVAL_APART * low:
            found.append(f"the sample interval is {other.interval:g} ms, in training {trained.interval:g} ms")
    return found


def moments(levels: Shares) -> tuple[float, float]:
    """Return mean and standard deviation of grey levels by their shares (256)."""
    grey = np.arange(256)
    mean = float(levels @ grey)
    return mean, math.sqrt(float(levels @ (grey - mean) ** 2))


def write(folder: Path, looks: Likeness, others: Iterable[str] = ()) -> None:
    """Write what the training data of a run looks like into its directory, atomically; `others`: see `Likeness`."""
    shares = {name: getattr(looks, name).round(ROUNDED).tolist() for name in ("levels", "spectrum")}
    digests = {"images": list(looks.images), "others": sorted({*looks.others, *others})}
    write_json(folder / LOOKS, shares | {"interval": looks.interval} | digests)


def read(folder: Path) -> Likeness | None:
    """Return what the training data of a run looks like; None for a run of a version that did not write it.

    Raises:
        ValueError: the file is damaged.
    """
    file = folder / LOOKS
    if not file.exists():
        return None
    content = read_json(file, "levels", "spectrum", "interval", "images", "others")
    try:
        shares = [np.array(content[name], dtype=np.float64) for name in ("levels", "spectrum")]
        interval = None if content["interval"] is None else float(content["interval"])
        images, others = (checked_digests(content[name]) for name in ("images", "others"))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file} is damaged: {error}") from None
    shapes = [part.shape for part in shares]
    sound = all(np.isfinite(part).all() and (part >= 0).all() for part in shares)
    if shapes != [(256,), (len(FREQUENCIES),)] or not sound or not (interval is None or 0 < interval < math.inf):
        raise ValueError(f"{file} is damaged: expected 256 levels and {len(FREQUENCIES)} frequencies, all 0 or more")
    return Likeness(shares[0], shares[1], interval, images, others)


def checked_digests(names: object) -> tuple[str, ...]:
    """Return digests as they were written; raise ValueError if they are none."""
    if not (isinstance(names, list) and all(isinstance(name, str) and len(name) == DIGEST for name in names)):
        raise ValueError(f"expected lists of {DIGEST} hexadecimal digits")
    return tuple(names)
