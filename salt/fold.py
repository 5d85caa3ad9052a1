"""One fold: epochs of training steps, validation, a checkpoint after each epoch, and the result.

The order at start: a finished fold is not touched (crossval decides that); else `last.pt` goes on; else from zero.
"""

import csv
import io
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from salt import build, metrics
from salt.averaging import Last, recompute_norms
from salt.config import RunConfig
from salt.data.mix import CutMix, MixUp, NoMix
from salt.data.tgs import Tiles
from salt.data.tiles import Batch, EpochBatches, TrainTiles, train_loader
from salt.losses.combine import set_progress
from salt.models.segmenter import Segmenter
from salt.predict import Forward, inputs, predict, to_float
from salt.rundir import weight_files, write_atomic, write_json, write_text
from salt.runtime import Runtime, seed_all
from salt.schedule import end_epoch, snapshot_epochs

log = logging.getLogger(__name__)

WARMUP_STEPS = 10  # not counted in images per second: compilation, caches
FORMAT = 1  # of last.pt

Row = dict[str, float | int | None]  # of metrics.csv
NOT_VALIDATED: Row = {"map_at_0.5": None, "iou": None, "empty": None}


@dataclass
class Clock:
    """Time of a fold over all its processes: `seconds` of everything, and of counted training steps alone."""

    seconds: float = 0.0
    train_seconds: float = 0.0
    train_images: int = 0
    warmup_seconds: float = 0.0
    warmup_images: int = 0
    steps: int = 0  # of this process: the first ones are slow

    def count_step(self, seconds: float, n_images: int) -> None:
        """Add one training step."""
        self.steps += 1
        if self.steps <= WARMUP_STEPS:
            self.warmup_seconds += seconds
            self.warmup_images += n_images
        else:
            self.train_seconds += seconds
            self.train_images += n_images

    @property
    def images_per_second(self) -> float:
        """Training throughput, data loading included; of the warm-up, if a fold is so short that there is no more."""
        if self.train_seconds:
            return self.train_images / self.train_seconds
        return self.warmup_images / self.warmup_seconds if self.warmup_seconds else 0.0


@dataclass
class State:
    """All that changes in training; `last.pt` holds just this."""

    model: Segmenter
    average: Last
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    epoch: int = 0  # epochs done
    rows: list[Row] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)

    def parts(self) -> dict[str, Any]:
        """The members that have a state_dict."""
        names = ("model", "average", "optimizer", "schedule", "scaler")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Fold:
    """What one fold works with and never changes."""

    config: RunConfig
    number: int
    path: Path
    runtime: Runtime
    training: Tiles
    held_out: Tiles
    forward: Forward  # the network as it is called: compiled, or itself
    loss: nn.Module
    mix: NoMix | MixUp | CutMix


def train_fold(
    config: RunConfig, number: int, tiles: Tiles, folds: NDArray[np.int64], path: Path, runtime: Runtime
) -> None:
    """Train one fold to its end and write model.safetensors, metrics.csv, oof.npz and timing.json into `path`.

    Raises:
        ValueError: the loss is not finite, or last.pt cannot be used.
    """
    training, held_out = np.flatnonzero(folds != number), np.flatnonzero(folds == number)
    batches = EpochBatches(training, config.trainer.batch_size, (config.seed, number))
    augment = build.build_augment(config)
    dataset = TrainTiles(tiles, augment, (config.seed, number))
    loader = train_loader(dataset, batches, runtime.workers, pin_memory=runtime.device.type == "cuda")

    seed_all(config.seed, number)
    state = start(config, len(batches), path, runtime)
    forward = torch.compile(state.model) if config.trainer.compile else state.model
    loss = build.build_loss(config).to(runtime.device)
    fold = Fold(config, number, path, runtime, tiles[training], tiles[held_out], forward, loss, augment.mix)

    epochs = tqdm(
        range(state.epoch, config.trainer.epochs),
        initial=state.epoch,
        total=config.trainer.epochs,
        desc=f"fold {number}",
        unit="epoch",
        disable=None,
    )
    for epoch in epochs:
        began = time.perf_counter()
        seed_all(config.seed, number, epoch)
        batches.epoch = epoch
        set_progress(loss, epoch / config.trainer.epochs)
        row: Row = {"epoch": epoch + 1, "lr": float(state.schedule.get_last_lr()[0])}
        row["loss"] = mean_loss = train_epoch(fold, state, loader, tiles.ids)
        state.epoch = epoch + 1
        state.average.after_epoch(state.model, state.epoch / config.trainer.epochs)
        end_epoch(state.schedule, mean_loss)
        state.rows.append(row | validate(fold, state))
        check_finite(state)
        if state.epoch in snapshot_epochs(state.schedule):
            with result_weights(fold, state):
                save_weights(state.model, path / f"snapshot_{state.epoch:04d}.safetensors")
        state.clock.seconds += time.perf_counter() - began
        save(state, path)
        log.info("fold %d: %s", number, summary(state))
    finish(fold, state)


