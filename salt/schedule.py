"""Learning rate over the steps of a fold, by torch's schedulers."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    LinearLR,
    LRScheduler,
    SequentialLR,
)


def cosine(optimizer: Optimizer, epochs: int, steps_per_epoch: int, warmup_epochs: float, final: float) -> LRScheduler:
    """Linear warm-up, then half a cosine from the learning rate down to `final` (absolute, per step).

    Raises:
        ValueError: warmup_epochs is negative.

    Reference: Loshchilov, Hutter 2017, "SGDR", arXiv:1608.03983.
    """
    warmup = warmup_steps(epochs, steps_per_epoch, warmup_epochs)
    body = CosineAnnealingLR(optimizer, T_max=epochs * steps_per_epoch - warmup, eta_min=final)
    return after_warmup(optimizer, body, warmup)


def cosine_restarts(
    optimizer: Optimizer, epochs: int, steps_per_epoch: int, warmup_epochs: float, final: float, cycles: int
) -> LRScheduler:
    """Linear warm-up, then `cycles` half cosines of equal length, each from the learning rate down to `final`.

    Raises:
        ValueError: warmup_epochs is negative, or there are fewer epochs than cycles.

    Reference: Loshchilov, Hutter 2017, "SGDR", arXiv:1608.03983.
    """
    if not 1 <= cycles <= epochs:
        raise ValueError(f"cycles={cycles}, expected 1..trainer.epochs={epochs}")
    warmup = warmup_steps(epochs, steps_per_epoch, warmup_epochs)
    # rounded up: the last cycle may end a few steps short, but no new one begins
    length = -(-(epochs * steps_per_epoch - warmup) // cycles)
    return after_warmup(optimizer, CosineAnnealingWarmRestarts(optimizer, T_0=length, eta_min=final), warmup)


def warmup_steps(epochs: int, steps_per_epoch: int, warmup_epochs: float) -> int:
    """Steps of the warm-up; at most a fifth of all, so that short trial runs still train at full rate."""
    if warmup_epochs < 0:
        raise ValueError(f"warmup_epochs={warmup_epochs}, expected >= 0")
    return int(min(warmup_epochs * steps_per_epoch, epochs * steps_per_epoch / 5))


def after_warmup(optimizer: Optimizer, body: LRScheduler, steps: int) -> LRScheduler:
    """`body` after a linear rise over `steps` steps."""
    if steps == 0:
        return body
    rise = LinearLR(optimizer, start_factor=1 / (steps + 1), total_iters=steps)
    return SequentialLR(optimizer, [rise, body], milestones=[steps])
