"""Choices that follow the network: the threshold, and a least area below which a tile is called empty.

Each is made on other tiles than those that it is scored on, and is used only where its gain is resolved.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salt.scoring.bootstrap import bootstrap
from salt.scoring.metrics import HALF, THRESHOLDS
from salt.scoring.threshold import best_threshold

LEAST_AREAS = np.array([0, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02])  # shares of an image
Index = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Gates:
    """What is used: for each tile, chosen on others (N), and for new tiles, chosen on all; and what each is worth.

    Thresholds of tiles are indices of `THRESHOLDS`, least areas are shares of an image, 0 where none is used.
    """

    thresholds: Index
    least_areas: Floats
    threshold: float
    least_area: float
    gains: dict[str, Any]


def choose_gates(
    table: Floats,
    areas: Floats,
    empty: NDArray[np.bool_],
    fitted: Index,
    groups: Index,
    folds: Index,
    sections: Index | None,
) -> Gates:
    """Use the fitted thresholds instead of 0.5, and least areas, where the interval of what they add is above 0.

    `table` has the score and `areas` the predicted share of each tile at each threshold (N T), `empty` says which tiles
    have no salt (N), `fitted` are thresholds (N, indices) that were chosen on the tiles of other `groups` (N).
    """
    row = np.arange(len(table))
    threshold = gain(table[row, fitted] - table[:, HALF], folds, sections)
    thresholds = fitted if threshold["used"] else np.full_like(fitted, HALF)
    everywhere = best_threshold(table) if threshold["used"] else HALF

    least = cross_fit_least_area(table, areas, empty, thresholds, groups)
    before = table[row, thresholds]
    after = with_least_area(before, areas[row, thresholds], empty, least)
    area = gain(after - before, folds, sections) | {"chosen": np.unique(least).tolist()}
    return Gates(
        thresholds,
        least if area["used"] else np.zeros(len(table)),
        float(THRESHOLDS[everywhere]),
        best_least_area(table[:, everywhere], areas[:, everywhere], empty) if area["used"] else 0.0,
        {"threshold": threshold, "least_area": area},
    )


def gain(differences: Floats, folds: Index, sections: Index | None) -> dict[str, Any]:
    """The mean of differences (N) with its interval, and whether that is above 0."""
    low, high = bootstrap(differences[None], folds, sections)[0].tolist()
    return {"gain": float(differences.mean()), "interval": [low, high], "used": low > 0}


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
            best = best_least_area(table[others, threshold], areas[others, threshold], empty[others])
            least[~others & (chosen == threshold)] = best
    return least


def best_least_area(scores: Floats, areas: Floats, empty: NDArray[np.bool_]) -> float:
    """The least area with the highest mean score of tiles (N), from their scores and predicted areas without one."""
    means = [with_least_area(scores, areas, empty, area).mean() for area in LEAST_AREAS]
    return float(LEAST_AREAS[int(np.argmax(np.round(means, 12)))])  # a tie: the smallest
