"""How much a difference of runs would change with other seeds, and intervals that cover tiles and seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from salt.scoring.bootstrap import DIGITS, LEVEL, units_to_draw
from salt.scoring.metrics import Floats, Ints


@dataclass(frozen=True)
class Side:
    """One setting's scores S N (seeds, tiles), two seeds or more, and the folds of its tiles (N)."""

    scores: Floats
    folds: Ints


def seed_margin(sides: Sequence[Side], sections: Ints | None = None) -> float:
    """Return the half-width of the interval of the difference of two settings over seeds alone.

    Folds are trained separately: the variance of each fold's part of the mean is estimated from the seeds, and summed.
    The variance of single tiles (or sections, N) is subtracted, since the interval over tiles covers it. The quantile
    is Student's t with Satterthwaite's degrees of freedom.

    Reference:
        Satterthwaite 1946, An approximate distribution of estimates of variance components; Cameron, Gelbach, Miller
        2011, Robust inference with multiway clustering, for the subtraction.
    """
    variances, freedoms, in_both = [], [], 0.0
    for side in sides:
        n_seeds, n = side.scores.shape
        for fold in np.unique(side.folds):
            parts = side.scores[:, side.folds == fold].sum(axis=1) / n
            variances.append(parts.var(ddof=1) / n_seeds)
            freedoms.append(n_seeds - 1)
        in_both += variance_of_cells(side, sections)
    total = np.sum(variances)
    if total <= in_both:
        return 0.0
    freedom = total**2 / np.sum(np.square(variances) / freedoms)
    return float(stats.t.ppf((1 + LEVEL / 100) / 2, freedom) * np.sqrt(total - in_both))


def variance_of_cells(side: Side, sections: Ints | None) -> float:
    """Return the variance of the mean over seeds that comes from single tiles, or from sections of a fold."""
    n_seeds, n = side.scores.shape
    units = units_to_draw(side.folds, sections)[0]
    _, cells = np.unique(np.stack([units, side.folds]), axis=1, return_inverse=True)
    sums = np.stack([np.bincount(cells.ravel(), weights=scores) for scores in side.scores]) / n
    return float(sums.var(axis=0, ddof=1).sum() / n_seeds)


def widen(mean: float, low: float, high: float, margin: float) -> tuple[float, float]:
    """Return the interval of a sum of two independent terms: one has an interval, the other a margin around 0.

    Reference: Zou, Donner 2008, Construction of confidence limits about effect measures: a general approach (MOVER).
    """
    below, above = np.hypot(mean - low, margin), np.hypot(high - mean, margin)
    return round(float(mean - below), DIGITS), round(float(mean + above), DIGITS)
