"""Intervals of means over tiles, from a bootstrap of tiles, or of whole sections if they are known."""

import numpy as np

from salt.scoring.metrics import Floats, Ints

RESAMPLES = 10_000
AT_ONCE = 100  # resamples at a time: 3 MB for 4,000 tiles
LEVEL = 95  # percent
FEWEST_SECTIONS = 10  # with fewer, an interval over sections would say little
DIGITS = 12  # of a resampled difference: the order of a sum must not turn 0 into 1e-17


def bootstrap(values: Floats, folds: Ints, sections: Ints | None = None, n_resamples: int = RESAMPLES) -> Floats:
    """Return percentile intervals of the means of rows (scores or paired differences), all from the same resamples.

    Tiles of a section are drawn together, since neighbours resemble each other. Draws stay within a fold, unless
    sections lie in several folds or a fold has few of them. If there are few sections in all, tiles are drawn.

    Shape:
        values R N (rows, tiles), folds N, sections N or None; returns R 2.

    Reference:
        Efron, Tibshirani 1993, An Introduction to the Bootstrap, chapter 13; Davison, Hinkley 1997, Bootstrap Methods
        and their Application, section 3.8, for units that are drawn together.
    """
    units, strata = units_to_draw(folds, sections)
    rng = np.random.default_rng(0)
    means = []
    for start in range(0, n_resamples, AT_ONCE):
        counts = draw_counts(rng, strata, min(AT_ONCE, n_resamples - start))[:, units]
        means.append(counts @ values.T / counts.sum(axis=1, keepdims=True))
    tail = (100 - LEVEL) / 2
    return np.percentile(np.concatenate(means).round(DIGITS), [tail, 100 - tail], axis=0).T


def units_to_draw(folds: Ints, sections: Ints | None) -> tuple[Ints, Ints]:
    """Return the unit of each tile (N), and the stratum of each unit (U)."""
    if sections is None or not are_enough(sections):
        return np.arange(len(folds)), folds
    _, first, units = np.unique(sections, return_index=True, return_inverse=True)
    strata = folds[first]
    within = (strata[units] == folds).all() and np.unique(strata, return_counts=True)[1].min() >= FEWEST_SECTIONS
    return units, strata if within else np.zeros(len(first), dtype=np.int64)


def are_enough(sections: Ints) -> bool:
    """Return whether tiles with these section numbers (N) have enough sections to draw from."""
    return len(np.unique(sections)) >= FEWEST_SECTIONS


def draw_counts(rng: np.random.Generator, strata: Ints, n: int) -> Floats:
    """Draw units with replacement within their strata, and return their numbers in each of `n` resamples (n U)."""
    counts = np.empty((n, len(strata)))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        size = len(members)
        drawn = rng.integers(size, size=(n, size)) + size * np.arange(n)[:, None]  # resample i counts from i*size on
        counts[:, members] = np.bincount(drawn.ravel(), minlength=n * size).reshape(n, size)
    return counts
