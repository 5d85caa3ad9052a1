"""One fold: epochs of training steps, each with validation and checkpoint, and then its result.

A fold resumes from last.pt, also within an epoch, and on a CPU ends with the same bytes: all that is random in a step
is seeded by (seed, fold, epoch, step). A finished fold does not come here, see `crossval.complete_fold`. `Runtime` in
salt/machine/device.py says what differs on a GPU.
"""

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from salt.data.loader import Batch, train_loader
from salt.data.windows import Windows
from salt.inference.choose import load_engine
from salt.inference.engine import engine_of
from salt.inference.predict import Predictor
from salt.job import Job
from salt.losses.combine import set_progress
from salt.machine import distributed, interrupt
from salt.machine.device import AsyncScalars, peak_memory, seed_all
from salt.models.inputs import to_float
from salt.runs.files import write_json
from salt.runs.rundir import snapshot_file
from salt.runs.stacks import as_float16, save_stack
from salt.runs.weights import save_weights
from salt.scoring import metrics
from salt.training import checkpoint
from salt.training.averaging import recompute_norms
from salt.training.loggers import spread, tiles_picture
from salt.training.schedule import after_epoch, snapshot_epochs
from salt.training.setup import (
    all_labelled_tiles,
    all_tiles,
    epoch_batches,
    make_crops,
    make_fold,
    make_state,
    snapshot_files,
    training_positions,
)
from salt.training.state import Ahead, Epoch, EpochRow, Fold, FoldState
from salt.training.step import HELP, read_outcome, train_step
from salt.words import duration

log = logging.getLogger(__name__)

# The metrics in metrics.csv, as an epoch without validation has them. CONTRIBUTING.md says what a new one needs.
NOT_VALIDATED: EpochRow = {"map_at_0.5": None, "iou": None, "empty": None}


def train_fold(job: Job, number: int) -> list[Path]:
    """Train one fold to its end; write model.safetensors, metrics.csv, oof.npz and timing.json into its folder.

    Return the files of weights; the fold's prediction is the mean over them.

    Raises:
        ValueError: too many steps give no finite loss, or last.pt cannot be used.
        Interrupted: a signal asked for it; the state is saved.
    """
    config, n_epochs = job.config, job.config.trainer.epochs
    tiles = all_tiles(job, number)
    dataset = make_crops(job, number, tiles)
    batches = epoch_batches(job, number, tiles)  # which tiles, in another order each epoch
    loader = train_loader(dataset, batches, job.runtime.workers, pin_memory=job.runtime.device.type == "cuda")

    seed_all(config.seed, number)
    state = make_state(job, number, len(batches))  # all that changes; read from last.pt if there is one
    fold = make_fold(job, number)  # all that does not change
    epochs = range(state.epoch, n_epochs)
    hidden = distributed.tqdm_disable()
    bar = tqdm(epochs, f"fold {number}", n_epochs, initial=state.epoch, unit="epoch", disable=hidden)
    saved = time.monotonic()
    with interrupt.defer_signals(), open_logger(fold, state):
        for epoch in bar:
            batches.epoch, batches.first = epoch, state.current.steps  # not 0 if the fold resumes within an epoch
            stop = train_epoch(fold, state, loader, tiles.ids)
            if stop:
                save_and_stop(fold, state)
            finish_epoch(fold, state)
            bar.set_postfix_str(time_left(state, fold.ahead))
            if state.epoch == n_epochs or time.monotonic() - saved >= config.trainer.checkpoint_seconds:
                checkpoint.save(state, fold.path)
                saved = time.monotonic()
    return write_fold_result(fold, state)


