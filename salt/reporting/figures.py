"""The figures of a run: SVG in the colours of the page, dark ones too; metrics.png and report.png."""

import re
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from salt.data.tiles import Tiles
from salt.reporting.facts import Facts
from salt.runs.files import write_atomic
from salt.runs.stacks import Stack
from salt.scoring.metrics import THRESHOLDS, is_salt
from salt.words import plural

ROUND = [1, 2, 5, 10]  # steps between the numbers at an axis, times a power of ten
MARKED = 20  # epochs: points of shorter curves are marked
# Colours that the page replaces by its own; matplotlib knows no names of CSS.
INK, GRID = "#010203", "#040506"
PAGE_COLOURS = {INK: "currentColor", GRID: "var(--line)"}
MAIN, SECOND = "#0a84c6", "#d97706"  # readable on white and on dark
FOLDS = ("#0a84c6", "#d97706", "#2a9d5c", "#b5489b", "#8a6d3b", "#d64545", "#5a6acf", "#5f8a8b", "#a3a300", "#7f7f7f")
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text, in the page's font
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": GRID,
    "axes.grid": True,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "text.parse_math": False,  # a name may hold a $
}
CURVES = {"map_at_0.5": "map at threshold 0.5", "iou": "IoU of tiles with salt", "empty": "share of empty tiles found"}
N_TILES = 8  # in report.png
ROWS = ("tile", "truth", "probability", "prediction")
TRUTH, PREDICTION = "limegreen", "darkorange"


def make_axes(n: int = 1, width: float = 5.2, height: float = 3.2) -> tuple[Figure, list[Axes]]:
    """Return a figure with axes side by side; call it and draw within `mpl.rc_context(STYLE)`."""
    figure = Figure(figsize=(width * n, height), layout="constrained")
    figure.patch.set_alpha(0)
    FigureCanvasSVG(figure)
    axes = figure.subplots(1, n, squeeze=False)[0]
    for one in axes:
        one.patch.set_alpha(0)
        one.spines[["top", "right"]].set_visible(False)
        one.locator_params(steps=ROUND)
    return figure, list(axes)


def svg(figure: Figure, name: str, description: str) -> Markup:
    """Return the figure as an SVG element: `name` makes its ids unique, `description` is for screen readers."""
    text = StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    content = text.getvalue()
    content = content[content.index("<svg") :]
    content = re.sub(r"<metadata>.*?</metadata>", "", content, flags=re.DOTALL)
    content = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", content)
    for colour, instead in PAGE_COLOURS.items():
        content = content.replace(colour, instead)
    content = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1">', content, count=1)
    label = escape(description)
    return Markup(content.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1))


def threshold_curve(means: NDArray[np.float64], by_fold: dict[int, NDArray[np.float64]], threshold: float) -> Markup:
    """Draw the mean score by threshold, of all tiles and of each fold, and mark the threshold in use."""
    with mpl.rc_context(STYLE):
        figure, (axes,) = make_axes()
        for fold, values in by_fold.items():
            axes.plot(THRESHOLDS, values, color=FOLDS[fold % len(FOLDS)], linewidth=1, label=f"fold {fold}")
        axes.plot(THRESHOLDS, means, color=INK, linewidth=2, label="all tiles")
        chosen = int(np.abs(THRESHOLDS - threshold).argmin())
        axes.plot([threshold], [means[chosen]], "o", color=SECOND, markersize=8, label=f"used: {threshold:g}")
        axes.set(xlabel="threshold of the probability", ylabel="mean score (map)", xlim=(0, 1))
        axes.legend(fontsize=8, ncols=2)
        best = f"the highest is {means.max():.4f} at {THRESHOLDS[means.argmax()]:g}"
        in_use = f"{means[chosen]:.4f} at {threshold:g}, in use"
        return svg(figure, "threshold", f"Mean score by threshold; {best}; {in_use}.")


