"""PNG pictures of a run: the learning curves of a fold (metrics.png), and out-of-fold predictions (report.png)."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from salt.reporting.facts import Facts
from salt.reporting.figures import MARKED
from salt.runs.files import write_atomic
from salt.runs.stacks import Stack
from salt.scoring.metrics import is_salt

CURVES = {
    "map_at_0.5": "map at threshold 0.5",
    "iou": "IoU of tiles with salt",
    "empty": "share of empty tiles found",
}
N_TILES = 8  # in report.png
ROWS = ("tile", "truth", "probability", "prediction")
TRUTH, PREDICTION = "limegreen", "darkorange"


def write_curves(fold: Path) -> None:
    """Write metrics.png beside a fold's metrics.csv."""
    write_png(fold / "metrics.png", draw_curves(pd.read_csv(fold / "metrics.csv")))


def write_picture(facts: Facts) -> None:
    """Write report.png from a run's out-of-fold predictions."""
    held_out = facts.held_out
    assert held_out is not None and held_out.tiles.masks is not None
    images, masks = held_out.tiles.images[held_out.positions], held_out.tiles.masks[held_out.positions]
    write_png(facts.path / "report.png", draw_tiles(facts.table, images, masks, held_out.probabilities))


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


def draw_tiles(table: pd.DataFrame, images: Stack, masks: Stack, probabilities: Stack) -> Figure:
    """Draw columns of tile, truth, probability and prediction, from the worst to the best of the tiles with salt.

    The tiles are at equal steps of the rank by score, so the picture shows failures too.
    """
    with_salt = table[table["coverage"] > 0]
    ranked = (with_salt if len(with_salt) else table).sort_values(["score", "iou", "id"]).index.to_numpy()
    chosen = ranked[np.linspace(0, len(ranked) - 1, min(N_TILES, len(ranked))).round().astype(int)]
    figure = new_figure(0.5 + 1.15 * len(chosen), 5.1, 170)
    grid = figure.subplots(len(ROWS), len(chosen), squeeze=False)
    for column, i in zip(grid.T, chosen, strict=True):
        prediction = is_salt(probabilities[i], table["threshold"][i])
        for axes in column:
            axes.imshow(images[i], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
        outline(column[1], masks[i], TRUTH)
        column[2].imshow(probabilities[i].astype(np.float32), cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
        outline(column[3], prediction, PREDICTION)
        column[0].set_title(f"score {table['score'][i]:.1f}\nIoU {table['iou'][i]:.2f}", fontsize=8)
    for axes, title in zip(grid[:, 0], ROWS, strict=True):
        axes.set_ylabel(title, fontsize=8)
    return figure


def outline(axes: Axes, mask: NDArray[np.generic], colour: str) -> None:
    """Draw the outline of a mask (H W), which may be empty or full."""
    inside = np.pad(mask != 0, 1).astype(float)  # the outline of salt at a tile's edge is drawn too
    if inside.any():
        rows, columns = (np.arange(-1, side + 1).clip(-0.4, side - 0.6) for side in mask.shape)
        axes.contour(columns, rows, inside, levels=[0.5], colors=[colour], linewidths=1.2)
