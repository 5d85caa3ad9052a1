"""Turn amplitudes into the grey values 0-255 that a network sees, and find missing pixels."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from salt.config import TWO_VALUES, Amplitudes, Data, Labels

Range = tuple[float, float]  # amplitudes that become the grey values 0 and 255
FEW_LEVELS = 8  # grey levels; an image that has fewer shows next to nothing
N_SAMPLED = 10_000  # pixels of each image from which the survey's percentiles are taken
ROWS = 256  # that are scaled or counted at once
BULK = 0.95  # share of the pixels that these levels hold
BY_IMAGE = Amplitudes(per="image", percentiles=[1, 99], range=None)  # as configs/train.yaml


class Grey(NamedTuple):
    """An image as the network sees it."""

    levels: NDArray[np.uint8]  # (H W)
    missing: NDArray[np.bool_]  # (H W), pixels of unknown amplitude; their level is neutral
    outlier: float | None = None  # an amplitude that may mark missing pixels, see `find_outlier`
    interval: float | None = None  # between samples, in ms, if known


class Scaling:
    """Turn amplitudes into grey values: by a range common to all images, or by each image's own percentiles.

    Images of eight bits keep their grey levels. `nodata` is an amplitude that marks missing pixels. `labels` says what
    the values of masks mean.
    """

    def __init__(self, amplitudes: Amplitudes, nodata: float | None = None, labels: Labels = TWO_VALUES):
        self.amplitudes = amplitudes
        self.nodata = nodata
        self.labels = labels

    @classmethod
    def of(cls, data: Data) -> "Scaling":
        """Return the scaling that a run's settings describe."""
        return cls(data.amplitudes, data.nodata, data.labels)

    def __call__(self, pixels: NDArray[Any]) -> Grey:
        """Return the grey values of an image (H W) of any real type; raise ValueError if it cannot be scaled."""
        missing, known = self.split(pixels)
        limits = self.amplitudes.limits
        if self.amplitudes.per == "survey" and (known.dtype == np.uint8) != (limits is None):
            of_survey = "8 bits" if limits is None else f"the range {limits[0]:g} to {limits[1]:g}"
            raise ValueError(f"has {known.dtype} samples, but the survey has {of_survey}; expected one type in all")
        low, high = limits or find_range(known, self.amplitudes.pair)
        if not np.isfinite(high - low):
            raise ValueError(f"has amplitudes from {low:g} to {high:g}, which are too far apart to scale")
        outlier = find_outlier(known)
        del known  # as large as the image
        return Grey(to_grey(pixels, (low, high), missing), missing, outlier)

    def common_to(self, volume: NDArray[Any]) -> "Scaling":
        """Return a scaling by one range for all images of a volume; raise ValueError if it cannot be scaled.

        It is the survey's range if the settings have it, else that of the volume's percentiles.
        """
        if self.amplitudes.per == "survey" or volume.dtype == np.uint8:
            return self
        return self.by(find_range(self.split(volume)[1], self.amplitudes.pair))

    def by(self, limits: Range) -> "Scaling":
        """Return a scaling by this range."""
        values = {"per": "survey", "range": list(limits)}
        return Scaling(self.amplitudes.model_copy(update=values), self.nodata, self.labels)

    def sample(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return up to N_SAMPLED known amplitudes of an image (H W), always the same ones."""
        known = self.split(pixels)[1]
        return np.random.default_rng(0).choice(known, N_SAMPLED) if known.size else known

    def by_samples(self, samples: Sequence[NDArray[Any]]) -> "Scaling":
        """Return a scaling by the range of what `sample` took from several images."""
        return self.by(find_range(np.concatenate(samples), self.amplitudes.pair))

    def split(self, pixels: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[Any]]:
        """Return which pixels (H W) are missing, and a copy of the other amplitudes (N).

        Raises:
            ValueError: an amplitude is infinite.
        """
        missing = find_missing(pixels, self.nodata)
        known = np.asarray(pixels)[~missing]
        if known.dtype.kind == "f" and not np.isfinite(known).all():
            n = np.count_nonzero(~np.isfinite(known))
            raise ValueError(f"has {n} infinite pixels, expected numbers, or NaN for missing pixels")
        return missing, known


def find_missing(pixels: NDArray[Any], nodata: float | None = None) -> NDArray[np.bool_]:
    """Return which pixels (H W) are missing: NaN, masked in a masked array, or `nodata` in the array's type."""
    missing = np.ma.getmaskarray(pixels).copy()
    values = np.asarray(pixels)
    if values.dtype.kind == "f":
        missing |= np.isnan(values)
        if nodata is not None:
            with np.errstate(over="ignore"):  # too large for the type: infinite, as no pixel may be
                missing |= values == values.dtype.type(nodata)
    elif nodata is not None:
        missing |= values == nodata
    return missing


def sample_type(samples: NDArray[Any]) -> str:
    """Return the type of samples, one for floats of all widths."""
    return "float" if samples.dtype.kind == "f" else str(samples.dtype)


def find_range(known: NDArray[Any], percentiles: Range) -> Range:
    """Return the amplitudes at two percentiles, or 0 and 1 if there is no amplitude at all; reorder `known` (N)."""
    if not known.size:
        return 0.0, 1.0
    low, high = (exact_percentile(known, q / 100) for q in percentiles)
    return low, high


def exact_percentile(known: NDArray[Any], share: float) -> float:
    """Return what `np.percentile` does of the numbers as float64, without a copy of them; reorder `known` (N)."""
    at = share * (known.size - 1)
    below = min(int(at), known.size - 1)
    ranks = [below, min(below + 1, known.size - 1)]
    known.partition(ranks)
    low, high = known[ranks].astype(np.float64).tolist()
    part, difference = at - below, high - low
    return low + difference * part if part < 0.5 else high - difference * (1 - part)


def to_grey(pixels: NDArray[Any], limits: Range, missing: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return grey values 0-255 (H W): eight bits stay as they are, missing pixels take the median, or 128."""
    values = np.asarray(pixels)
    if values.dtype == np.uint8:
        grey = values.astype(np.uint8)
    else:
        low, high = limits
        grey = np.empty(values.shape, dtype=np.uint8)
        for start in range(0, len(values), ROWS):  # float64 takes eight times the memory
            rows = slice(start, start + ROWS)
            known = np.where(missing[rows], low, values[rows].astype(np.float64))
            scaled = (known - low) / ((high - low) or 1.0)  # equal in an image of one amplitude
            grey[rows] = (255 * scaled.clip(0, 1)).round()
    if missing.any():
        grey[missing] = 128 if missing.all() else np.median(grey[~missing])
    return grey


def exact(number: float) -> str:
    """Return the shortest text that reads as this number."""
    return repr(number).removesuffix(".0")


def remarks(grey: Grey, setting: str = "data.nodata") -> list[str]:
    """Return warnings about an image; `setting` declares an amplitude missing."""
    lines = []
    if grey.outlier is not None:
        value = exact(grey.outlier)
        lines.append(f"the amplitude {value} is far from all others; if it marks missing pixels, set {setting}={value}")
    if has_few_levels(grey):
        lines.append(f"has fewer than {FEW_LEVELS} grey levels after scaling, so the network sees next to nothing")
    return lines


def find_outlier(known: NDArray[Any]) -> float | None:
    """Return the smallest or largest amplitude (N) if it is farther from all others than these are from one another."""
    if known.dtype in (np.uint8, np.int8, np.bool_) or not known.size:
        return None
    extremes = known.min(), known.max()
    low = float(known.min(where=known > extremes[0], initial=extremes[1]))  # of the others; no copy of them is made
    high = float(known.max(where=known < extremes[1], initial=extremes[0]))
    if low > high:  # there are no others
        return None
    for extreme in map(float, extremes):
        if max(low - extreme, extreme - high) > high - low > 0:
            return extreme
    return None


def has_few_levels(grey: Grey) -> bool:
    """Return whether two or more, but fewer than `FEW_LEVELS` grey levels hold nearly all known pixels."""
    counts = np.zeros(256, dtype=np.int64)
    for start in range(0, len(grey.levels), ROWS):  # bincount takes eight times the memory
        rows = slice(start, start + ROWS)
        counts += np.bincount(grey.levels[rows][~grey.missing[rows]], minlength=256)
    if np.count_nonzero(counts) < 2:
        return False
    bulk = np.cumsum(np.sort(counts)[::-1])
    return bool(np.searchsorted(bulk, BULK * bulk[-1]) + 1 < FEW_LEVELS)
