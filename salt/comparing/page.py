"""The page of a comparison: differences with intervals, score against cost, and where two runs differ."""

from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from salt.comparing.comparison import ALL_EMPTY, TILES_ONLY, Comparison, Entry
from salt.data.load import load_data_of_run
from salt.reporting.facts import Predicted, read_predicted_oof, read_scored_tiles
from salt.reporting.figures import INK, MAIN, STYLE, make_axes, svg
from salt.reporting.gallery import Gallery, changes_gallery
from salt.reporting.page import gallery_columns, render
from salt.runs.ensemble import first_run
from salt.runs.files import read_json, write_text
from salt.runs.results import FinishedRun
from salt.scoring.bootstrap import LEVEL
from salt.words import plural

FILLS = {"yes": "full", TILES_ONLY: "left", "no": "none"}  # of the mark, by verdict
LONGEST_LABEL = 60  # characters for which the figure grows wider
LONG = 120  # seconds; longer times are shown in minutes


def write_comparison_page(folder: Path, comparison: Comparison, texts: dict[str, str | None], root: str | None) -> None:
    """Write compare.html; `texts` are its head, its varying settings and a note."""
    problems: list[str] = []
    entries, results = comparison.entries, comparison.results
    costs = pd.DataFrame([cost_of(entry, problems) for entry in entries]).set_index("run")
    by_label = {entry.label: entry for entry in entries}
    pair = [by_label[label] for label in results["run"] if label in by_label]
    gallery = None
    if len(pair) == 2:
        try:
            gallery = compare_tiles(pair[0].runs[0], pair[1].runs[0], root)
        except (ValueError, OSError) as error:
            problems.append(str(error))
    names = [entry.label for entry in pair]
    page = render(
        "compare.html.j2",
        **texts,
        title=plural(sum(len(entry.runs) for entry in entries), "run"),
        level=LEVEL,
        results=results.merge(costs, how="left", left_on="run", right_index=True).to_dict("records"),
        forest=forest_svg(results),
        costs=cost_and_score(results.merge(costs, left_on="run", right_index=True)),
        missing=comparison.missing,
        problems=problems,
        names=names,
        seeds=any(len(entry.runs) > 1 for entry in pair),
        galleries={"held_out": None, "test": None, "changes": gallery_columns(gallery, names)},
        folds=[{"fold": fold} for fold in np.unique(comparison.baseline.folds).tolist()],
    )
    write_text(folder / "compare.html", page)


def cost_of(entry: Entry, problems: list[str]) -> dict[str, Any]:
    """Return the mean time of a fold, the mean images per second and the most memory; NaN if unknown."""
    folds: list[dict[str, Any]] = []
    for run in entry.runs:
        try:
            folds += read_json(run.path / "score.json", "folds")["folds"]
        except ValueError as error:
            problems.append(str(error))
    how = {"seconds": "mean", "images_per_second": "mean", "memory_gb": "max"}
    return {"run": entry.label, **pd.DataFrame(folds).reindex(columns=[*how]).astype(float).agg(how)}


def compare_tiles(first: FinishedRun, second: FinishedRun, root: str | None) -> Gallery:
    """Return the tiles on which two runs differ most; raise ValueError if data or a file of a run is damaged."""
    directory = first_run(first.path)
    data = load_data_of_run(directory, directory.read_config(), root)
    tables, predicted = [], []
    for run in (first, second):
        table = read_scored_tiles(run.path / "oof.csv")
        held_out = read_predicted_oof(run.path, data.train, table)
        order = np.argsort(table["id"].to_numpy())  # the runs may list their tiles in different orders
        positions, probabilities = held_out.positions[order], held_out.probabilities[order]
        salt = [held_out.salt[i] for i in order]
        predicted.append(Predicted(held_out.tiles, positions, probabilities, salt))
        tables.append(table.iloc[order].reset_index(drop=True))
    return changes_gallery(tables, predicted)


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
    """Draw score against time of a fold, with labels for the baseline and unbeaten runs; None if no time is known."""
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
