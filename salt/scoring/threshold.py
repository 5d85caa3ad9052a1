"""The threshold that maximises the mean score, chosen without a leak."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from salt.scoring.bootstrap import bootstrap
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


def choose_thresholds(
    table: NDArray[np.float64],
    fitted: NDArray[np.int64],
    folds: NDArray[np.int64],
    sections: NDArray[np.int64] | None,
) -> tuple[NDArray[np.int64], float, dict[str, Any]]:
    """Use thresholds that were fitted on other tiles only if the interval of their gain over 0.5 is above 0.

    Takes the tiles' scores at each threshold (N T), and their fitted thresholds (N, indices of `THRESHOLDS`). Returns
    the index to use for each tile (N), the threshold for new tiles, and the gain with its interval.
    """
    differences = table[np.arange(len(table)), fitted] - table[:, HALF]
    low, high = bootstrap(differences[None], folds, sections)[0].tolist()
    gain = {"gain": float(differences.mean()), "interval": [low, high], "used": low > 0}
    if not gain["used"]:
        return np.full_like(fitted, HALF), 0.5, gain
    return fitted, float(THRESHOLDS[best_threshold(table)]), gain


def around_best(means: NDArray[np.float64], near: float) -> tuple[float, float]:
    """Return the first and last threshold of the range around the best one whose mean scores (T) are all `near` it."""
    good, best = means >= means.max() - near, int(means.argmax())
    bad = np.flatnonzero(~good)
    low, high = bad[bad < best].max(initial=-1) + 1, bad[bad > best].min(initial=len(means)) - 1
    return float(THRESHOLDS[low]), float(THRESHOLDS[high])
