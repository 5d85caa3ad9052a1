"""The learning curves of a fold, drawn from its metrics.csv."""

from io import BytesIO
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from salt.runs.files import write_atomic

SCORES = {
    "map_at_0.5": "map at threshold 0.5",
    "iou": "IoU of tiles with salt",
    "empty": "share of empty tiles found",
}

FEW = 20  # epochs


def write_curves(fold: Path) -> None:
    """Write metrics.png beside a fold's metrics.csv."""
    picture = draw(pd.read_csv(fold / "metrics.csv"))
    write_atomic(fold / "metrics.png", lambda temporary: temporary.write_bytes(picture))


def draw(table: pd.DataFrame) -> bytes:
    """Loss and learning rate on the left, validation scores on the right, as PNG."""
    figure = Figure(figsize=(9, 3.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
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
    for key, label in SCORES.items():
        plot(right, validated["epoch"], validated[key], None, label)
    right.set_ylim(-0.02, 1.02)
    right.legend(fontsize=8)
    right.set_ylabel("validation")
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.set_xlim(0.5, len(table) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color="0.9")
    png = BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def plot(axes: Axes, epochs: "pd.Series[int]", values: "pd.Series[float]", colour: str | None, label: str) -> None:
    """One curve; with its points where they are few."""
    axes.plot(epochs, values, color=colour, label=label, linewidth=1.5, marker="." if len(epochs) < FEW else None)
