"""How much a difference of runs would change with other seeds, and intervals that cover tiles and seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from salt.scoring.bootstrap import DIGITS, LEVEL, units_to_draw

Floats = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class Side:
    """One setting's scores S N (seeds, tiles), two seeds or more, and the folds of its tiles (N)."""

    scores: Floats
    folds: Index


def seed_margin(sides: Sequence[Side], sections: Index | None = None) -> float:
    """Return the half-width of the interval that other seeds alone give the difference of two settings.

    Each fold's network is a training of its own: the variance of its part of the mean is estimated from the seeds, and
    all variances are summed. What single tiles (or sections, N) vary from seed to seed is subtracted, since the
    interval over tiles has it already. The quantile is Student's t with Satterthwaite's degrees of freedom.

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


def variance_of_cells(side: Side, sections: Index | None) -> float:
    """Return the part of the mean's variance that comes from single tiles, or sections of a fold, by their seeds."""
    n_seeds, n = side.scores.shape
    units = units_to_draw(side.folds, sections)[0]
    _, cells = np.unique(np.stack([units, side.folds]), axis=1, return_inverse=True)
    sums = np.stack([np.bincount(cells.ravel(), weights=scores) for scores in side.scores]) / n
    return float(sums.var(axis=0, ddof=1).sum() / n_seeds)


def widen(mean: float, low: float, high: float, margin: float) -> tuple[float, float]:
    """Return the interval of a sum of two independent terms from the first one's interval and the second one's margin.

    Reference: Zou, Donner 2008, Construction of confidence limits about effect measures: a general approach (MOVER).
    """
    below, above = np.hypot(mean - low, margin), np.hypot(high - mean, margin)
    return round(float(mean - below), DIGITS), round(float(mean + above), DIGITS)
