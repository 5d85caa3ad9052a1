"""The figures of report pages, as SVG in the colours of the page, so that they are readable on dark pages too."""

import re
from io import StringIO
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from salt.scoring.metrics import THRESHOLDS
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
        return svg(
            figure, "threshold", f"Mean score by threshold; {best}; {means[chosen]:.4f} at {threshold:g}, in use."
        )


def coverage_bars(names: list[str], scores: list[float], counts: list[int]) -> Markup:
    """Draw the mean score of the tiles of each class of coverage, with their number."""
    with mpl.rc_context(STYLE):
        figure, (axes,) = make_axes()
        bars = axes.bar(range(len(names)), scores, color=MAIN, width=0.7)
        axes.bar_label(bars, [f"{n:,}" for n in counts], fontsize=8, padding=2)
        axes.set_xticks(range(len(names)), names, fontsize=8)
        axes.set(xlabel="percent of the tile that is salt (above each bar: tiles)", ylabel="mean score", ylim=(0, 1.08))
        axes.grid(axis="x", visible=False)
        bars_text = "; ".join(
            f"{name}: {score:.3f} of {plural(n, 'tile')}" for name, score, n in zip(names, scores, counts, strict=True)
        )
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


def learning_curves(curves: dict[int, pd.DataFrame]) -> list[Markup]:
    """Draw loss, learning rate and validation score over the epochs, a line for each fold."""
    panels = {"loss": "training loss", "lr": "learning rate", "map_at_0.5": "validation map at 0.5"}
    return [learning_curve(curves, column, title) for column, title in panels.items()]


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
