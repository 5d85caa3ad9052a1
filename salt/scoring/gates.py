"""What choices that follow the network are worth: the threshold, and a least area below which a tile is called empty.

Each is chosen on other tiles than those that it is scored on.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from salt.scoring.bootstrap import bootstrap
from salt.scoring.metrics import HALF

LEAST_AREAS = np.array([0, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02])  # shares of an image
Index = NDArray[np.int64]
Floats = NDArray[np.float64]


def gains(
    table: Floats,
    areas: Floats,
    empty: NDArray[np.bool_],
    chosen: Index,
    groups: Index,
    folds: Index,
    sections: Index | None,
) -> dict[str, Any]:
    """What each choice adds to the mean score, with its interval.

    `table` has the score and `areas` the predicted share of each tile at each threshold (N T), `empty` says which tiles
    have no salt (N), `chosen` are the thresholds in use (N, indices), chosen on the tiles of other `groups` (N).
    """
    row = np.arange(len(table))
    scores = table[row, chosen]
    least = cross_fit_least_area(table, areas, empty, chosen, groups)
    gated = with_least_area(scores, areas[row, chosen], empty, least)
    differences = np.stack([scores - table[:, HALF], gated - scores])
    intervals = bootstrap(differences, folds, sections).tolist()
    values = differences.mean(axis=1).tolist()
    threshold, area = ({"gain": g, "interval": i} for g, i in zip(values, intervals, strict=True))
    return {"threshold": threshold, "least_area": area | {"chosen": np.unique(least).tolist()}}


def with_least_area(scores: Floats, areas: Floats, empty: NDArray[np.bool_], least: Floats | float) -> Floats:
    """Scores (N) if tiles with less predicted area (N) than the least are called empty."""
    return np.where(areas < least, empty, scores)


def cross_fit_least_area(
    table: Floats, areas: Floats, empty: NDArray[np.bool_], chosen: Index, groups: Index
) -> Floats:
    """For each tile (N) the least area that is best on the tiles of all other groups, at its own threshold."""
    least = np.zeros(len(table))
    for group in np.unique(groups):
        others = groups != group
        for threshold in np.unique(chosen[~others]):
            scores, predicted = table[others, threshold], areas[others, threshold]
            means = [with_least_area(scores, predicted, empty[others], a).mean() for a in LEAST_AREAS]
            best = int(np.argmax(np.round(means, 12)))  # a tie: the smallest
            least[~others & (chosen == threshold)] = LEAST_AREAS[best]
    return least
