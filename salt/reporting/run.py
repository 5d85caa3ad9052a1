"""What a run scored and wrote, and a picture of its out-of-fold predictions."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salt.data.archive import BROKEN
from salt.data.load import load_data_of_run
from salt.data.tgs import Dataset
from salt.runs.files import write_atomic
from salt.runs.rundir import RunDir
from salt.scoring.metrics import is_salt

FILES = {
    "score.json": "scores of the run and of each fold",
    "oof.csv": "every training tile: fold, coverage, IoU, score, threshold",
    "oof.npz": "its probabilities from the fold that did not see it",
    "submission.csv": "the Kaggle submission",
    "report.png": "tile, truth, probability and prediction of a few tiles",
    "folds.csv": "which tile is validated in which fold",
    "config.yaml": "all settings",
    "environment.json": "versions and machine",
    "train.log": "log",
}
N_SHOWN = 8  # tiles in the picture
ZOOM = 2  # screen pixels per pixel
TRUTH, PREDICTION = (80, 200, 80), (60, 120, 255)  # blue, green, red: green outline, orange outline


def report(path: Path, root: str | None) -> None:
    """Print scores and files of the run in `path` and draw its picture, if its data is at hand.

    Raises:
        ValueError: it is no run with a score of its finished folds.
    """
    directory = RunDir(path)
    config = directory.read_config()
    print_scores(directory.read_score(config.data.n_folds))
    try:
        write_picture(directory, load_data_of_run(directory, config, root))
    except (ValueError, OSError) as error:  # the picture alone needs the data, and a disk that can be written
        print(f"\nno new picture: {error}")
    print(f"\nwritten in {path}:")
    for name, meaning in FILES.items():
        if (path / name).exists():
            print(f"  {name:<18}{meaning}")
    print(f"  {'fold_N/':<18}model.safetensors, metrics.csv, oof.npz, timing.json")


def write_picture(directory: RunDir, data: Dataset) -> None:
    """Write report.png from a run's out-of-fold predictions.

    Raises:
        ValueError: they are missing or damaged.
    """
    assert data.train.masks is not None
    file = directory.path / "oof.npz"
    try:
        with np.load(file) as oof:
            ids, probabilities = oof["ids"].tolist(), oof["probabilities"].astype(np.float32)
    except (KeyError, *BROKEN) as error:
        raise ValueError(f"{file} is missing or damaged: {error}") from None
    position = {tile_id: i for i, tile_id in enumerate(data.train.ids)}
    index = [position[i] for i in ids]
    table = pd.read_csv(directory.path / "oof.csv", dtype={"id": str})
    picture = draw(table, data.train.images[index], data.train.masks[index], probabilities)
    encoded = cv2.imencode(".png", picture)[1].tobytes()
    write_atomic(directory.path / "report.png", lambda temporary: temporary.write_bytes(encoded))


def print_scores(score: dict[str, Any]) -> None:
    """The numbers of score.json as a small table."""
    rows = pd.DataFrame(score["folds"]).set_index("fold")
    print(rows.round(4).to_string())
    print(f"\nout-of-fold map {score['map']:.4f} over {score['n']} tiles (threshold chosen on other tiles)")
    print(f"  at threshold 0.5 {score['map_at_0.5']:.4f}; predicting all empty {score['map_all_empty']:.4f}")
    if score["partial"]:
        print(f"  PARTIAL: the folds {score['missing_folds']} are not trained")


def draw(
    table: pd.DataFrame,
    images: NDArray[np.uint8],
    masks: NDArray[np.uint8],
    probabilities: NDArray[np.float32],
) -> NDArray[np.uint8]:
    """Columns of tile, truth, probability and prediction, from the worst to the best of the tiles with salt.

    The tiles are at equal steps of the rank by score, so the picture shows the run as it is, failures too.
    """
    with_salt = table[table["coverage"] > 0]
    ranked = (with_salt if len(with_salt) else table).sort_values(["score", "iou", "id"]).index.to_numpy()
    chosen = ranked[np.linspace(0, len(ranked) - 1, min(N_SHOWN, len(ranked))).round().astype(int)]
    columns = []
    for i in chosen:
        prediction = is_salt(probabilities[i], table["threshold"][i]).astype(np.uint8)
        probability = cv2.applyColorMap((probabilities[i] * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
        parts = [
            enlarge(cv2.cvtColor(images[i], cv2.COLOR_GRAY2BGR)),
            outlined(images[i], masks[i], TRUTH),
            enlarge(probability),
            outlined(images[i], prediction, PREDICTION),
        ]
        columns.append(np.vstack([np.pad(part, ((0, 4), (0, 4), (0, 0)), constant_values=255) for part in parts]))
    return np.hstack(columns)


def enlarge(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture ZOOM times as large, pixels kept."""
    return pixels.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)


def outlined(image: NDArray[np.uint8], mask: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """A tile with the outline of a mask."""
    canvas = np.ascontiguousarray(enlarge(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)))
    contours, _ = cv2.findContours(enlarge(mask), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, contours, -1, colour, 2)
    return canvas
