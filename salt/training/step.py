"""One training step, and its outcome.

A step whose loss or gradient is not finite is skipped: optimizer and batch norm stay as they were, while average and
learning rate take their step. If only the gradient's norm overflows, the optimizer takes its step too, and batch norm
alone is restored. More than MAX_SKIPPED skipped steps in an epoch, or no other, end the run.
Step and outcome stay on the device, so that a GPU never waits for the CPU within a step. (Under torchrun it waits at
each batch norm, where the processes exchange their sums.)
"""

import logging
import math

import torch
from torch import Tensor, nn

from salt.data.loader import NOT_KNOWN, Batch
from salt.machine import distributed, interrupt
from salt.machine.device import AsyncScalars
from salt.models.inputs import to_float
from salt.training.state import Fold, FoldState

log = logging.getLogger(__name__)

MAX_SKIPPED = 10  # steps of one epoch without a finite loss and gradient; float16 needs a few to find its scale
HELP = "Try a lower optimizer.lr, trainer.clip=1 or trainer.precision=fp32, with another name=..."


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