def finish(fold: Fold, state: State) -> None:
    """Write the result: weights, out-of-fold probabilities (the mean over snapshots, where there are any), times."""
    with result_weights(fold, state):
        save_weights(state.model, fold.path / "model.safetensors")
        total = np.zeros(fold.held_out.images.shape, dtype=np.float32)
        files = weight_files(fold.path)
        for file in files:
            state.model.load_state_dict(load_file(file))
            total += predict_held_out(fold, state, fold.config.trainer.tta)
    probabilities = (total / len(files)).astype(np.float16)
    write_npz(fold.path / "oof.npz", ids=np.array(fold.held_out.ids), probabilities=probabilities)
    rate, seconds = state.clock.images_per_second, state.clock.seconds
    write_json(fold.path / "timing.json", {"epochs": state.epoch, "seconds": seconds, "images_per_second": rate})


def start(config: RunConfig, steps_per_epoch: int, path: Path, runtime: Runtime) -> State:
    """A fresh state, or the one in `last.pt`."""
    resumed = (path / "last.pt").exists()
    model = build.build_model(build.without_weights(config) if resumed else config).to(runtime.device)
    if config.trainer.channels_last:
        model = model.to(memory_format=torch.channels_last)
    optimizer = build.build_optimizer(config, model)
    state = State(
        model=model,
        average=build.build_averaging(config, model),
        optimizer=optimizer,
        schedule=build.build_schedule(config, optimizer, steps_per_epoch),
        scaler=torch.amp.GradScaler(runtime.device.type, enabled=runtime.dtype == torch.float16),
    )
    if resumed:
        load(state, path / "last.pt")
        log.info("%s goes on after epoch %d", path, state.epoch)
    return state


def train_epoch(fold: Fold, state: State, loader: "DataLoader[Batch]", ids: list[str]) -> float:
    """One pass over the training tiles; returns the mean loss."""
    state.model.train()
    total = 0.0
    bar = tqdm(loader, desc=f"epoch {state.epoch + 1}", unit="step", disable=None, leave=False)
    clock = time.perf_counter()
    for step, batch in enumerate(bar):
        value = train_step(fold, state, batch)
        if not math.isfinite(value):
            raise ValueError(
                f"the loss is {value} in epoch {state.epoch + 1}, step {step + 1}; tiles of the batch: "
                f"{', '.join(ids[i] for i in batch.index.tolist())}. The checkpoint of the last whole epoch is kept; "
                "a lower optimizer.lr or trainer.precision=fp32 may help, under another name."
            )
        total += value
        now = time.perf_counter()
        state.clock.count_step(now - clock, len(batch.index))
        lr, rate = state.schedule.get_last_lr()[0], len(batch.index) / (now - clock)
        bar.set_postfix_str(f"loss {value:.4f}, lr {lr:.2e}, {rate:.0f} images/s", refresh=False)
        clock = now
    return total / len(loader)


def train_step(fold: Fold, state: State, batch: Batch) -> float:
    """Forward, loss in float32, backward, and one step of optimizer, average and learning rate."""
    device = fold.runtime.device
    masks, depths = (t.to(device, non_blocking=True).float() for t in (batch.masks, batch.depths))
    mixed = fold.mix(to_float(batch.images, fold.runtime), masks, depths)
    with fold.runtime.autocast():
        output = fold.forward(mixed.images, mixed.depths)
    terms = [weight * state.model.loss(output, target, fold.loss) for weight, target in mixed.targets]
    value = torch.stack(terms).sum()
    state.optimizer.zero_grad(set_to_none=True)
    state.scaler.scale(value).backward()
    if fold.config.trainer.clip is not None:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.model.parameters(), fold.config.trainer.clip)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.average.after_step(state.model)
    state.schedule.step()
    return float(value.item())