def coverage_bars(names: list[str], scores: list[float], counts: list[int]) -> Markup:
    """Draw the mean score of the tiles of each class of coverage, with their number."""
    with mpl.rc_context(STYLE):
        figure, (axes,) = make_axes()
        bars = axes.bar(range(len(names)), scores, color=MAIN, width=0.7)
        axes.bar_label(bars, [f"{n:,}" for n in counts], fontsize=8, padding=2)
        axes.set_xticks(range(len(names)), names, fontsize=8)
        axes.set(xlabel="percent of the tile that is salt (above each bar: tiles)", ylabel="mean score", ylim=(0, 1.08))
        axes.grid(axis="x", visible=False)
        rows = zip(names, scores, counts, strict=True)
        bars_text = "; ".join(f"{name}: {score:.3f} of {plural(n, 'tile')}" for name, score, n in rows)
        return svg(figure, "coverage", f"Mean score by class of coverage. {bars_text}.")


def reliability_diagram(bins: pd.DataFrame, error: float) -> Markup:
    """Draw the share of salt among pixels of like probability; right probabilities lie on the diagonal."""
    with mpl.rc_context(STYLE):
        figure, (axes,) = make_axes()
        axes.plot([0, 1], [0, 1], color=INK, linewidth=1, alpha=0.5)
        axes.plot(bins["probability"], bins["salt"], "o-", color=MAIN, markersize=4, label="share of them that is salt")
        axes.bar(bins["probability"], bins["share"], width=0.03, color=SECOND, alpha=0.6, label="share of all pixels")
        axes.set(xlabel="probability of the pixels", xlim=(-0.03, 1.03), ylim=(0, 1.02))
        axes.legend(fontsize=8, loc="upper center")
        return svg(figure, "reliability", f"Share of salt by probability; mean distance to the diagonal {error:.4f}.")


def learning_curve(curves: dict[int, pd.DataFrame], column: str, title: str) -> Markup:
    """Draw one column of metrics.csv over the epochs, a line for each fold."""
    with mpl.rc_context(STYLE):
        figure, (axes,) = make_axes(width=3.9, height=2.9)
        for fold, table in curves.items():
            rows = table.dropna(subset=[column])
            marker = "." if len(rows) < MARKED else ""
            colour = FOLDS[fold % len(FOLDS)]
            axes.plot(rows["epoch"], rows[column], color=colour, linewidth=1.2, marker=marker, label=f"fold {fold}")
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("epoch")
        last = max(table["epoch"].max() for table in curves.values())
        axes.set_xlim(0.5, last + 0.5)  # all epochs, even if few have a value: ticks are then whole numbers
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if column == "lr":
            axes.ticklabel_format(axis="y", style="scientific", scilimits=(0, 0))
        else:
            axes.legend(fontsize=8)
        ends = {fold: table[column].dropna() for fold, table in curves.items()}
        last_values = ", ".join(f"fold {fold} {values.iloc[-1]:.4g}" for fold, values in ends.items() if len(values))
        name = f"curve-{column.replace('_', '-').replace('.', '-')}"
        return svg(figure, name, f"{title} by epoch; last: {last_values or 'no value'}.")


def write_curves(fold: Path) -> None:
    """Write metrics.png beside a fold's metrics.csv."""
    write_png(fold / "metrics.png", draw_curves(pd.read_csv(fold / "metrics.csv")))


def write_picture(facts: Facts) -> None:
    """Write report.png from a run's out-of-fold predictions."""
    held_out = facts.held_out
    assert held_out is not None and held_out.tiles.masks is not None
    write_png(
        facts.path / "report.png",
        draw_tiles(facts.table, held_out.tiles.take(held_out.positions), held_out.probabilities),
    )


def new_figure(width: float, height: float, dpi: int) -> Figure:
    """Return an empty figure."""
    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write_png(path: Path, figure: Figure) -> None:
    """Write a figure."""
    png = BytesIO()
    figure.savefig(png, format="png")
    write_atomic(path, lambda temporary: temporary.write_bytes(png.getvalue()))


