"""Figures of a comparison: the differences between runs with their intervals, and time beside score."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes

from salt.comparing.comparison import ALL_EMPTY, TILES_ONLY
from salt.reporting.figures import INK, MAIN, STYLE, make_axes, svg
from salt.scoring.bootstrap import LEVEL

FILLS = {"yes": "full", TILES_ONLY: "left", "no": "none"}  # of a difference's mark, by its verdict
LONG = 120  # seconds: longer times are shown in minutes


def draw_forest(axes: Axes, results: pd.DataFrame, ink: str, colour: str) -> None:
    """Draw a row for each run, its difference to the baseline with the interval, filled if it is resolved.

    Without the row of all tiles empty, which is far from the others.
    """
    results = results[results["run"] != ALL_EMPTY]
    axes.axvline(0, color=ink, linewidth=1, alpha=0.5)
    for y, row in enumerate(results.to_dict("records")):
        if not row["resolved"]:
            axes.plot(0, y, "D", color=ink, markersize=5)
            continue
        axes.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=1.5)
        fill = FILLS[row["resolved"]]
        axes.plot(row["difference"], y, "o", color=colour, markerfacecoloralt="none", fillstyle=fill, markersize=6)
    axes.set_yticks(range(len(results)), results["run"].tolist(), fontsize=9, parse_math=False)
    axes.set_ylim(len(results) - 0.4, -0.6)
    half = "; half: only that of tiles" if (results["resolved"] == TILES_ONLY).any() else ""
    axes.set_xlabel(f"difference in map, {LEVEL} % interval (filled: excludes 0{half})", fontsize=9)
    axes.tick_params(axis="x", labelsize=9)
    axes.grid(axis="y", visible=False)


def forest(results: pd.DataFrame) -> Markup:
    """The differences of runs to their baseline."""
    with mpl.rc_context(STYLE):
        longest = min(results["run"].str.len().max(), 60)
        figure, (axes,) = make_axes(width=6 + 0.07 * longest, height=1.2 + 0.28 * len(results))
        draw_forest(axes, results, INK, MAIN)
        return svg(figure, "forest", "Differences to the baseline with their intervals; the table has the numbers.")


def cost_and_score(results: pd.DataFrame) -> Markup | None:
    """Time of a fold beside the score, a point a run; None if no run tells its time.

    Named are the baseline, and the runs that no other beats in both.
    """
    told = results.dropna(subset=["seconds"]).reset_index(drop=True)
    if told.empty:
        return None
    unit, seconds = ("minutes", 60) if told["seconds"].max() > LONG else ("seconds", 1)
    with mpl.rc_context(STYLE):
        figure, (axes,) = make_axes(width=6.4)
        axes.plot(told["seconds"] / seconds, told["score"], "o", color=MAIN)
        for row in told[(told["run"] == results["run"].iloc[0]) | unbeaten(told)].to_dict("records"):
            place = (row["seconds"] / seconds, row["score"])
            axes.annotate(row["run"], place, xytext=(5, 4), textcoords="offset points", fontsize=8, parse_math=False)
        axes.margins(x=0.2, y=0.15)
        axes.set_xlim(0, 1.25 * told["seconds"].max() / seconds)  # a tenth of a second looks as small as it is
        axes.set(xlabel=f"time of a fold in {unit}", ylabel="score (map)")
        rows = told.to_dict("records")
        said = "; ".join(f"{row['run']}: {row['seconds'] / seconds:.1f} {unit}, {row['score']:.4f}" for row in rows)
        return svg(figure, "cost", f"Time of a fold and score. {said}.")


def unbeaten(runs: pd.DataFrame) -> pd.Series:
    """Which runs no other one beats: none is quicker with at least their score."""
    quickest_first = runs.sort_values(["seconds", "score"], ascending=[True, False])["score"]
    best_before = quickest_first.cummax().shift(fill_value=-np.inf)
    return (quickest_first > best_before).reindex(runs.index)
