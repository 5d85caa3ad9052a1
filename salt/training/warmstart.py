"""Weights that the folds of a run begin with: each those of the same fold of another run."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salt import build
from salt.config import RunConfig
from salt.data.folds import read_folds
from salt.runs.rundir import RunDir, weight_files
from salt.runs.weights import other_tensor, read_weights


def first_weights(config: RunConfig, fold: int) -> Path | None:
    """The file of the weights that a fold begins with; None where it begins with the encoder's own.

    Raises:
        ValueError: `init` names no run of as many folds, or its fold is not finished.
    """
    if config.init is None:
        return None
    source = RunDir(Path(config.init))
    n_folds = source.read_config().data.n_folds
    if n_folds != config.data.n_folds:
        raise ValueError(f"init={config.init} has {n_folds} folds, expected {config.data.n_folds}, as this run")
    if not source.is_done(fold):
        raise ValueError(f"init={config.init}: its fold {fold} is not finished, so fold {fold} cannot begin with it")
    return weight_files(source.fold(fold))[-1]


def check_first_weights(config: RunConfig, ids: list[str], folds: NDArray[np.int64], begin: list[int]) -> None:
    """Make sure that the folds `begin` can begin with the weights that the config names.

    Raises:
        ValueError: as `first_weights`; or the other run's network is another one; or it divided the tiles in another
            way, so that its fold k was trained on tiles that this run's fold k is scored on.
    """
    files = [file for file in (first_weights(config, fold) for fold in begin) if file is not None]
    if not files:
        return
    assert config.init is not None
    other = other_tensor(build.build_model(build.without_weights(config)), read_weights(files[0]))
    if other is not None:
        raise ValueError(
            f"init={config.init} has another network than this run ({other}); expected the same encoder, decoder and "
            "other parts"
        )
    wrong = f"init={config.init}: its folds are not those of this run"
    try:
        same = np.array_equal(read_folds(Path(config.init, "folds.csv"), ids, config.data.n_folds), folds)
    except ValueError as error:
        raise ValueError(f"{wrong}: {error}") from None
    if not same:
        raise ValueError(f"{wrong}, so its networks saw tiles that are held out here; use the same data.fold_seed")
