"""Figures of a comparison: differences with their intervals, and score against time."""

from io import BytesIO

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from salt.comparing.comparison import ALL_EMPTY, TILES_ONLY
from salt.reporting.figures import INK, MAIN, STYLE, make_axes, svg
from salt.scoring.bootstrap import LEVEL

FILLS = {"yes": "full", TILES_ONLY: "left", "no": "none"}  # of the mark, by verdict
LONGEST_LABEL = 60  # characters for which the figure grows wider
LONG = 120  # seconds; longer times are shown in minutes


def draw_forest(axes: Axes, results: pd.DataFrame) -> None:
    """Draw each run's difference to the baseline with its interval, but not "all empty", which lies far away."""
    results = results[results["run"] != ALL_EMPTY]
    axes.axvline(0, color=INK, linewidth=1, alpha=0.5)
    for y, row in enumerate(results.to_dict("records")):
        if not row["resolved"]:
            axes.plot(0, y, "D", color=INK, markersize=5)
            continue
        axes.plot([row["low"], row["high"]], [y, y], color=MAIN, linewidth=1.5)
        fill = FILLS[row["resolved"]]
        axes.plot(row["difference"], y, "o", color=MAIN, markerfacecoloralt="none", fillstyle=fill, markersize=6)
    axes.set_yticks(range(len(results)), results["run"].tolist(), fontsize=9, parse_math=False)
    axes.set_ylim(len(results) - 0.4, -0.6)
    half = "; half: only that of tiles" if (results["resolved"] == TILES_ONLY).any() else ""
    axes.set_xlabel(f"difference in map, {LEVEL} % interval (filled: excludes 0{half})", fontsize=9)
    axes.tick_params(axis="x", labelsize=9)
    axes.grid(axis="y", visible=False)


def make_forest(results: pd.DataFrame) -> Figure:
    """Return the forest plot; call within `mpl.rc_context`."""
    longest = min(results["run"].str.len().max(), LONGEST_LABEL)
    figure, (axes,) = make_axes(width=6 + 0.07 * longest, height=1.2 + 0.28 * len(results))
    draw_forest(axes, results)
    return figure


def forest_svg(results: pd.DataFrame) -> Markup:
    """Return the forest plot for a page."""
    with mpl.rc_context(STYLE):
        description = "Differences to the baseline with their intervals; the table has the numbers."
        return svg(make_forest(results), "forest", description)


def forest_png(results: pd.DataFrame) -> bytes:
    """Return the forest plot as PNG."""
    png = BytesIO()
    with mpl.rc_context(STYLE | {"grid.color": "0.9", "axes.edgecolor": "0.6"}):
        figure = make_forest(results)
        figure.patch.set_alpha(1)  # a page's figures are transparent
        figure.savefig(png, format="png")
    return png.getvalue()


def cost_and_score(results: pd.DataFrame) -> Markup | None:
    """Draw the score against the time of a fold, a point a run; None if no run has a time.

    Labels name the baseline, and the runs that no other run beats in both.
    """
    timed = results.dropna(subset=["seconds"]).reset_index(drop=True)
    if timed.empty:
        return None
    unit, seconds = ("minutes", 60) if timed["seconds"].max() > LONG else ("seconds", 1)
    with mpl.rc_context(STYLE):
        figure, (axes,) = make_axes(width=6.4)
        axes.plot(timed["seconds"] / seconds, timed["score"], "o", color=MAIN)
        for row in timed[(timed["run"] == results["run"].iloc[0]) | unbeaten(timed)].to_dict("records"):
            place = (row["seconds"] / seconds, row["score"])
            axes.annotate(row["run"], place, xytext=(5, 4), textcoords="offset points", fontsize=8, parse_math=False)
        axes.margins(x=0.2, y=0.15)
        axes.set_xlim(0, 1.25 * timed["seconds"].max() / seconds)  # from 0, so that small differences look small
        axes.set(xlabel=f"time of a fold in {unit}", ylabel="score (map)")
        rows = timed.to_dict("records")
        numbers = "; ".join(f"{row['run']}: {row['seconds'] / seconds:.1f} {unit}, {row['score']:.4f}" for row in rows)
        return svg(figure, "cost", f"Time of a fold and score. {numbers}.")


def unbeaten(runs: pd.DataFrame) -> pd.Series:
    """Return which runs no other one beats: none is quicker with at least their score."""
    quickest_first = runs.sort_values(["seconds", "score"], ascending=[True, False])["score"]
    best_before = quickest_first.cummax().shift(fill_value=-np.inf)
    return (quickest_first > best_before).reindex(runs.index)
