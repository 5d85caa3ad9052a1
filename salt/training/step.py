"""What a fold trains with (`Fold`; checkpoints keep `FoldState`), one training step, and its outcome.

A step whose loss or gradient is not finite is skipped: optimizer and batch norm stay as they were, while average and
learning rate take their step. If only the gradient's norm overflows, the optimizer takes its step too, and batch norm
alone is restored. More than MAX_SKIPPED skipped steps in an epoch, or no other, end the run.
Step and outcome stay on the device, so that a GPU never waits for the CPU within a step. (Under torchrun it waits at
each batch norm, where the processes exchange their sums.)
"""

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from salt.build import Forward
from salt.data.loader import NOT_KNOWN, Batch
from salt.data.mix import CutMix, MixUp, NoMix
from salt.inference.engine import to_float
from salt.job import Job
from salt.machine import distributed, interrupt
from salt.machine.device import AsyncScalars
from salt.models.segmenter import Segmenter
from salt.training.averaging import Averaging
from salt.training.loggers import SafeLogger

log = logging.getLogger(__name__)

PARTS = ("model", "average", "optimizer", "schedule", "scaler")  # of a state, with a state_dict
EpochRow = dict[str, float | int | None]  # of metrics.csv
MAX_SKIPPED = 10  # steps of one epoch without a finite loss and gradient; float16 needs a few to find its scale
HELP = "Try a lower optimizer.lr, trainer.clip=1 or trainer.precision=fp32, with another name=..."


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


def train_step(fold: Fold, state: FoldState, batch: Batch) -> Tensor:
    """Run forward, loss in float32 and backward, then one step of optimizer, average and learning rate.

    Return the loss, the gradient's norm, and whether a signal asks to stop (each the mean over the processes), still
    on the device. If the gradient holds NaN or infinity, GradScaler skips the optimizer's step. (If only its norm
    overflows float32, the optimizer takes the step, though it counts as skipped.)
    """
    runtime, clip = fold.job.runtime, fold.job.config.trainer.clip
    images = to_float(batch.images.to(runtime.device, non_blocking=True))
    masks, depths = (t.to(runtime.device, non_blocking=True).float() for t in (batch.masks, batch.depths))
    fold.norm_backup.store()  # for a step that is skipped
    mixed = fold.mix(images, masks, depths)  # MixUp and CutMix give two targets, each with a weight
    with runtime.autocast():
        output = fold.train_forward(mixed.images, mixed.depths)
    terms = []
    for weight, target in mixed.targets:
        known = (target != NOT_KNOWN).float() if fold.partly_known else None
        mask = target if known is None else target * known
        terms.append(weight * state.model.loss(output.views(), mask, fold.loss, known))
    loss = torch.stack(terms).sum()

    state.optimizer.zero_grad(set_to_none=True)
    finite_or_nan = torch.where(torch.isfinite(loss), 1.0, torch.nan)  # an infinite loss may have finite gradients
    state.scaler.scale(loss * finite_or_nan).backward()
    state.scaler.unscale_(state.optimizer)
    parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if clip is not None:
        nn.utils.clip_grads_with_norm_(parameters, clip, norm)
    state.scaler.step(state.optimizer)
    # outside float16 the scale stays 1: by default it would halve with every skipped step, and never rise again
    state.scaler.update(None if runtime.dtype == torch.float16 else 1.0)
    fold.norm_backup.restore(~torch.isfinite(norm))
    state.average.after_step()
    state.schedule.step()
    stop = torch.full_like(norm, interrupt.pending() is not None)
    return distributed.all_reduce_mean(torch.stack([loss.detach(), norm, stop]))


def read_outcome(state: FoldState, index: Tensor, outcome: AsyncScalars, ids: list[str]) -> bool:
    """Keep a step's loss or count it as skipped; return whether to stop. Raise ValueError if too many were."""
    loss, norm, stop = outcome.read()
    if math.isfinite(loss) and math.isfinite(norm):
        state.current.losses.append(loss)
        return stop > 0
    state.current.skipped += 1
    batch = [ids[i] for share in distributed.all_gather(index.tolist()) for i in share]  # all ranks skip together
    found = f"loss {loss}, gradient norm {norm} in epoch {state.epoch + 1}; tiles of the batch: {', '.join(batch)}"
    log.warning("skipped a step: %s", found)
    # float16 halves a large first scale at each skipped step: until it fits, a short epoch may skip all its steps, but
    # no epoch more than MAX_SKIPPED
    searches_scale = state.scaler.get_scale() > 1
    skipped_all = state.current.skipped == state.steps_per_epoch
    is_hopeless = state.current.skipped > MAX_SKIPPED or (skipped_all and not searches_scale)
    if is_hopeless:
        raise ValueError(
            f"In {state.current.skipped} steps of this epoch the loss or gradient was not finite, the last: {found}. "
            f"The last checkpoint is kept. {HELP}"
        )
    return stop > 0
