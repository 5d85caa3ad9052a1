"""One fold: epochs of training steps, validation, a checkpoint after each epoch, and the result.

The order at start: a finished fold is not touched (crossval decides that); else `last.pt` goes on; else from zero.
"""

import csv
import io
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader
from tqdm import tqdm

from salt import build, metrics
from salt.config import RunConfig
from salt.data.tgs import Tiles
from salt.data.tiles import Batch, EpochBatches, TrainTiles, train_loader
from salt.losses.combine import set_progress
from salt.models.segmenter import Output, Segmenter
from salt.predict import predict, to_float
from salt.rundir import write_atomic, write_json, write_text
from salt.runtime import Runtime, seed_all

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

    def count_step(self, seconds: float, n_images: int, warmup: bool) -> None:
        """Add one training step."""
        if warmup:
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
    average: AveragedModel
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


def train_fold(
    config: RunConfig, fold: int, tiles: Tiles, folds: NDArray[np.int64], path: Path, runtime: Runtime
) -> None:
    """Train one fold to its end and write model.safetensors, metrics.csv, oof.npz and timing.json into `path`.

    Raises:
        ValueError: the batch is larger than the fold, the loss is not finite, or last.pt cannot be used.
    """
    assert tiles.masks is not None
    training, held_out = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
    batches = EpochBatches(training, config.trainer.batch_size, (config.seed, fold))
    dataset = TrainTiles(tiles.images, tiles.masks, build.build_augment(config), (config.seed, fold))
    loader = train_loader(dataset, batches, runtime.workers, pin_memory=runtime.device.type == "cuda")

    seed_all(config.seed, fold)
    state = start(config, len(batches), path, runtime)
    loss = build.build_loss(config).to(runtime.device)
    forward = torch.compile(state.model) if config.trainer.compile else state.model
    validate = Validation(tiles.images[held_out], tiles.masks[held_out], config, runtime)

    epochs = tqdm(
        range(state.epoch, config.trainer.epochs),
        initial=state.epoch,
        total=config.trainer.epochs,
        desc=f"fold {fold}",
        unit="epoch",
        disable=None,
    )
    steps_in_process = 0
    for epoch in epochs:
        began = time.perf_counter()
        seed_all(config.seed, fold, epoch)
        batches.epoch = epoch
        set_progress(loss, epoch / config.trainer.epochs)
        row: Row = {"epoch": epoch + 1, "lr": float(state.schedule.get_last_lr()[0])}
        row["loss"] = train_epoch(config, state, forward, loss, loader, tiles.ids, runtime, steps_in_process)
        steps_in_process += len(batches)
        last = epoch + 1 == config.trainer.epochs
        scores = validate(state, forward) if last or (epoch + 1) % config.trainer.validate_every == 0 else NOT_VALIDATED
        state.rows.append(row | scores)
        state.epoch = epoch + 1
        check_finite(state)
        state.clock.seconds += time.perf_counter() - began
        save(state, path)
        log.info("fold %d: %s", fold, summary(state))

    with averaged_weights(state):
        weights = {k: v.detach().cpu().contiguous() for k, v in state.model.state_dict().items()}
        write_atomic(path / "model.safetensors", lambda temporary: save_file(weights, temporary))
        probabilities = validate.predict(state, forward, tta=config.trainer.tta)
    ids = np.array([tiles.ids[i] for i in held_out])
    write_npz(path / "oof.npz", ids=ids, probabilities=probabilities.astype(np.float16))
    rate, seconds = state.clock.images_per_second, state.clock.seconds
    write_json(path / "timing.json", {"epochs": state.epoch, "seconds": seconds, "images_per_second": rate})


def start(config: RunConfig, steps_per_epoch: int, path: Path, runtime: Runtime) -> State:
    """A fresh state, or the one in `last.pt`."""
    resumed = (path / "last.pt").exists()
    model = build.build_model(build.without_weights(config) if resumed else config).to(runtime.device)
    if config.trainer.channels_last:
        model = model.to(memory_format=torch.channels_last)
    optimizer = build.build_optimizer(config, model)
    state = State(
        model=model,
        average=AveragedModel(model, multi_avg_fn=ema(config.trainer.ema), use_buffers=True),
        optimizer=optimizer,
        schedule=build.build_schedule(config, optimizer, steps_per_epoch),
        scaler=torch.amp.GradScaler(runtime.device.type, enabled=runtime.dtype == torch.float16),
    )
    if resumed:
        load(state, path / "last.pt")
        log.info("%s goes on after epoch %d", path, state.epoch)
    return state


Tensors = list[Tensor] | tuple[Tensor, ...]


