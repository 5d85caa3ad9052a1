"""What a fold trains with: what never changes (`Fold`), and all that does (`State`)."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from salt.build import Forward
from salt.data.mix import CutMix, MixUp, NoMix
from salt.job import Job
from salt.models.segmenter import Segmenter
from salt.training.averaging import Averaging
from salt.training.loggers import Harmless

WARMUP_STEPS = 10  # not counted in images per second: compilation, caches
PARTS = ("model", "average", "optimizer", "schedule", "scaler")  # of a state, with a state_dict
Row = dict[str, float | int | None]  # of metrics.csv


@dataclass(frozen=True)
class Ahead:
    """Folds that come after this one, each taken to last as long: of the run, and of a sweep's next points."""

    in_run: int = 0
    in_sweep: int = 0


class Statistics:
    """A copy of batch norm's running statistics from before a step, to restore them if the step is skipped."""

    def __init__(self, model: nn.Module):
        self.buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        self.kept = self.flat()

    def keep(self) -> None:
        """Copy the current statistics into one tensor."""
        self.kept = self.flat()

    def restore(self, where: Tensor) -> None:
        """Restore the copy if `where` is true: a boolean on the device, which is not copied to the CPU."""
        if not self.buffers:
            return
        right = torch.where(where, self.kept, self.flat()).split([buffer.numel() for buffer in self.buffers])
        torch._foreach_copy_(self.buffers, [r.view_as(b) for r, b in zip(right, self.buffers, strict=True)])

    def flat(self) -> Tensor:
        """All statistics in one vector."""
        return torch.cat([buffer.flatten() for buffer in self.buffers]) if self.buffers else torch.empty(0)


@dataclass(frozen=True)
class Fold:
    """What the steps of one fold work with and never change."""

    job: Job
    number: int
    train_forward: Forward  # the network as training calls it: in DistributedDataParallel with several processes
    loss: nn.Module
    mix: NoMix | MixUp | CutMix
    statistics: Statistics
    ahead: Ahead
    logger: Harmless

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.job.path(self.number)


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
        self._add(seconds, n_images)

    def end_step(self, seconds: float) -> None:
        """Add the time in which the device still worked on the last step."""
        self._add(seconds, 0)

    def _add(self, seconds: float, n_images: int) -> None:
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
class Epoch:
    """What is known of the epoch that is under way."""

    steps: int = 0  # done
    lr: float = 0.0  # learning rate of the last one
    skipped: int = 0  # steps without a finite loss and gradient
    losses: list[float] = field(default_factory=list)  # of the other steps

    @property
    def mean(self) -> float:
        """Mean loss so far; NaN if all steps were skipped."""
        return sum(self.losses) / len(self.losses) if self.losses else math.nan


@dataclass
class State:
    """All that changes in training; `last.pt` holds just this."""

    model: Segmenter
    average: Averaging
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    epochs: int  # of the whole fold
    steps_per_epoch: int
    epoch: int = 0  # epochs done
    current: Epoch = field(default_factory=Epoch)
    rows: list[Row] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)

    def parts(self) -> dict[str, Any]:
        """The members that have a state_dict."""
        return {name: getattr(self, name) for name in PARTS}