def check_finite(state: State) -> None:
    """Refuse to keep weights that a gradient without bounds has spoiled after the last finite loss."""
    for name, value in state.average.module.state_dict().items():
        if not torch.isfinite(value).all():
            raise ValueError(
                f"{name} is not finite after epoch {state.epoch}; the checkpoint of the epoch before is kept. "
                "A lower optimizer.lr, trainer.clip=1 or trainer.precision=fp32 may help, under another name."
            )


def validate(fold: Fold, state: State) -> Row:
    """Score at threshold 0.5, IoU of tiles with salt, and accuracy on tiles without, not mirrored; if it is time to."""
    assert fold.held_out.masks is not None
    if state.epoch < fold.config.trainer.epochs and state.epoch % fold.config.trainer.validate_every:
        return NOT_VALIDATED
    with result_weights(fold, state):
        probabilities = predict_held_out(fold, state, tta=False)
    counts = metrics.count_pixels(probabilities, fold.held_out.masks, np.array([0.5]))
    return {"map_at_0.5": float(metrics.score_counts(*counts).mean()), **metrics.salt_and_empty(*counts)}


def predict_held_out(fold: Fold, state: State, tta: bool) -> NDArray[np.float32]:
    """Probabilities (N H W) of the held-out tiles with the weights that the model has now."""
    batch_size = fold.config.trainer.batch_size
    return predict(fold.forward, state.model, fold.held_out, batch_size, fold.runtime, tta, "validate")


@contextmanager
def result_weights(fold: Fold, state: State) -> Iterator[None]:
    """Within this context the model has the weights that count as the result now; afterwards its own again.

    The weights change place instead of the models, so that a compiled network serves both.
    """
    own = {k: v.clone() for k, v in state.model.state_dict().items()}
    state.model.load_state_dict(state.average.module.state_dict())
    try:
        if state.average.stale_norms:
            seed_all(fold.config.seed, fold.number, state.epoch)  # of dropout
            with fold.runtime.autocast():
                recompute_norms(state.model, fold.forward, clean_batches(fold))
        yield
    finally:
        state.model.load_state_dict(own)


def clean_batches(fold: Fold) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and depths of the fold's training tiles as they are, in full batches."""
    size = fold.config.trainer.batch_size
    for start in range(0, len(fold.training.ids) - size + 1, size):
        yield inputs(fold.training, np.arange(start, start + size), fold.runtime)


def save_weights(model: nn.Module, file: Path) -> None:
    """Write a network's weights, atomically."""
    weights = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    write_atomic(file, lambda temporary: save_file(weights, temporary))


def save(state: State, path: Path) -> None:
    """Write metrics.csv, then last.pt, each atomically; a table ahead of last.pt is written again on resuming."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(state.rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(state.rows)
    write_text(path / "metrics.csv", text.getvalue())
    content = {name: part.state_dict() for name, part in state.parts().items()}
    clock = vars(state.clock) | {"steps": 0}
    content |= {"format": FORMAT, "epoch": state.epoch, "rows": state.rows, "clock": clock}
    write_atomic(path / "last.pt", lambda temporary: torch.save(content, temporary))


def load(state: State, file: Path) -> None:
    """Fill a state from last.pt.

    Raises:
        ValueError: the file is damaged, of another format, or of another network.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']}, this version reads {FORMAT}")
        for name, part in state.parts().items():
            if content[name]:  # a scaler that was not in use (another precision) has no state
                part.load_state_dict(content[name])
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ValueError(
            f"{file} cannot be used: {str(error).splitlines()[0]} Delete it to train this fold again."
        ) from error
    state.epoch, state.rows, state.clock = content["epoch"], content["rows"], Clock(**content["clock"])


def write_npz(path: Path, **arrays: NDArray[Any]) -> None:
    """Write arrays as a compressed .npz, atomically and without pickles."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    write_atomic(path, write)


def summary(state: State) -> str:
    """One line about the newest epoch."""
    row = state.rows[-1]
    numbers = [f"{k} {v:.4g}" for k, v in row.items() if v is not None and k != "epoch"]
    return f"epoch {row['epoch']}, " + ", ".join(numbers) + f", {state.clock.images_per_second:.1f} images/s"
