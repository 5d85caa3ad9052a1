"""Out-of-fold scores: thresholds without a leak, one row a tile, and the numbers of score.json."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salt.scoring import metrics
from salt.scoring.bootstrap import are_enough, bootstrap
from salt.scoring.threshold import choose_thresholds, cross_fit


@dataclass(frozen=True)
class OutOfFold:
    """Scored tiles: a table with a row a tile, and the numbers of score.json."""

    table: pd.DataFrame
    summary: dict[str, Any]


def score_out_of_fold(
    ids: NDArray[np.str_],
    probabilities: NDArray[Any],
    masks: NDArray[Any],
    folds: NDArray[np.int64],
    seed: int,
    chosen: NDArray[np.int64] | None = None,
    sections: NDArray[np.int64] | None = None,
) -> OutOfFold:
    """Score probabilities (N H W, or N arrays), each from a network that did not train on the tile, against masks.

    The threshold is 0.5, unless thresholds chosen on the tiles of the other folds score more for certain (see
    `choose_thresholds`). A single fold is split into random halves instead, by sections if there are several. `chosen`
    (N, indices of `THRESHOLDS`) are thresholds that were chosen so already. Tiles of one of the `sections` (N, numbers)
    lie beside each other: intervals take them together.
    """
    counts = metrics.count_pixels(probabilities, masks)
    table = metrics.score_counts(*counts)
    if chosen is None:
        chosen = cross_fit(table, folds if len(np.unique(folds)) > 1 else halves(len(ids), sections, seed))
    used, threshold, gain = choose_thresholds(table, chosen, folds, sections)
    row, truth = np.arange(len(ids)), counts[1][:, 0]
    intersection, prediction = counts[0][row, used], counts[2][row, used]
    frame = pd.DataFrame(
        {
            "id": ids,
            "fold": folds,
            "coverage": truth / [mask.size for mask in masks],
            "iou": metrics.iou(intersection, truth, prediction),
            "score": metrics.score_counts(intersection, truth, prediction),
            "threshold": metrics.THRESHOLDS[used],
        }
    )
    if sections is not None:
        frame["section"] = sections
    at_half = table[:, metrics.HALF]
    summary: dict[str, Any] = {
        "map": float(frame["score"].mean()),
        "map_at_0.5": float(at_half.mean()),
        **metrics.salt_and_empty(intersection, truth, prediction),
        "threshold": threshold,
        "n": len(ids),
        "map_all_empty": float((truth == 0).mean()),
        "folds": [fold_summary(frame[folds == f], at_half[folds == f], int(f)) for f in np.unique(folds)],
    }
    return OutOfFold(frame, summary | {"gains": {"threshold": gain}} | how_sure(frame))


def halves(n: int, sections: NDArray[np.int64] | None, seed: int) -> NDArray[np.int64]:
    """A random half, 0 or 1, for each of n tiles; a section (N) is in one half, if there are several."""
    units = np.arange(n)
    if sections is not None and len(np.unique(sections)) > 1:
        units = np.unique(sections, return_inverse=True)[1]
    half: NDArray[np.int64] = (np.random.default_rng(seed).permutation(units.max() + 1) % 2)[units]
    return half


def how_sure(frame: pd.DataFrame) -> dict[str, Any]:
    """The interval of the mean score, over sections where they are known, and how the folds' scores spread."""
    sections = frame["section"].to_numpy() if "section" in frame else None
    drawn = "sections" if sections is not None and are_enough(sections) else "tiles"
    interval = bootstrap(frame["score"].to_numpy()[None], frame["fold"].to_numpy(), sections)[0]
    spread = frame.groupby("fold")["score"].mean().std()  # NaN for one fold
    return {
        "interval": interval.tolist(),
        "interval_over": drawn,
        "fold_spread": None if np.isnan(spread) else float(spread),
    }


def fold_summary(frame: pd.DataFrame, at_half: NDArray[np.float64], fold: int) -> dict[str, Any]:
    """The numbers of one fold."""
    with_salt = frame["iou"][frame["coverage"] > 0]
    return {
        "fold": fold,
        "map": float(frame["score"].mean()),
        "map_at_0.5": float(at_half.mean()),
        "iou": float(with_salt.mean()) if len(with_salt) else None,
        "n": len(frame),
    }
