"""How long a run will take, from a training step and a prediction that are timed before it begins."""

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salt import build
from salt.config import RunConfig
from salt.data.loader import EpochBatches, TrainTiles, train_loader
from salt.data.tgs import Dataset
from salt.inference.predict import predict
from salt.machine.device import Runtime, seed_all
from salt.network import build_network
from salt.training.fold import prepare
from salt.training.setup import start
from salt.training.step import train_step

FEW = 8  # tiles; on a CPU the time is in proportion to their number, and a whole batch may take long


def estimate_seconds(
    config: RunConfig, data: Dataset, folds: NDArray[np.int64], todo: list[int], runtime: Runtime
) -> float:
    """Seconds that the folds `todo` will take, with their validation and the prediction of the test tiles.

    Without torch.compile, whose start takes long. Loading counts where the run has no worker processes for it.
    """
    if not todo:
        return 0.0
    few, runtime = smaller(config, runtime)
    training, held_out = np.flatnonzero(folds != todo[0]), np.flatnonzero(folds == todo[0])
    network = build_network(few, runtime)
    augment = build.build_augment(few)
    batches = EpochBatches(training, few.trainer.batch_size, (config.seed, todo[0]))
    loader = train_loader(TrainTiles(data.train, augment, (config.seed, todo[0])), batches, 0, pin_memory=False)
    with tempfile.TemporaryDirectory() as empty:
        state = start(few, len(batches), Path(empty), network.model, runtime)
        fold = prepare(few, todo[0], data.train, folds, Path(empty), network, runtime, augment)
    state.model.train()
    seed_all(config.seed)
    loaded = next(iter(loader))

    def train() -> None:
        train_step(fold, state, loaded if runtime.workers else next(iter(loader))).tolist()

    def validate() -> None:
        some = training[: runtime.predict_batch_size]
        predict(network, data.train, some, runtime, tta=False, title="trial")

    step = fastest(train) / few.trainer.batch_size
    predicted = fastest(validate) / runtime.predict_batch_size
    n_trained = len(training) // config.trainer.batch_size * config.trainer.batch_size
    n_validations = -(-config.trainer.epochs // config.trainer.validate_every)
    at_end = (len(held_out) + len(data.test.ids)) * (1 + config.trainer.tta)
    n_predicted = len(held_out) * n_validations + at_end
    return len(todo) * (config.trainer.epochs * n_trained * step + n_predicted * predicted)


def fastest(call: Callable[[], None], rounds: int = 3) -> float:
    """Seconds of the fastest call after a first one, which is slower."""
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])


def smaller(config: RunConfig, runtime: Runtime) -> tuple[RunConfig, Runtime]:
    """The settings for the trial: random weights, nothing compiled, and on a CPU a few tiles at a time."""
    size = config.trainer.batch_size
    if runtime.device.type == "cpu":
        size = min(size, FEW)
        runtime = dataclasses.replace(runtime, predict_batch_size=min(runtime.predict_batch_size, FEW))
    trainer = config.trainer.model_copy(update={"batch_size": size, "compile": False})
    return build.without_weights(config).model_copy(update={"trainer": trainer}), runtime
