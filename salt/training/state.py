"""All that changes while a fold trains."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch

from salt.models.segmenter import Segmenter
from salt.training.averaging import Averaging

WARMUP_STEPS = 10  # not counted in images per second: compilation, caches
PARTS = ("model", "average", "optimizer", "schedule", "scaler")  # of a state, with a state_dict
Row = dict[str, float | int | None]  # of metrics.csv


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
