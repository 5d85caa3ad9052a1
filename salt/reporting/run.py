"""What a run scored and wrote, and a picture of its out-of-fold predictions."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from salt.reporting.facts import Facts
from salt.reporting.page import PAGE, command, write_page
from salt.reporting.sentences import no_better, partial
from salt.runs.ensemble import read_ensemble
from salt.runs.files import write_atomic
from salt.runs.stacks import Stack
from salt.scoring.metrics import is_salt
from salt.words import plural

FILES = {
    "score.json": "scores of the run and of each fold",
    "oof.csv": "every training tile: fold, coverage, IoU, score, threshold",
    "oof.npz": "its probabilities from the fold that did not see it",
    "submission.csv": "the Kaggle submission",
    "test.npz": "probabilities of the test tiles, 255 times as large and rounded",
    "report.html": "all of it to look at: curves, figures, every tile; open it in a browser",
    "report.png": "tile, truth, probability and prediction of a few tiles",
    "folds.csv": "which tile is validated in which fold",
    "config.yaml": "all settings",
    "environment.json": "commit, versions, machine, threads: what the bytes depend on",
    "local.json": "paths and names of this machine, not to be shared",
    "train.log": "log",
    "blend.json": "the runs that are averaged, with their weights",
    "fold_*": "model.safetensors, metrics.csv, metrics.png (learning curves), oof.npz, timing.json",
}
N_SHOWN = 8  # tiles in the picture
ROWS = ("tile", "truth", "probability", "prediction")
TRUTH, PREDICTION = "limegreen", "darkorange"


def report(path: Path, root: str | None) -> None:
    """Print scores and files of the run in `path`; write its page, and its picture if the data is at hand.

    Raises:
        ValueError: it is no run with a score of its finished folds.
    """
    print_scores(read_ensemble(path).score)
    try:
        facts = write_page(path, root)
        if command(facts):
            print(f"\nthe command that makes this run again:\n  {command(facts)}")
        for problem in facts.problems:
            print(f"\n{PAGE} lacks a part: {problem}")
        if facts.held_out is not None:
            write_picture(facts)
    except OSError as error:  # such as a disk that cannot be written; the numbers are there all the same
        print(f"\nnot written: {error}")
    print(f"\nwritten in {path}:")
    for name, meaning in FILES.items():
        if list(path.glob(name)):
            print(f"  {name:<18}{meaning}")


def write_picture(facts: Facts) -> None:
    """Write report.png from a run's out-of-fold predictions."""
    assert facts.held_out is not None and facts.held_out.tiles.masks is not None
    tiles, index = facts.held_out.tiles, facts.held_out.positions
    picture = draw(facts.table, tiles.images[index], facts.held_out.tiles.masks[index], facts.held_out.probabilities)
    write_atomic(facts.path / "report.png", lambda temporary: temporary.write_bytes(picture))


def print_scores(score: dict[str, Any]) -> None:
    """The numbers of score.json as a small table."""
    whole = {key: score.get(key) for key in ("map", "map_at_0.5", "iou", "n")}
    nothing = {"map": score["map_all_empty"], "map_at_0.5": score["map_all_empty"], "iou": 0.0, "n": score["n"]}
    rows = pd.DataFrame([*score["folds"], {"fold": "together"} | whole, {"fold": "all empty"} | nothing])
    rows = rows.set_index("fold").round(4).convert_dtypes().astype(object)
    print(rows.where(rows.notna(), "").to_string())
    print(f"\nout-of-fold map {score['map']:.4f} over {plural(score['n'], 'tile')} ({threshold_in_words(score)})")
    for warning in filter(None, (no_better(score), partial(score))):
        print(f"  {warning}")


def threshold_in_words(score: dict[str, Any]) -> str:
    """Return the threshold for new tiles, and whether those of the scored tiles differ from it."""
    used = score["gains"]["threshold"]["used"]
    return f"threshold {score['threshold']:g}{'; each tile at one chosen on others' if used else ''}"


def draw(
    table: pd.DataFrame,
    images: Stack,
    masks: Stack,
    probabilities: Stack,
) -> bytes:
    """Columns of tile, truth, probability and prediction, from the worst to the best of the tiles with salt, as PNG.

    The tiles are at equal steps of the rank by score, so the picture shows the run as it is, failures too.
    """
    with_salt = table[table["coverage"] > 0]
    ranked = (with_salt if len(with_salt) else table).sort_values(["score", "iou", "id"]).index.to_numpy()
    chosen = ranked[np.linspace(0, len(ranked) - 1, min(N_SHOWN, len(ranked))).round().astype(int)]
    figure = Figure(figsize=(0.5 + 1.15 * len(chosen), 5.1), dpi=170, layout="constrained")
    FigureCanvasAgg(figure)
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
    png = BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def outline(axes: Axes, mask: NDArray[np.generic], colour: str) -> None:
    """Draw the outline of a mask (H W), which may be empty or full."""
    inside = np.pad(mask != 0, 1).astype(float)  # the outline of salt at a tile's edge is drawn too
    if inside.any():
        rows, columns = (np.arange(-1, side + 1).clip(-0.4, side - 0.6) for side in mask.shape)
        axes.contour(columns, rows, inside, levels=[0.5], colors=[colour], linewidths=1.2)