def train_epoch(fold: Fold, state: FoldState, loader: "DataLoader[Batch]", ids: list[str]) -> bool:
    """Train the remaining steps of an epoch; return whether a signal asks to stop, which may leave it incomplete."""
    config = fold.job.config
    state.model.train()
    set_progress(fold.loss, state.epoch / config.trainer.epochs)  # for a loss that changes during training
    hidden, title = distributed.tqdm_disable(), f"epoch {state.epoch + 1}"
    bar = tqdm(
        loader, title, state.steps_per_epoch, leave=False, initial=state.current.steps, unit="step", disable=hidden
    )
    stop = False
    unread: tuple[Tensor, AsyncScalars] | None = None
    began = last = time.perf_counter()
    for batch in bar:
        seed_all(config.seed, fold.number, state.epoch, state.current.steps, distributed.rank())
        state.current.lr = float(state.schedule.get_last_lr()[0])
        outcome = AsyncScalars(train_step(fold, state, batch))
        state.current.steps += 1
        if unread:  # the previous step's outcome: waiting for this one would leave the device idle
            stop = read_outcome(state, *unread, ids)
        unread = (batch.index, outcome)

        n_images, now = len(batch.index) * distributed.world_size(), time.perf_counter()
        state.clock.train_seconds += now - last
        state.clock.train_images += n_images
        bar.set_postfix_str(step_line(state, n_images / (now - last)), refresh=False)
        last = now
        if stop:
            break
    if unread:
        stop = read_outcome(state, *unread, ids) or stop
    state.clock.train_seconds += time.perf_counter() - last  # while the device still worked
    # a signal that came after the last step had started, perhaps to only one of the processes
    stop = stop or distributed.any_of(interrupt.pending() is not None)
    state.clock.seconds += time.perf_counter() - began
    return stop


def save_and_stop(fold: Fold, state: FoldState) -> NoReturn:
    """Save the state and raise `Interrupted`; the epoch ends when the fold resumes."""
    checkpoint.save(state, fold.path)
    log.info("fold %d: saved after step %d of epoch %d", fold.number, state.current.steps, state.epoch + 1)
    distributed.barrier()  # torchrun stops all ranks as soon as one ends, and rank 0 was still saving
    raise interrupt.Interrupted(interrupt.pending() or signal.SIGTERM)


def finish_epoch(fold: Fold, state: FoldState) -> None:
    """Update average and learning rate, validate, and add a row to metrics.csv."""
    began = time.perf_counter()
    loss = state.current.mean_loss
    row: EpochRow = {"epoch": state.epoch + 1, "lr": state.current.lr, "loss": loss}
    state.epoch += 1
    state.average.after_epoch(state.epoch / fold.job.config.trainer.epochs)
    after_epoch(state.schedule, loss)
    distributed.same_as_main(state.average.module)
    check_finite(state)
    state.rows.append(row | validate(fold, state))
    state.current = Epoch()
    if state.epoch in snapshot_epochs(state.schedule):
        with use_average(fold, state):
            save_weights(state.model, snapshot_file(fold.path, state.epoch))
    checkpoint.write_table(state, fold.path)
    fold.logger.call("epoch", state.rows[-1])
    state.clock.seconds += time.perf_counter() - began
    log.info("fold %d: %s", fold.number, epoch_line(state, fold.ahead))


def check_finite(state: FoldState) -> None:
    """Refuse weights or statistics of batch norm that are not finite, before a checkpoint keeps them."""
    tensors = state.average.module.state_dict()
    finite = torch.stack([torch.isfinite(value).all() for value in tensors.values()]).tolist()
    for name, ok in zip(tensors, finite, strict=True):
        if not ok:
            raise ValueError(f"{name} is not finite after epoch {state.epoch}; the last checkpoint is kept. {HELP}")


def validate(fold: Fold, state: FoldState) -> EpochRow:
    """Return the metrics of the held-out tiles at threshold 0.5, not mirrored; None in an epoch without validation."""
    job, tiles, trainer = fold.job, fold.job.data.train, fold.job.config.trainer
    assert tiles.masks is not None
    if (state.epoch < trainer.epochs and state.epoch % trainer.validate_every) or not len(fold.held_out):
        return NOT_VALIDATED
    with use_average(fold, state):
        predictor = Predictor(engine_of(job.network, job.runtime), "validate")
        probabilities = predictor.predict(tiles, fold.held_out).mean
    if not distributed.is_main():  # rank 0 has the probabilities, and writes the table
        return NOT_VALIDATED
    tiles.empty_unseen(probabilities, fold.held_out, job.config.data.constant_tiles)
    masks = tiles.masks[fold.held_out]
    if fold.logger.n_images:
        some = spread(tiles.coverage[fold.held_out], fold.logger.n_images)
        picture = tiles_picture(tiles.images[fold.held_out[some]], masks[some], probabilities[some])
        fold.logger.call("picture", state.epoch, picture)
    counts = metrics.count_pixels(probabilities, masks, np.array([0.5]), tiles.known_at(fold.held_out))
    return {"map_at_0.5": float(metrics.score_counts(*counts).mean()), **metrics.mean_metrics(*counts)}


