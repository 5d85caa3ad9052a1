"""Kaggle's submission CSV from a run's finished folds: written atomically and only after it was checked."""

import io
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from salt import build, rle
from salt.checkpoint import load_weights
from salt.config import RunConfig
from salt.data.tgs import Tiles
from salt.files import write_text
from salt.predict import predict
from salt.rundir import RunDir, weight_files
from salt.runtime import Runtime

log = logging.getLogger(__name__)

PREDICTED = 20_000  # test tiles at once; their probabilities are in memory


def submit(config: RunConfig, directory: RunDir, tiles: Tiles, threshold: float, runtime: Runtime) -> None:
    """Predict the test tiles by the mean over the finished folds (and their snapshots) and write submission.csv."""
    done = directory.done_folds(config.data.n_folds)
    files = [(fold, file) for fold in done for file in weight_files(directory.fold(fold))]
    model = build_for_prediction(config, runtime)
    forward = torch.compile(model) if config.trainer.compile else model
    batch_size, tta = config.trainer.batch_size, config.trainer.tta
    salt = np.empty(tiles.images.shape, dtype=np.bool_)
    for start in range(0, len(salt), PREDICTED):
        positions = np.arange(start, min(start + PREDICTED, len(salt)))
        total = np.zeros((len(positions), *salt.shape[1:]), dtype=np.float32)
        for fold, file in files:
            load_weights(model, file)
            total += predict(forward, model, tiles, positions, batch_size, runtime, tta, f"test, fold {fold}")
        salt[positions] = total / len(files) > threshold
    if config.data.constant_tiles == "empty":
        salt[tiles.constant] = False
    write_submission(directory.path / "submission.csv", tiles.ids, salt)
    log.info(
        "%s: %d test tiles, %.0f %% without salt",
        directory.path / "submission.csv",
        len(salt),
        100 * (1 - salt.any(axis=(1, 2)).mean()),
    )


def build_for_prediction(config: RunConfig, runtime: Runtime) -> nn.Module:
    """The network of a run, on the device; its weights come from a fold's file."""
    model = build.build_model(build.without_weights(config)).to(runtime.device)
    return model.to(memory_format=torch.channels_last) if config.trainer.channels_last else model


def write_submission(path: Path, ids: list[str], masks: NDArray[np.bool_]) -> None:
    """Write the masks (N H W) of the test tiles as id,rle_mask, in the order of sample_submission.csv."""
    text = pd.DataFrame({"id": ids, "rle_mask": rle.encode_all(masks)}).to_csv(index=False, lineterminator="\n")
    check_submission(text, ids, masks)
    write_text(path, text)


def check_submission(text: str, ids: list[str], masks: NDArray[np.bool_]) -> None:
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
        decoded = rle.decode_all(table["rle_mask"].tolist(), masks.shape[1:])
    except rle.RunLengthError as error:
        raise ValueError(f"submission: id {ids[error.row]}: {error.reason}") from None
    differing = np.flatnonzero((decoded != masks).any(axis=(1, 2)))
    if len(differing):
        raise ValueError(f"submission: id {ids[differing[0]]} does not decode to its mask")
