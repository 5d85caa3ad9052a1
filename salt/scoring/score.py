"""Out-of-fold scores: thresholds without a leak, one row per tile, and the numbers of score.json."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salt.scoring import metrics
from salt.scoring.bootstrap import are_enough, bootstrap
from salt.scoring.metrics import HALF, THRESHOLDS, Counts, Floats, Ints


@dataclass(frozen=True)
class OutOfFold:
    """Scored tiles: a table with one row per tile, and the numbers of score.json."""

    table: pd.DataFrame
    summary: dict[str, Any]


def score_out_of_fold(
    probabilities: NDArray[Any],
    masks: NDArray[Any],
    folds: Ints,
    sections: Ints | None = None,
    seed: int = 0,
    known: NDArray[Any] | None = None,
) -> OutOfFold:
    """Score probabilities (N H W, or N arrays) of networks that did not train on the tile against masks.

    The threshold is 0.5, unless thresholds chosen on other folds gain more than chance (see `accept_thresholds`). A
    single fold is split into random halves by `seed`. Intervals draw `sections` (N, numbers) as a whole. With `known`
    (as masks, bool) only these pixels count.
    """
    counts = metrics.count_pixels(probabilities, masks, known=known)
    groups = folds if len(np.unique(folds)) > 1 else split_in_halves(len(folds), sections, seed)
    chosen = cross_fit(metrics.score_counts(*counts), groups)
    return score_counted(counts, metrics.known_sizes(masks, known), chosen, folds, sections)


def score_counted(counts: Counts, sizes: Ints, chosen: Ints, folds: Ints, sections: Ints | None) -> OutOfFold:
    """Score tiles from their counts at every threshold, `sizes` (N, known pixels) and the thresholds fitted for them.

    `chosen` (N, indices of `THRESHOLDS`) has for each tile the threshold that was fitted on other folds.
    """
    scores = metrics.score_counts(*counts)
    used, threshold, gain = accept_thresholds(scores, chosen, folds, sections)
    row, truth = np.arange(len(folds)), counts[1][:, 0]
    at_used = counts[0][row, used], truth, counts[2][row, used]
    table = pd.DataFrame(
        {
            "fold": folds,
            "coverage": truth / sizes,
            "iou": metrics.iou(*at_used),
            "score": metrics.score_counts(*at_used),
            "threshold": THRESHOLDS[used],
        }
    )
    if sections is not None:
        table["section"] = sections
    at_half = scores[:, HALF]
    summary: dict[str, Any] = {
        "map": float(table["score"].mean()),
        "map_at_0.5": float(at_half.mean()),
        **metrics.mean_metrics(*at_used),
        "threshold": threshold,
        "n": len(folds),
        "map_all_empty": float((truth == 0).mean()),
        "folds": [summarise_fold(int(f), table, at_half, at_used) for f in np.unique(folds)],
        "gains": {"threshold": gain},
    }
    return OutOfFold(table, summary | measure_spread(table, sections))


def not_scored() -> dict[str, Any]:
    """Return the numbers of score.json of a run that holds out no tile."""
    names = ("map", "map_at_0.5", "iou", "empty", "map_all_empty", "interval", "interval_over", "fold_spread")
    fold = {"fold": 0, "map": None, "map_at_0.5": None, "iou": None, "n": 0}
    return dict.fromkeys(names) | {"threshold": 0.5, "n": 0, "folds": [fold], "gains": {"threshold": None}}


def split_in_halves(n: int, sections: Ints | None, seed: int) -> Ints:
    """Return a random half, 0 or 1, for each of n tiles; several sections (N) stay whole."""
    units = np.arange(n)
    if sections is not None and len(np.unique(sections)) > 1:
        units = np.unique(sections, return_inverse=True)[1]
    return (np.random.default_rng(seed).permutation(units.max() + 1) % 2)[units]


def best_threshold(scores: Floats) -> int:
    """Return the index of the threshold with the highest mean of scores (N T); a tie goes to the one nearest 0.5."""
    means = scores.mean(axis=0)
    ties = np.flatnonzero(means >= means.max() - 1e-12)  # sums of tenths differ in the last bit
    return int(ties[np.abs(ties - HALF).argmin()])


def cross_fit(scores: Floats, groups: Ints) -> Ints:
    """Choose for each tile the index of the threshold that scores best (N T) on the tiles of all other groups.

    It is that of 0.5 if there is only one group, such as a single tile.
    """
    chosen = np.full(len(groups), HALF, dtype=np.int64)
    if len(np.unique(groups)) == 1:
        return chosen
    for group in np.unique(groups):
        chosen[groups == group] = best_threshold(scores[groups != group])
    return chosen


def accept_thresholds(
    scores: Floats, fitted: Ints, folds: Ints, sections: Ints | None
) -> tuple[Ints, float, dict[str, Any]]:
    """Use thresholds that were fitted on other tiles only if the interval of their gain over 0.5 is above 0.

    Takes scores at each threshold (N T), and the fitted thresholds (N, indices). Returns the index for each tile (N),
    the threshold for new tiles, and the gain with its interval.
    """
    differences = scores[np.arange(len(scores)), fitted] - scores[:, HALF]
    low, high = bootstrap(differences[None], folds, sections)[0].tolist()
    gain = {"gain": float(differences.mean()), "interval": [low, high], "used": low > 0}
    if not gain["used"]:
        return np.full_like(fitted, HALF), 0.5, gain
    return fitted, float(THRESHOLDS[best_threshold(scores)]), gain


def around_best(means: Floats, near: float) -> tuple[float, float]:
    """Return the first and last threshold around the best one whose mean scores (T) are all within `near` of it."""
    good, best = means >= means.max() - near, int(means.argmax())
    bad = np.flatnonzero(~good)
    low, high = bad[bad < best].max(initial=-1) + 1, bad[bad > best].min(initial=len(means)) - 1
    return float(THRESHOLDS[low]), float(THRESHOLDS[high])


def measure_spread(table: pd.DataFrame, sections: Ints | None) -> dict[str, Any]:
    """Return the interval of the mean score, its units, and the standard deviation of the folds' scores."""
    interval = bootstrap(table["score"].to_numpy()[None], table["fold"].to_numpy(), sections)[0]
    spread = table.groupby("fold")["score"].mean().std()  # NaN for one fold
    return {
        "interval": interval.tolist(),
        "interval_over": "sections" if sections is not None and are_enough(sections) else "tiles",
        "fold_spread": None if np.isnan(spread) else float(spread),
    }


def summarise_fold(fold: int, table: pd.DataFrame, at_half: Floats, at_used: Counts) -> dict[str, Any]:
    """Return the numbers of one fold, from the table, the scores at 0.5 and the counts (each N) of all folds."""
    here = (table["fold"] == fold).to_numpy()
    return {
        "fold": fold,
        "map": float(table["score"][here].mean()),
        "map_at_0.5": float(at_half[here].mean()),
        "iou": metrics.mean_metrics(*(count[here] for count in at_used))["iou"],
        "n": int(here.sum()),
    }
