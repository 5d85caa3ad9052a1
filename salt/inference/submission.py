"""Kaggle's submission CSV from a run's finished folds: written atomically and only after it was checked."""

import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salt.config import RunConfig
from salt.data import rle
from salt.data.tiles import Tiles
from salt.inference.ensemble import predict_mean
from salt.inference.settings import made_with
from salt.machine import distributed
from salt.machine.device import Runtime
from salt.network import Network, build_network
from salt.runs.files import read_json, sha256, write_json, write_text
from salt.runs.rundir import BLEND, RunDir, weight_files
from salt.runs.stacks import Stack, empty_stack, save_stack, sizes_of
from salt.scoring.metrics import is_salt

log = logging.getLogger(__name__)

MADE = "made_with"  # in submission.json; runs of earlier versions lack it
PREDICTED = 20_000  # test tiles at once; their probabilities are in memory


def submit(
    config: RunConfig,
    directory: RunDir,
    origin: dict[str, Any],
    tiles: Tiles,
    runtime: Runtime,
    network: Network | None = None,
) -> None:
    """Predict the test tiles by the mean over the weights of `origin` and write submission.csv.

    `network` is the run's, where it is there already.
    """
    network = network or build_network(config, runtime)
    files = [directory.path / name for name in origin["weights_sha256"]]

    def mean(positions: NDArray[np.int64]) -> Stack:
        return predict_mean(network, files, tiles, positions, runtime, config.trainer.tta, "test")

    write_predictions(config, directory, origin, tiles, mean, made_with(runtime))


def write_predictions(
    config: RunConfig,
    directory: RunDir,
    origin: dict[str, Any],
    tiles: Tiles,
    predict: Callable[[NDArray[np.int64]], Stack],
    made: dict[str, str],
) -> None:
    """Write submission.csv from what `predict` says of the test tiles at some positions.

    submission.json tells from which weights and threshold it came, and with which device and precision it was made;
    test.npz has the probabilities, 255 times as large and rounded.
    """
    salt = empty_stack(sizes_of(tiles.images), np.bool_)
    shares = empty_stack(sizes_of(tiles.images), np.uint8)
    for start in range(0, len(salt), PREDICTED):
        positions = np.arange(start, min(start + PREDICTED, len(salt)))
        probabilities = predict(positions)
        if distributed.is_main():
            for i, image in zip(positions, probabilities, strict=True):
                salt[i] = is_salt(image, origin["threshold"])
                shares[i] = np.rint(image * 255)
    if not distributed.is_main():
        return
    for stack in (salt, shares):
        tiles.empty_unseen(stack, np.arange(len(salt)), config.data.constant_tiles)
    save_stack(directory.path / "test.npz", np.array(tiles.ids), probabilities=shares)
    file = directory.path / "submission.csv"
    write_submission(file, tiles.ids, salt)
    write_json(directory.path / "submission.json", origin | {"sha256": sha256(file), MADE: made})
    empty = np.mean([not mask.any() for mask in salt])
    log.info("%s: %d test tiles, %.0f %% without salt", file, len(salt), 100 * empty)


def origin_of(directory: RunDir, score: dict[str, Any]) -> dict[str, Any]:
    """What a submission is made from: the threshold of a score, and the weights of the scored folds.

    A fold that another process finishes later is not among them. The settings and the data stay the same as long as a
    run exists. A blend is made from the weights of its runs.
    """
    threshold = {"threshold": score["threshold"]}
    if (directory.path / BLEND).is_file():
        return threshold | {"runs": read_json(directory.path / BLEND, "runs")["runs"]}
    files = [file for row in score["folds"] for file in weight_files(directory.fold(row["fold"]))]
    weights = {f"{file.parent.name}/{file.name}": sha256(file) for file in files}
    return threshold | {"weights_sha256": weights}


def is_fresh(directory: RunDir, origin: dict[str, Any]) -> bool:
    """Whether submission.csv was made from these weights and this threshold, and has not changed since."""
    file, record = directory.path / "submission.csv", directory.path / "submission.json"
    if not (file.is_file() and record.is_file()):
        return False
    try:
        found = read_json(record)
        found.pop(MADE, None)  # on another machine it is as good
        return found == origin | {"sha256": sha256(file)}
    except (ValueError, OSError):  # damaged: it is made anew
        return False


def write_submission(path: Path, ids: list[str], masks: Stack) -> None:
    """Write the masks (N H W, or N arrays) of the test tiles as id,rle_mask, in the order of sample_submission.csv."""
    text = pd.DataFrame({"id": ids, "rle_mask": rle.encode_all(masks)}).to_csv(index=False, lineterminator="\n")
    check_submission(text, ids, masks)
    write_text(path, text)


def check_submission(text: str, ids: list[str], masks: Stack) -> None:
    """Check that a submission's text has exactly these ids, each once, and decodes to these masks.

    Raises:
        ValueError: it does not, or a run is out of bounds, not ascending or overlaps another.
    """
    table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    if list(table.columns) != ["id", "rle_mask"]:
        raise ValueError(f"submission: expected the columns id,rle_mask, found {','.join(table.columns)}")
    if list(table["id"]) != ids:
        odd = sorted(set(ids) ^ set(table["id"]))
        raise ValueError(
            f"submission: its ids are not those of sample_submission.csv, each once, in order; differing: {odd[:5]}"
        )
    try:
        decoded = rle.decode_sizes(table["rle_mask"].tolist(), sizes_of(masks))
    except rle.RunLengthError as error:
        raise ValueError(f"submission: id {ids[error.row]}: {error.reason}") from None
    for name, found, mask in zip(ids, decoded, masks, strict=True):
        if (found != mask).any():
            raise ValueError(f"submission: id {name} does not decode to its mask")
