"""What a run will do, and how long it will take: a training step and a prediction are timed before it begins."""

import dataclasses
import logging
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from salt import build
from salt.build import build_network
from salt.config import RunConfig
from salt.data.loader import TrainTiles, train_loader
from salt.data.tiles import Dataset, Tiles
from salt.data.windows import Windows
from salt.inference.predict import Predictor
from salt.machine.device import Runtime, seed_all
from salt.training.fold import prepare
from salt.training.setup import epoch_batches, start, training_tiles
from salt.training.step import train_step

log = logging.getLogger(__name__)

LONG_ON_CPU = 5e12  # parameters times tiles trained on: 2 cores take 6 hours and more
FEW = 8  # tiles; on a CPU the time is in proportion to their number, and a whole batch may take long


def log_plan(config: RunConfig, data: Dataset, folds: NDArray[np.int64], runtime: Runtime, n_parameters: int) -> None:
    """Log the data, the network, the device, and the folds and steps to train."""
    empty = (data.train.coverage == 0).mean()
    steps = [len(epoch_batches(config, data.train, folds, fold)) for fold in config.fold_list]
    log.info(
        "%s: %d train tiles (%.0f %% without salt, %d constant), %d test tiles",
        config.data.root,
        len(folds),
        100 * empty,
        data.train.constant.sum(),
        len(data.test.ids),
    )
    log.info(
        "%s (weights: %s) with %.1f M parameters on %s in %s; folds %s of %d, %s of %s of %d tiles",
        config.encoder.name or config.decoder.target.rpartition(".")[2],
        config.encoder.weights or "random",
        n_parameters / 1e6,
        runtime.device,
        str(runtime.dtype).removeprefix("torch."),
        config.fold_list,
        config.data.n_folds,
        counted(config.trainer.epochs, "epoch"),
        counted(min(steps), "step"),
        config.trainer.batch_size,
    )
    n_trained = config.trainer.epochs * config.trainer.batch_size * sum(steps)
    if runtime.device.type == "cpu" and n_parameters * n_trained > LONG_ON_CPU:
        log.warning(
            "without a GPU this takes many hours (dry_run=true tells how many); "
            "experiment=cpu is made for one fold on 2 cores, experiment=cpu_5fold for all five"
        )
    if runtime.dtype == torch.float16 and runtime.device.type == "cpu":
        log.warning("trainer.precision=fp16 is about 10 times as slow as fp32 on a CPU, which has no units for it")


def counted(n: int, noun: str) -> str:
    """A number with its noun."""
    return f"{n} {noun}{'s' * (n != 1)}"


def estimate_seconds(
    config: RunConfig, data: Dataset, folds: NDArray[np.int64], todo: list[int], runtime: Runtime
) -> float:
    """Return how many seconds the folds `todo` will take, with their validation and the prediction of the test tiles.

    Without torch.compile, whose start takes long. Loading counts if the run has no worker processes for it.
    """
    if not todo:
        return 0.0
    one = todo[0]  # for all
    few, runtime = smaller(config, runtime)
    network = build_network(few, runtime)
    augment = build.build_augment(few)
    tiles = training_tiles(config, data, one)
    dataset = TrainTiles(tiles, augment, (config.seed, one), config.data.size)
    batches = epoch_batches(few, tiles, folds, one)
    loader = train_loader(dataset, batches, 0, pin_memory=False)
    with tempfile.TemporaryDirectory() as empty:
        state = start(few, len(batches), Path(empty), network.model, runtime)
        fold = prepare(few, one, data.train, folds, Path(empty), network, runtime, augment)
    state.model.train()
    seed_all(config.seed)
    loaded = next(iter(loader))
    some = np.resize(np.arange(len(loaded.index)), runtime.predict_batch_size)
    shown = Tiles([], loaded.images[:, 0].numpy(), None, loaded.depths.numpy())

    def train() -> None:
        train_step(fold, state, loaded if runtime.workers else next(iter(loader))).tolist()

    def validate() -> None:
        Predictor(network, runtime, tta=False, title="trial").predict(shown, some)

    step = fastest(train) / few.trainer.batch_size
    predicted = fastest(validate) / runtime.predict_batch_size
    n_trained = len(epoch_batches(config, data.train, folds, one)) * config.trainer.batch_size
    n_held_out, n_test = (
        len(Windows(images, positions, config.data.size))
        for images, positions in (
            (data.train.images, np.flatnonzero(folds == one)),
            (data.test.images, np.arange(len(data.test.ids))),
        )
    )
    n_validations = math.ceil(config.trainer.epochs / config.trainer.validate_every)
    n_predicted = n_held_out * n_validations + (n_held_out + n_test) * (1 + config.trainer.tta)
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
