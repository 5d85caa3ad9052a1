"""The threshold that maximises the mean score, chosen without a leak."""

import numpy as np
from numpy.typing import NDArray

from salt.scoring.metrics import HALF, THRESHOLDS


def best_threshold(table: NDArray[np.float64]) -> int:
    """Index of the threshold with the highest mean score of a table (N T); a tie goes to the one nearest 0.5."""
    means = table.mean(axis=0)
    ties = np.flatnonzero(means >= means.max() - 1e-12)  # sums of tenths differ in the last bit
    return int(ties[np.abs(ties - HALF).argmin()])


def cross_fit(table: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Choose for each tile of a table (N T) the threshold index that is best on the tiles of all other groups.

    No tile takes part in the choice of its own threshold, so the resulting score has no leak.

    Raises:
        ValueError: there is only one group.
    """
    if len(np.unique(groups)) < 2:
        raise ValueError("a threshold can be cross-fitted on two or more groups of tiles only")
    chosen = np.empty(len(groups), dtype=np.int64)
    for group in np.unique(groups):
        chosen[groups == group] = best_threshold(table[groups != group])
    return chosen


def around_best(means: NDArray[np.float64], near: float) -> tuple[float, float]:
    """Return the first and last threshold of the range around the best one whose mean scores (T) are all `near` it."""
    good, best = means >= means.max() - near, int(means.argmax())
    bad = np.flatnonzero(~good)
    low, high = bad[bad < best].max(initial=-1) + 1, bad[bad > best].min(initial=len(means)) - 1
    return float(THRESHOLDS[low]), float(THRESHOLDS[high])