def ema(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """Exponential moving average with a warm-up: after n steps it remembers about n / 10, at most 1 / (1 - decay)."""

    @torch.no_grad()
    def update(averages: Tensors, current: Tensors, n_averaged: Tensor | int) -> None:
        n = int(n_averaged)
        weight = 1 - min(decay, (1 + n) / (10 + n))
        if torch.is_floating_point(averages[0]):
            torch._foreach_lerp_(averages, current, weight)
        else:  # counters of batch norm
            for average, value in zip(averages, current, strict=True):
                average.copy_(value)

    return update


def train_epoch(
    config: RunConfig,
    state: State,
    forward: Callable[[Tensor], Output],
    loss: nn.Module,
    loader: "DataLoader[Batch]",
    ids: list[str],
    runtime: Runtime,
    steps_before: int,
) -> float:
    """One pass over the training tiles; returns the mean loss."""
    state.model.train()
    total = 0.0
    bar = tqdm(loader, desc=f"epoch {state.epoch + 1}", unit="step", disable=None, leave=False)
    clock = time.perf_counter()
    for step, batch in enumerate(bar):
        value = train_step(config, state, forward, loss, batch, runtime)
        if not math.isfinite(value):
            raise ValueError(
                f"the loss is {value} in epoch {state.epoch + 1}, step {step + 1}; tiles of the batch: "
                f"{', '.join(ids[i] for i in batch.index.tolist())}. The checkpoint of the last whole epoch is kept; "
                "a lower optimizer.lr or trainer.precision=fp32 may help, under another name."
            )
        total += value
        now = time.perf_counter()
        state.clock.count_step(now - clock, len(batch.index), warmup=steps_before + step < WARMUP_STEPS)
        lr, rate = state.schedule.get_last_lr()[0], len(batch.index) / (now - clock)
        bar.set_postfix_str(f"loss {value:.4f}, lr {lr:.2e}, {rate:.0f} images/s", refresh=False)
        clock = now
    return total / len(loader)


def train_step(
    config: RunConfig,
    state: State,
    forward: Callable[[Tensor], Output],
    loss: nn.Module,
    batch: Batch,
    runtime: Runtime,
) -> float:
    """Forward, loss in float32, backward, and one step of optimizer, average and learning rate."""
    images = to_float(batch.images, runtime)
    masks = batch.masks.to(runtime.device, non_blocking=True).float()
    with runtime.autocast():
        output = forward(images)
    value = state.model.loss(output, masks, loss)
    state.optimizer.zero_grad(set_to_none=True)
    state.scaler.scale(value).backward()
    if config.trainer.clip is not None:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.model.parameters(), config.trainer.clip)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.average.update_parameters(state.model)
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


class Validation:
    """Scores of the averaged weights on the tiles that the fold does not train on."""

    def __init__(self, images: NDArray[np.uint8], masks: NDArray[np.uint8], config: RunConfig, runtime: Runtime):
        self.images, self.masks, self.config, self.runtime = images, masks, config, runtime

    def __call__(self, state: State, forward: Callable[[Tensor], Output]) -> Row:
        """Score at threshold 0.5, IoU of tiles with salt, and accuracy on tiles without, not mirrored."""
        with averaged_weights(state):
            probabilities = self.predict(state, forward, tta=False)
        counts = metrics.count_pixels(probabilities, self.masks, np.array([0.5]))
        return {
            "map_at_0.5": float(metrics.score_counts(*counts).mean()),
            **metrics.salt_and_empty(*counts),
        }

    def predict(self, state: State, forward: Callable[[Tensor], Output], tta: bool) -> NDArray[np.float32]:
        """Probabilities (N H W) of the held-out tiles with the weights that the model has now."""
        batch_size = self.config.trainer.batch_size
        return predict(forward, state.model, self.images, batch_size, self.runtime, tta, "validate")


class averaged_weights:
    """Within this context the model has the averaged weights; afterwards its own again.

    The weights change place instead of the models, so that a compiled network serves both.
    """

    def __init__(self, state: State):
        self.model, self.average = state.model, state.average.module

    def __enter__(self) -> None:
        self.own = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.model.load_state_dict(self.average.state_dict())

    def __exit__(self, *_: object) -> None:
        self.model.load_state_dict(self.own)


def save(state: State, path: Path) -> None:
    """Write metrics.csv, then last.pt, each atomically; a table ahead of last.pt is written again on resuming."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(state.rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(state.rows)
    write_text(path / "metrics.csv", text.getvalue())
    content = {name: part.state_dict() for name, part in state.parts().items()}
    content |= {"format": FORMAT, "epoch": state.epoch, "rows": state.rows, "clock": vars(state.clock)}
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
