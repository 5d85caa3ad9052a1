"""Finished folds that go on because `trainer.epochs` was raised."""

import csv
import logging
import math
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salt.build import Network
from salt.config import RunConfig
from salt.data.tiles import Tiles
from salt.machine import distributed
from salt.machine.device import Runtime
from salt.runs.files import read_json, remove
from salt.runs.rundir import RunDir, how_to_remake
from salt.training import checkpoint
from salt.training.schedule import after_epoch
from salt.training.setup import epoch_batches, start
from salt.training.state import Clock, Row

log = logging.getLogger(__name__)


def is_complete(directory: RunDir, fold: int, epochs: int) -> bool:
    """Whether a fold is finished, with as many epochs as the run has now."""
    return directory.is_done(fold) and epochs_done(directory.fold(fold), epochs) >= epochs


def epochs_done(fold: Path, default: int) -> int:
    """The epochs of a finished fold, also from its metrics.csv; the default where both files are lost."""
    with suppress(ValueError, TypeError):
        return int(read_json(fold / "timing.json", "epochs")["epochs"])
    with suppress(ValueError):
        return len(read_table(fold / "metrics.csv"))
    return default


def reopen(
    config: RunConfig,
    number: int,
    fold: Path,
    tiles: Tiles,
    folds: NDArray[np.int64],
    network: Network,
    runtime: Runtime,
) -> None:
    """Make a finished fold one that goes on: from its weights, with a new optimizer, at the epoch where it ended.

    A checkpoint is written, then `done` is removed; if the process is killed between, the same is done once more. The
    run's score.json, whose threshold is of the old weights, is removed too.

    Raises:
        ValueError: a file of the fold is damaged.
    """
    steps_per_epoch = len(epoch_batches(config, tiles, folds, number))
    timing = read_json(fold / "timing.json", "epochs", "seconds")
    remove(fold / "last.pt", fold / "previous.pt")  # of a try before this one
    distributed.barrier()
    state = start(config, steps_per_epoch, fold, network.model, runtime, fold / "model.safetensors")
    state.epoch, state.clock = timing["epochs"], Clock(seconds=timing["seconds"])
    state.rows = read_table(fold / "metrics.csv")[: state.epoch]
    checkpoint.advance(state.schedule, state.epoch * steps_per_epoch)
    for row in state.rows:  # for a schedule that depends on the loss
        after_epoch(state.schedule, float(row["loss"] or math.nan))
    checkpoint.save(state, fold)
    distributed.barrier()
    remove(fold.parent / "score.json", fold / "done")
    log.info("%s goes on after epoch %d: trainer.epochs is %d now", fold, state.epoch, config.trainer.epochs)


def read_table(file: Path) -> list[Row]:
    """The rows of metrics.csv.

    Raises:
        ValueError: it is damaged.
    """
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            return [
                {key: int(text) if key == "epoch" else float(text) if text else None for key, text in row.items()}
                for row in csv.DictReader(lines)
            ]
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{file} is damaged: {error}. {how_to_remake(file)}") from None
