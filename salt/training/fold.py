"""One fold: epochs of training steps, validation, checkpoints, and the result.

The order at start: a finished fold is not touched (crossval decides that); else it resumes from `last.pt` or starts.
All that is random in a step comes from (seed, fold, epoch, step), so that a fold can resume after any step.
"""

import logging
import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from salt import build
from salt.data.loader import Batch, TrainTiles, train_loader
from salt.data.windows import Windows
from salt.inference.predict import WINDOWS_AT_ONCE, Predictor, inputs, predict_mean, to_float
from salt.job import Job
from salt.losses.combine import set_progress
from salt.machine import distributed, interrupt
from salt.machine.device import AsyncScalars, peak_memory, seed_all
from salt.runs.files import write_json
from salt.runs.rundir import snapshot_file
from salt.runs.stacks import halves, save_stack
from salt.runs.weights import save_weights
from salt.scoring import metrics
from salt.training import checkpoint
from salt.training.averaging import recompute_norms
from salt.training.batches import epoch_batches, training_tiles
from salt.training.loggers import spread, tiles_picture
from salt.training.progress import epoch_line, time_left
from salt.training.schedule import after_epoch, snapshot_epochs
from salt.training.setup import make_fold, make_state, snapshots
from salt.training.state import Epoch, Fold, Row, State
from salt.training.step import HELP, read_outcome, train_step

log = logging.getLogger(__name__)

NOT_VALIDATED: Row = {"map_at_0.5": None, "iou": None, "empty": None}


def train_fold(job: Job, number: int) -> list[Path]:
    """Train one fold to its end; write model.safetensors, metrics.csv, oof.npz and timing.json into its folder.

    Return the files of weights whose probabilities the fold's prediction averages.

    Raises:
        ValueError: too many steps give no finite loss, or last.pt cannot be used.
        Interrupted: a signal asked for it; the state is saved.
    """
    config, n = job.config, job.config.trainer.epochs
    tiles = training_tiles(job, number)
    dataset = TrainTiles(tiles, build.build_augment(config), (config.seed, number), config.data.size)
    batches = epoch_batches(job, number, tiles)
    loader = train_loader(dataset, batches, job.runtime.workers, pin_memory=job.runtime.device.type == "cuda")

    seed_all(config.seed, number)
    state = make_state(job, number, len(batches))
    fold = make_fold(job, number)
    hidden = distributed.hides_bars()
    epochs = tqdm(range(state.epoch, n), f"fold {number}", n, initial=state.epoch, unit="epoch", disable=hidden)
    saved = time.monotonic()
    with interrupt.deferred(), shown(fold, state):
        for epoch in epochs:
            batches.epoch, batches.first = epoch, state.current.steps
            stop = train_epoch(fold, state, loader, tiles.ids)
            if state.current.steps == len(batches) and not stop:  # a stopped fold ends its epoch when it resumes
                finish_epoch(fold, state)
                epochs.set_postfix_str(time_left(state, fold.ahead))
            due = time.monotonic() - saved >= config.trainer.checkpoint_seconds
            if stop or due or state.epoch == n:
                checkpoint.save(state, fold.path)
                saved = time.monotonic()
            if stop:
                log.info("fold %d: saved after step %d of epoch %d", number, state.current.steps, state.epoch + 1)
                distributed.barrier()  # torchrun stops all ranks as soon as one ends, and rank 0 was still saving
                raise interrupt.Interrupted(interrupt.noted() or signal.SIGTERM)
    return finish(fold, state)


@contextmanager
def shown(fold: Fold, state: State) -> Iterator[None]:
    """Within this context the run's logger shows the epochs of the fold."""
    settings = fold.job.config.model_dump(mode="json", by_alias=True)
    fold.logger.call("start", fold.job.config.name, fold.number, fold.path, state.epoch, settings)
    try:
        yield
    finally:
        fold.logger.call("end")


def finish_epoch(fold: Fold, state: State) -> None:
    """Averages, learning rate, validation, and a row of metrics.csv."""
    began = time.perf_counter()
    row: Row = {"epoch": state.epoch + 1, "lr": state.current.lr}
    row["loss"] = mean_loss = state.current.mean
    state.epoch += 1
    state.average.after_epoch(state.epoch / fold.job.config.trainer.epochs)
    after_epoch(state.schedule, mean_loss)
    distributed.same_as_main(state.average.module)
    check_finite(state)
    state.rows.append(row | validate(fold, state))
    state.current = Epoch()
    if state.epoch in snapshot_epochs(state.schedule):
        with result_weights(fold, state):
            save_weights(state.model, snapshot_file(fold.path, state.epoch))
    checkpoint.write_table(state, fold.path)
    fold.logger.call("epoch", state.rows[-1])
    state.clock.seconds += time.perf_counter() - began
    log.info("fold %d: %s", fold.number, epoch_line(state, fold.ahead))


