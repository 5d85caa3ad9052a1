"""Weights that the folds of a run begin with: each those of the same fold of another run."""

from pathlib import Path

from salt.config import RunConfig
from salt.runs.rundir import RunDir, weight_files


def first_weights(config: RunConfig, fold: int) -> Path | None:
    """Return the file of the weights that a fold starts from, or None if it starts from the encoder's own.

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
