"""Log what a run will do, and estimate its time from a training step and a prediction."""

import dataclasses
import logging
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from salt import build
from salt.data.loader import train_loader
from salt.data.tiles import Tiles
from salt.data.windows import Windows
from salt.inference.engine import engine_of
from salt.inference.predict import Predictor
from salt.job import Job
from salt.machine import distributed
from salt.machine.device import explain_out_of_memory, seed_all
from salt.runs.rundir import RunDir
from salt.training.setup import all_labelled_tiles, all_tiles, epoch_batches, make_crops, make_fold, make_state
from salt.training.step import train_step
from salt.words import duration, plural

log = logging.getLogger(__name__)

LONG_ON_CPU = 5e12  # parameters times tiles trained on: 2 cores take 6 hours and more
TRIAL_TILES = 8  # on a CPU: the time grows with their number, and a whole batch may take long


def log_plan(job: Job, n_parameters: int, steps: list[int]) -> None:
    """Log the data, the network, the device, and the folds to train, each with its `steps` of an epoch."""
    config, data, runtime = job.config, job.data, job.runtime
    empty = (data.train.coverage == 0).mean()
    log.info(
        "%s: %d train tiles (%.0f %% without salt, %d constant), %d test tiles",
        *(config.data.root, len(data.train.ids), 100 * empty, data.train.constant.sum(), len(data.test.ids)),
    )
    log.info(
        "%s (weights: %s) with %.1f M parameters on %s in %s; folds %s of %d, %s of %s of %d tiles",
        *(config.encoder.name or config.decoder.target.rpartition(".")[2], config.encoder.weights or "random"),
        *(n_parameters / 1e6, runtime.device, str(runtime.dtype).removeprefix("torch.")),
        *(config.fold_list, config.data.n_folds, plural(config.trainer.epochs, "epoch")),
        *(plural(min(steps), "step"), config.trainer.batch_size),
    )
    n_trained = config.trainer.epochs * config.trainer.batch_size * sum(steps)
    if runtime.device.type == "cpu" and n_parameters * n_trained > LONG_ON_CPU:
        log.warning(
            "without a GPU this takes many hours (dry_run=true estimates them); "
            "experiment=cpu trains one fold on 2 cores, experiment=cpu_5fold all five"
        )
    if runtime.dtype == torch.float16 and runtime.device.type == "cpu":
        log.warning("trainer.precision=fp16 is about 10 times slower than fp32 on a CPU")


def log_estimate(job: Job) -> None:
    """Log how long one process will take to train the unfinished folds."""
    if distributed.world_size() > 1:
        return
    todo = job.directory.unfinished(job.config.fold_list)
    if todo:
        log.info("timing a few steps ...")
    with explain_out_of_memory(job.config.trainer):
        seconds = estimate_seconds(job, todo)
    folds, time_needed = plural(len(todo), "fold"), duration(seconds)
    log.info("%s to train: about %s on this machine, by a trial of a few steps", folds, time_needed)


def estimate_seconds(job: Job, todo: list[int]) -> float:
    """Return the seconds of the folds `todo`, with validation and test tiles, without the start of torch.compile."""
    if not todo:
        return 0.0
    one = todo[0]
    config, data = job.config, job.data
    tiles = all_tiles(job, one)
    with tempfile.TemporaryDirectory() as empty:
        trial = smaller(job, Path(empty))
        dataset = make_crops(trial, one, tiles)
        batches = epoch_batches(trial, one, tiles)
        loader = train_loader(dataset, batches, 0, pin_memory=False)
        state, fold = make_state(trial, one, len(batches)), make_fold(trial, one)
    state.model.train()
    seed_all(config.seed)
    loaded = next(iter(loader))
    some = np.resize(np.arange(len(loaded.index)), trial.runtime.predict_batch_size)
    seen = Tiles([], loaded.images[:, 0].numpy(), None, loaded.depths.numpy())

    def train() -> None:
        train_step(fold, state, loaded if job.runtime.workers else next(iter(loader))).tolist()

    def validate() -> None:
        Predictor(engine_of(trial.network, trial.runtime), "trial").predict(seen, some)

    step = fastest(train) / trial.config.trainer.batch_size
    predicted = fastest(validate) / trial.runtime.predict_batch_size
    n_trained = len(epoch_batches(job, one, all_labelled_tiles(job, one))) * config.trainer.batch_size
    n_held_out = len(Windows(data.train.images, job.held_out(one), config.data.size))
    n_test = len(Windows(data.test.images, np.arange(len(data.test.ids)), config.data.size))
    n_validations = math.ceil(config.trainer.epochs / config.trainer.validate_every)
    n_predicted = n_held_out * n_validations + (n_held_out + n_test) * (1 + config.trainer.tta)
    return len(todo) * (config.trainer.epochs * n_trained * step + n_predicted * predicted)


def fastest(call: Callable[[], None], rounds: int = 3) -> float:
    """Return the seconds of the fastest call after the first one, which is slower."""
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])


def smaller(job: Job, path: Path) -> Job:
    """Return the job of the trial: random weights, nothing compiled, and few tiles at a time on a CPU."""
    size, runtime = job.config.trainer.batch_size, job.runtime
    if runtime.device.type == "cpu":
        size = min(size, TRIAL_TILES)
        runtime = dataclasses.replace(runtime, predict_batch_size=min(runtime.predict_batch_size, TRIAL_TILES))
    trainer = job.config.trainer.model_copy(update={"batch_size": size, "compile": False})
    config = build.without_weights(job.config).model_copy(update={"trainer": trainer, "init": None})
    network = build.build_network(config, runtime)
    return dataclasses.replace(job, config=config, directory=RunDir(path), runtime=runtime, network=network)
