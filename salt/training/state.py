"""What a fold trains with (`Fold`), and what changes in training (`FoldState`, which checkpoints keep)."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from salt.build import Forward
from salt.data.mix import CutMix, MixUp, NoMix
from salt.job import Job
from salt.models.segmenter import Segmenter
from salt.training.averaging import Averaging
from salt.training.loggers import SafeLogger

PARTS = ("model", "average", "optimizer", "schedule", "scaler")  # of a state, with a state_dict
EpochRow = dict[str, float | int | None]  # of metrics.csv


@dataclass(frozen=True)
class Ahead:
    """How many folds come after this one: of the run, and of the next points of a sweep."""

    in_run: int = 0
    in_sweep: int = 0


class NormBackup:
    """A copy of batch norm's running statistics from before a step, to restore them if the step is skipped."""

    def __init__(self, model: nn.Module):
        self.buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        self.store()

    def store(self) -> None:
        self.stored = self.flat()

    def restore(self, where: Tensor) -> None:
        """Restore the copy if `where` is true: a boolean on the device, which is not copied to the CPU."""
        if not self.buffers:
            return
        right = torch.where(where, self.stored, self.flat()).split([buffer.numel() for buffer in self.buffers])
        torch._foreach_copy_(self.buffers, [r.view_as(b) for r, b in zip(right, self.buffers, strict=True)])

    def flat(self) -> Tensor:
        return torch.cat([buffer.flatten() for buffer in self.buffers]) if self.buffers else torch.empty(0)


@dataclass(frozen=True)
class Fold:
    """What the steps of one fold use; none of it is saved."""

    job: Job
    number: int
    path: Path  # its folder
    held_out: NDArray[np.int64]  # positions of the tiles that it is scored on
    train_forward: Forward  # the network as training calls it: in DistributedDataParallel with several processes
    loss: nn.Module
    partly_known: bool  # whether masks of its tiles have unknown pixels
    mix: NoMix | MixUp | CutMix
    norm_backup: NormBackup
    ahead: Ahead
    logger: SafeLogger


@dataclass
class Clock:
    """Wall time of a fold in training and validation, also before it was interrupted."""

    seconds: float = 0.0  # of training and validation
    train_seconds: float = 0.0  # of the training steps, data loading included
    train_images: int = 0

    @property
    def images_per_second(self) -> float:
        return self.train_images / self.train_seconds if self.train_seconds else 0.0


@dataclass
class Epoch:
    """The epoch in progress."""

    steps: int = 0  # done
    lr: float = 0.0  # learning rate of the last one
    skipped: int = 0  # steps without a finite loss and gradient
    losses: list[float] = field(default_factory=list)  # of the other steps

    @property
    def mean_loss(self) -> float:
        """Mean loss so far; NaN if all steps were skipped."""
        return sum(self.losses) / len(self.losses) if self.losses else math.nan


@dataclass
class FoldState:
    """All that changes in training, which last.pt keeps."""

    model: Segmenter
    average: Averaging
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    epochs: int  # of the whole fold
    steps_per_epoch: int
    epoch: int = 0  # epochs done
    current: Epoch = field(default_factory=Epoch)
    rows: list[EpochRow] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)

    def parts(self) -> dict[str, Any]:
        """Return the members that have a state_dict."""
        return {name: getattr(self, name) for name in PARTS}
