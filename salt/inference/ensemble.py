"""The mean of the predictions of several files of weights: folds, and snapshots of a fold."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salt.build import Network
from salt.data.tiles import Tiles
from salt.inference.predict import predict
from salt.machine.device import Runtime
from salt.runs.stacks import Stack
from salt.runs.weights import load_weights


def predict_mean(
    network: Network,
    files: Sequence[Path],
    tiles: Tiles,
    positions: NDArray[np.int64],
    runtime: Runtime,
    tta: bool,
    title: str,
) -> Stack:
    """Probabilities (N H W, or N arrays) of the tiles at N positions, the mean over files of weights; see `predict`."""
    total = np.zeros((), dtype=np.float32)
    for file in files:
        load_weights(network.model, file)
        total = total + predict(network, tiles, positions, runtime, tta, f"{title}, {file.parent.name}")
    return total / np.float32(len(files))