def write_fold_result(fold: Fold, state: FoldState) -> list[Path]:
    """Write weights, times, and the out-of-fold probabilities: the mean over these weights and any snapshots."""
    job, tiles = fold.job, fold.job.data.train
    files = [*snapshot_files(state, fold.path), fold.path / "model.safetensors"]
    with use_average(fold, state):
        save_weights(state.model, files[-1])
    distributed.barrier()  # the other processes read what rank 0 wrote
    if len(fold.held_out):
        engine = load_engine(job.config, files, job.runtime)
        probabilities = Predictor(engine, "validate").predict(tiles, fold.held_out).mean
        ids = np.array([tiles.ids[i] for i in fold.held_out])
        save_stack(fold.path / "oof.npz", ids, probabilities=as_float16(probabilities))
    times = {"epochs": state.epoch, "seconds": state.clock.seconds, "images_per_second": state.clock.images_per_second}
    write_json(fold.path / "timing.json", times | {"memory_gb": peak_memory(job.runtime.device)})
    return files


@contextmanager
def use_average(fold: Fold, state: FoldState) -> Iterator[None]:
    """Load the averaged weights into the model, which may be compiled, and its own weights again at the end."""
    own = {k: v.clone() for k, v in state.model.state_dict().items()}
    state.model.load_state_dict(state.average.module.state_dict())
    try:
        if state.average.stale_norms:
            seed_all(fold.job.config.seed, fold.number, state.epoch)  # of dropout
            with fold.job.runtime.autocast():
                recompute_norms(state.model, clean_batches(fold))
        yield
    finally:
        state.model.load_state_dict(own)


def clean_batches(fold: Fold) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images and depths of the training tiles without augmentation, in full batches."""
    job, size = fold.job, fold.job.config.trainer.batch_size
    tiles = all_labelled_tiles(job, fold.number)
    windows = Windows(tiles.images, training_positions(job, fold.number, tiles), job.network.model.tile)
    for begin in range(0, len(windows) // size * size, size):
        images, at = windows.cut(begin, begin + size)
        depths = torch.from_numpy(tiles.depths[at]).float().to(job.runtime.device)
        yield to_float(torch.from_numpy(images)[:, None].to(job.runtime.device)), depths


@contextmanager
def open_logger(fold: Fold, state: FoldState) -> Iterator[None]:
    """Start the run's logger for this fold, and end it at the end."""
    settings = fold.job.config.model_dump(mode="json", by_alias=True)
    fold.logger.call("start", fold.job.config.name, fold.number, fold.path, state.epoch, settings)
    try:
        yield
    finally:
        fold.logger.call("end")


def step_line(state: FoldState, images_per_second: float) -> str:
    """Return the end of the progress bar; the first loss is known one step later."""
    loss = f"loss {state.current.mean_loss:.4f}, " if state.current.losses else ""
    return f"{loss}lr {state.current.lr:.2e}, {images_per_second:.0f} images/s"


def epoch_line(state: FoldState, ahead: Ahead) -> str:
    """Return one line about the newest epoch."""
    row = state.rows[-1]
    parts = [f"epoch {row['epoch']}", f"loss {row['loss']:.4f}", f"lr {row['lr']:.3g}"]
    if row["map_at_0.5"] is not None:
        parts.append(f"map {row['map_at_0.5']:.4f} at threshold 0.5")
    if row["iou"] is not None:
        parts.append(f"IoU {row['iou']:.4f} of tiles with salt")
    if row["empty"] is not None:
        parts.append(f"{row['empty']:.1%} of empty tiles found")
    return ", ".join([*parts, f"{state.clock.images_per_second:.1f} images/s", time_left(state, ahead)])


def time_left(state: FoldState, ahead: Ahead) -> str:
    """Return how long the fold, the run and the sweep will still take, by the mean time of the epochs so far."""
    each = state.clock.seconds / state.epoch
    fold_seconds, whole = each * (state.epochs - state.epoch), each * state.epochs
    run_seconds = fold_seconds + whole * ahead.in_run
    text = f"{duration(fold_seconds)} left"
    if ahead.in_run:
        text += f", {duration(run_seconds)} for all folds"
    if ahead.in_sweep:
        text += f", {duration(run_seconds + whole * ahead.in_sweep)} for the sweep"
    return text
