"""One training step and its outcome. Both stay on the device, so that the CPU never waits for it within a step.

Under torchrun on GPUs it waits at each batch norm, where the processes exchange their sums.
"""

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from salt.build import Forward, Network
from salt.config import RunConfig
from salt.data.loader import Batch
from salt.data.mix import CutMix, MixUp, NoMix
from salt.data.tiles import Tiles
from salt.inference.predict import to_float
from salt.machine import distributed, interrupt
from salt.machine.device import AsyncScalars, Runtime
from salt.reporting.loggers import Harmless, NoLogger
from salt.training.progress import ALONE, Ahead
from salt.training.state import State

log = logging.getLogger(__name__)

MAX_SKIPPED = 10  # steps of one epoch without a finite loss and gradient; float16 needs a few to find its scale
HELP = "A lower optimizer.lr, trainer.clip=1 or trainer.precision=fp32 may help, under another name."


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

    config: RunConfig
    number: int
    path: Path
    runtime: Runtime
    tiles: Tiles  # all with masks; copies of the parts would double the memory
    training: NDArray[np.int64]
    held_out: NDArray[np.int64]
    network: Network
    train_forward: Forward  # the network as training calls it: in DistributedDataParallel with several processes
    loss: nn.Module
    mix: NoMix | MixUp | CutMix
    statistics: Statistics
    ahead: Ahead = ALONE
    logger: Harmless = field(default_factory=lambda: Harmless(NoLogger()))


def train_step(fold: Fold, state: State, batch: Batch) -> Tensor:
    """Forward, loss in float32, backward, and one step of optimizer, average and learning rate.

    Returns the loss, the gradient's norm, and whether a signal asks to stop (each the mean over the processes), still
    on the device. With NaN or infinity in a gradient the weights stay as they are. (Elements that are finite, but whose
    norm is beyond float32, count as skipped too, though the optimizer takes that step.)
    """
    device = fold.runtime.device
    images = to_float(batch.images, fold.runtime)
    masks, depths = (t.to(device, non_blocking=True).float() for t in (batch.masks, batch.depths))
    fold.statistics.keep()
    mixed = fold.mix(images, masks, depths)
    with fold.runtime.autocast():
        output = fold.train_forward(mixed.images, mixed.depths)
    terms = [weight * state.model.loss(output.views(), target, fold.loss) for weight, target in mixed.targets]
    value = torch.stack(terms).sum()
    state.optimizer.zero_grad(set_to_none=True)
    finite_or_nan = torch.where(torch.isfinite(value), 1.0, torch.nan)  # a loss that is not finite gives NaN gradients
    state.scaler.scale(value * finite_or_nan).backward()
    state.scaler.unscale_(state.optimizer)
    parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if fold.config.trainer.clip is not None:
        nn.utils.clip_grads_with_norm_(parameters, fold.config.trainer.clip, norm)
    state.scaler.step(state.optimizer)
    # outside float16 the scale stays 1: by default it would halve with every skipped step, and never rise again
    state.scaler.update(None if fold.runtime.dtype == torch.float16 else 1.0)
    fold.statistics.restore(~torch.isfinite(norm))
    state.average.after_step()
    state.schedule.step()
    stop = torch.full_like(norm, interrupt.noted() is not None)
    return distributed.all_reduce_mean(torch.stack([value.detach(), norm, stop]))


def read_outcome(state: State, index: Tensor, outcome: AsyncScalars, ids: list[str]) -> bool:
    """Add a step's loss to the epoch, or count the step as skipped; returns whether a signal asks to stop.

    Raises:
        ValueError: too many steps of this epoch gave no finite loss and gradient.
    """
    loss, norm, stop = outcome.read()
    if math.isfinite(loss) and math.isfinite(norm):
        state.current.losses.append(loss)
        return stop > 0
    state.current.skipped += 1
    batch = [ids[i] for share in distributed.all_gather(index.tolist()) for i in share]  # all ranks skip together
    found = f"loss {loss}, gradient norm {norm} in epoch {state.epoch + 1}; tiles of the batch: {', '.join(batch)}"
    log.warning("skipped a step: %s", found)
    # float16 begins with a large scale and halves it at each skipped step; a short epoch may end before it fits
    searches = state.scaler.get_scale() > 1
    none_left = state.current.skipped == state.steps_per_epoch and not searches
    if state.current.skipped > MAX_SKIPPED or none_left:
        raise ValueError(
            f"{state.current.skipped} steps of one epoch gave no finite loss and gradient, the last one: {found}. "
            f"The last checkpoint is kept. {HELP}"
        )
    return stop > 0
