"""Intervals of means over tiles, from a bootstrap: of tiles, or of whole sections where these are known."""

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
CHUNK = 100  # resamples at a time: 3 MB for 4,000 tiles
LEVEL = 95  # percent
FEW = 10  # sections to draw from: with fewer an interval would say little
DIGITS = 12  # of a resampled difference: sums in another order must not turn 0 into 1e-17

Index = NDArray[np.int64]


def bootstrap(
    values: NDArray[np.float64],
    folds: Index,
    sections: Index | None = None,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Percentile intervals of the means of rows (scores, or differences of paired scores), all from the same resamples.

    Tiles of one section are drawn together, since neighbours resemble each other; what is drawn stays within its fold,
    unless sections lie in several folds, or a fold has only a few of them. With few sections in all, tiles are drawn.

    Shape:
        values R N (rows, tiles), folds N, sections N (None: each tile is one of its own); returns R 2.

    Reference:
        Efron, Tibshirani 1993, An Introduction to the Bootstrap, chapter 13; Davison, Hinkley 1997, Bootstrap Methods
        and their Application, section 3.8, for units that are drawn together.
    """
    units, strata = units_to_draw(folds, sections)
    rng = np.random.default_rng(seed)
    means = []
    for begin in range(0, n_resamples, CHUNK):
        counts = draw_counts(rng, strata, min(CHUNK, n_resamples - begin))[:, units]
        means.append(counts @ values.T / counts.sum(axis=1, keepdims=True))
    tail = (100 - LEVEL) / 2
    return np.percentile(np.concatenate(means).round(DIGITS), [tail, 100 - tail], axis=0).T


def units_to_draw(folds: Index, sections: Index | None) -> tuple[Index, Index]:
    """The unit of each tile (N), and the group within which each unit is drawn (U)."""
    if sections is None or not are_enough(sections):
        return np.arange(len(folds)), folds
    _, first, units = np.unique(sections, return_index=True, return_inverse=True)
    strata = folds[first]
    within = (strata[units] == folds).all() and np.unique(strata, return_counts=True)[1].min() >= FEW
    return units, strata if within else np.zeros(len(first), dtype=np.int64)


def are_enough(sections: Index) -> bool:
    """Whether there are enough sections (numbers of N tiles) to draw from."""
    return len(np.unique(sections)) >= FEW


def draw_counts(rng: np.random.Generator, strata: Index, n: int) -> NDArray[np.float64]:
    """How often each unit is in each of `n` resamples (n U); within its group, it is drawn with replacement."""
    counts = np.empty((n, len(strata)))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        size = len(members)
        drawn = rng.integers(size, size=(n, size)) + size * np.arange(n)[:, None]  # resample i counts from i*size on
        counts[:, members] = np.bincount(drawn.ravel(), minlength=n * size).reshape(n, size)
    return counts