def draw_curves(table: pd.DataFrame) -> Figure:
    """Draw loss and learning rate on the left, validation scores on the right."""
    figure = new_figure(9, 3.4, 100)
    left, right = figure.subplots(1, 2)
    plot(left, table["epoch"], table["loss"], "tab:blue", "training loss")
    rate = left.twinx()
    plot(rate, table["epoch"], table["lr"], "0.6", "learning rate")
    rate.set_ylabel("learning rate")
    rate.ticklabel_format(axis="y", style="scientific", scilimits=(0, 0))
    lines = [*left.get_lines(), *rate.get_lines()]
    left.legend(lines, [str(line.get_label()) for line in lines], fontsize=8)
    left.set_ylabel("loss")
    validated = table.dropna(subset=["map_at_0.5"])
    for key, label in CURVES.items():
        plot(right, validated["epoch"], validated[key], None, label)
    right.set_ylim(-0.02, 1.02)
    right.legend(fontsize=8)
    right.set_ylabel("validation")
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.set_xlim(0.5, len(table) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color="0.9")
    return figure


def plot(axes: Axes, epochs: "pd.Series[int]", values: "pd.Series[float]", colour: str | None, label: str) -> None:
    """Draw one curve."""
    marker = "." if len(epochs) < MARKED else None
    axes.plot(epochs, values, color=colour, label=label, linewidth=1.5, marker=marker)


def draw_distances(table: pd.DataFrame) -> Figure:
    """Draw the IoU of lines (columns distance, iou) by their distance to the nearest interpreted line."""
    figure = new_figure(6, 3.6, 100)
    axes = figure.subplots()
    axes.plot(table["distance"], table["iou"], ".", color=MAIN, alpha=0.7, label="one inline")
    means = table.groupby("distance")["iou"].mean().rolling(5, center=True, min_periods=1).mean()
    axes.plot(means.index, means, color=SECOND, label="mean of neighbours")
    axes.set(xlabel="line numbers to the nearest interpreted inline", ylabel="IoU", ylim=(0, 1.02))
    axes.set_xlim(left=0)
    axes.legend(fontsize=8)
    axes.grid(color="0.9")
    return figure


def draw_tiles(table: pd.DataFrame, tiles: Tiles, probabilities: Stack) -> Figure:
    """Draw tiles with salt, truth, probability and prediction, at equal steps of the rank by score, worst first."""
    assert tiles.masks is not None
    with_salt = table[table["coverage"] > 0]
    ranked = (with_salt if len(with_salt) else table).sort_values(["score", "iou", "id"]).index.to_numpy()
    chosen = ranked[np.linspace(0, len(ranked) - 1, min(N_TILES, len(ranked))).round().astype(int)]
    figure = new_figure(0.5 + 1.15 * len(chosen), 5.1, 170)
    grid = figure.subplots(len(ROWS), len(chosen), squeeze=False)
    for column, i in zip(grid.T, chosen, strict=True):
        prediction = is_salt(probabilities[i], table["threshold"][i])
        for axes in column:
            axes.imshow(tiles.images[i], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
        outline(column[1], tiles.masks[i], TRUTH)
        if tiles.known is not None and not tiles.known[i].all():
            hatch(column[1], ~tiles.known[i])
        column[2].imshow(probabilities[i].astype(np.float32), cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
        outline(column[3], prediction, PREDICTION)
        column[0].set_title(f"score {table['score'][i]:.1f}\nIoU {table['iou'][i]:.2f}", fontsize=8)
    for axes, title in zip(grid[:, 0], ROWS, strict=True):
        axes.set_ylabel(title, fontsize=8)
    return figure


def hatch(axes: Axes, mask: NDArray[np.bool_]) -> None:
    """Hatch the pixels of a mask (H W)."""
    with mpl.rc_context({"hatch.color": "white", "hatch.linewidth": 0.7}):
        axes.contourf(mask.astype(float), levels=[0.5, 1.5], colors="none", hatches=["////"])


def outline(axes: Axes, mask: NDArray[np.generic], colour: str) -> None:
    """Draw the outline of a mask (H W), which may be empty or full."""
    inside = np.pad(mask != 0, 1).astype(float)  # the outline of salt at a tile's edge is drawn too
    if inside.any():
        rows, columns = (np.arange(-1, side + 1).clip(-0.4, side - 0.6) for side in mask.shape)
        axes.contour(columns, rows, inside, levels=[0.5], colors=[colour], linewidths=1.2)