def finish(fold: Fold, state: State) -> list[Path]:
    """Write the result: weights, out-of-fold probabilities (the mean over snapshots, where there are any), times."""
    files = [*snapshots(state, fold.path), fold.path / "model.safetensors"]
    with result_weights(fold, state):
        save_weights(state.model, files[-1])
        distributed.barrier()  # the other processes read what rank 0 wrote
        predictor = Predictor(fold.job.network, fold.job.runtime, fold.job.config.trainer.tta, "validate")
        probabilities = predict_mean(predictor.in_turn(files), fold.job.data.train, fold.job.held_out(fold.number))
    ids = np.array([fold.job.data.train.ids[i] for i in fold.job.held_out(fold.number)])
    save_stack(fold.path / "oof.npz", ids, probabilities=halves(probabilities))
    times = {"epochs": state.epoch, "seconds": state.clock.seconds, "images_per_second": state.clock.images_per_second}
    write_json(fold.path / "timing.json", times | {"memory_gb": peak_memory(fold.job.runtime.device)})
    return files


def train_epoch(fold: Fold, state: State, loader: "DataLoader[Batch]", ids: list[str]) -> bool:
    """Train what is left of an epoch; returns whether a signal asked to stop, which may leave it incomplete."""
    state.model.train()
    set_progress(fold.loss, state.epoch / fold.job.config.trainer.epochs)
    bar = tqdm(
        loader,
        initial=state.current.steps,
        total=state.steps_per_epoch,
        desc=f"epoch {state.epoch + 1}",
        unit="step",
        disable=distributed.hides_bars(),
        leave=False,
    )
    unread: deque[tuple[Tensor, AsyncScalars]] = deque()
    stop = False
    began = clock = time.perf_counter()
    for batch in bar:
        seed_all(fold.job.config.seed, fold.number, state.epoch, state.current.steps, distributed.rank())
        state.current.lr = float(state.schedule.get_last_lr()[0])
        unread.append((batch.index, AsyncScalars(train_step(fold, state, batch))))
        state.current.steps += 1
        if len(unread) > 1:  # the outcome of the step before, so that the device never waits for the CPU
            stop = read_outcome(state, *unread.popleft(), ids)
        now = time.perf_counter()
        n_images = len(batch.index) * distributed.world_size()
        state.clock.count_step(now - clock, n_images)
        loss = f"loss {state.current.mean:.4f}, " if state.current.losses else ""  # the first is read one step later
        rate = f"{n_images / (now - clock):.0f} images/s"
        bar.set_postfix_str(f"{loss}lr {state.current.lr:.2e}, {rate}", refresh=False)
        clock = now
        if stop:
            break
    while unread:
        stop = read_outcome(state, *unread.popleft(), ids) or stop
    state.clock.end_step(time.perf_counter() - clock)
    # a signal that came after the last step was started, perhaps to one of the processes alone
    stop = stop or distributed.any_of(interrupt.noted() is not None)
    state.clock.seconds += time.perf_counter() - began
    return stop


def check_finite(state: State) -> None:
    """Refuse to keep weights or statistics of batch norm that are no numbers."""
    tensors = state.average.module.state_dict()
    finite = torch.stack([torch.isfinite(value).all() for value in tensors.values()]).tolist()
    for name, ok in zip(tensors, finite, strict=True):
        if not ok:
            raise ValueError(f"{name} is not finite after epoch {state.epoch}; the last checkpoint is kept. {HELP}")


def validate(fold: Fold, state: State) -> Row:
    """Score at threshold 0.5, IoU of tiles with salt, and accuracy on tiles without, not mirrored; if it is time to."""
    assert fold.job.data.train.masks is not None
    if state.epoch < fold.job.config.trainer.epochs and state.epoch % fold.job.config.trainer.validate_every:
        return NOT_VALIDATED
    with result_weights(fold, state):
        predictor = Predictor(fold.job.network, fold.job.runtime, tta=False, title="validate")
        probabilities = predictor.predict(fold.job.data.train, fold.job.held_out(fold.number))
    if not distributed.is_main():  # rank 0 has the probabilities, and writes the table
        return NOT_VALIDATED
    fold.job.data.train.empty_unseen(probabilities, fold.job.held_out(fold.number), fold.job.config.data.constant_tiles)
    masks = fold.job.data.train.masks[fold.job.held_out(fold.number)]
    if fold.logger.n_images:
        some = spread(fold.job.data.train.coverage[fold.job.held_out(fold.number)], fold.logger.n_images)
        images = fold.job.data.train.images[fold.job.held_out(fold.number)[some]]
        fold.logger.call("picture", state.epoch, tiles_picture(images, masks[some], probabilities[some]))
    counts = metrics.count_pixels(probabilities, masks, np.array([0.5]))
    return {"map_at_0.5": float(metrics.score_counts(*counts).mean()), **metrics.salt_and_empty(*counts)}


@contextmanager
def result_weights(fold: Fold, state: State) -> Iterator[None]:
    """Within this context the model has the weights that count as the result now; afterwards its own again.

    The weights change place instead of the models, so that a compiled network serves both.
    """
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
    """Images and depths of the fold's training tiles as they are, in full batches; many are copied at once."""
    size = fold.job.config.trainer.batch_size
    windows = Windows(fold.job.data.train.images, fold.job.training(fold.number), fold.job.network.model.tile)
    end = len(windows) // size * size
    block = max(WINDOWS_AT_ONCE // size, 1) * size
    for begin in range(0, end, block):
        images, depths = inputs(fold.job.data.train, windows, begin, min(begin + block, end), fold.job.runtime)
        for some_images, some_depths in zip(images.split(size), depths.split(size), strict=True):
            yield to_float(some_images, fold.job.runtime), some_depths
