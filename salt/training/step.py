"""One training step and its outcome. Both stay on the device, so that the CPU never waits for it within a step.

Under torchrun on GPUs it waits at each batch norm, where the processes exchange their sums.
"""

import logging
import math

import torch
from torch import Tensor, nn

from salt.data.loader import Batch
from salt.inference.predict import to_float
from salt.machine import distributed, interrupt
from salt.machine.device import AsyncScalars
from salt.training.state import Fold, State

log = logging.getLogger(__name__)

MAX_SKIPPED = 10  # steps of one epoch without a finite loss and gradient; float16 needs a few to find its scale
HELP = "A lower optimizer.lr, trainer.clip=1 or trainer.precision=fp32 may help, under another name."


def train_step(fold: Fold, state: State, batch: Batch) -> Tensor:
    """Forward, loss in float32, backward, and one step of optimizer, average and learning rate.

    Returns the loss, the gradient's norm, and whether a signal asks to stop (each the mean over the processes), still
    on the device. With NaN or infinity in a gradient the weights stay as they are. (Elements that are finite, but whose
    norm is beyond float32, count as skipped too, though the optimizer takes that step.)
    """
    device = fold.job.runtime.device
    images = to_float(batch.images, fold.job.runtime)
    masks, depths = (t.to(device, non_blocking=True).float() for t in (batch.masks, batch.depths))
    fold.statistics.keep()
    mixed = fold.mix(images, masks, depths)
    with fold.job.runtime.autocast():
        output = fold.train_forward(mixed.images, mixed.depths)
    terms = [weight * state.model.loss(output.views(), target, fold.loss) for weight, target in mixed.targets]
    value = torch.stack(terms).sum()
    state.optimizer.zero_grad(set_to_none=True)
    finite_or_nan = torch.where(torch.isfinite(value), 1.0, torch.nan)  # a loss that is not finite gives NaN gradients
    state.scaler.scale(value * finite_or_nan).backward()
    state.scaler.unscale_(state.optimizer)
    parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if fold.job.config.trainer.clip is not None:
        nn.utils.clip_grads_with_norm_(parameters, fold.job.config.trainer.clip, norm)
    state.scaler.step(state.optimizer)
    # outside float16 the scale stays 1: by default it would halve with every skipped step, and never rise again
    state.scaler.update(None if fold.job.runtime.dtype == torch.float16 else 1.0)
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
