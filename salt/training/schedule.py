"""Learning rate over the steps of a fold (config group `schedule`)."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
)


def cosine(optimizer: Optimizer, epochs: int, steps_per_epoch: int, warmup_epochs: float, final: float) -> LRScheduler:
    """Return a linear warm-up, then half a cosine from the learning rate down to `final` (absolute, per step).

    Raises:
        ValueError: warmup_epochs is negative.

    Reference: Loshchilov, Hutter 2017, "SGDR", arXiv:1608.03983.
    """
    warmup = warmup_steps(epochs, steps_per_epoch, warmup_epochs)
    body = CosineAnnealingLR(optimizer, T_max=epochs * steps_per_epoch - warmup, eta_min=final)
    return after_warmup(optimizer, body, warmup)


class CosineRestarts(CosineAnnealingWarmRestarts):
    """`cycles` half cosines of whole epochs, each from the learning rate down to `final`, and a snapshot ensemble.

    The weights at the end of the last `snapshots` cycles are kept, and prediction averages their probabilities.

    Raises:
        ValueError: the epochs are no multiple of cycles, or there are more snapshots than cycles.

    Reference: Loshchilov, Hutter 2017, "SGDR", arXiv:1608.03983; Huang, Li, Pleiss, Liu, Hopcroft, Weinberger 2017,
    "Snapshot Ensembles", arXiv:1704.00109.
    """

    def __init__(
        self, optimizer: Optimizer, epochs: int, steps_per_epoch: int, final: float, cycles: int, snapshots: int
    ):
        if cycles < 1 or epochs % cycles:
            raise ValueError(f"cycles={cycles}, expected a divisor of trainer.epochs={epochs}")
        if not 1 <= snapshots <= cycles:
            raise ValueError(f"snapshots={snapshots}, expected 1..cycles={cycles}")
        length = epochs // cycles
        self.snapshot_epochs = [length * i for i in range(cycles - snapshots + 1, cycles)]  # and the last epoch
        super().__init__(optimizer, T_0=length * steps_per_epoch, eta_min=final)


def onecycle(
    optimizer: Optimizer, epochs: int, steps_per_epoch: int, rise: float, start: float, final: float
) -> LRScheduler:
    """Return a cosine from `start` times the rate up over the fraction `rise` of the steps, then one down to `final`.

    Raises:
        ValueError: rise is not between 0 and 1, or start or final is not positive.

    Reference: Smith, Topin 2018, "Super-Convergence", arXiv:1708.07120.
    """
    if not 0 < rise < 1 or start <= 0 or final <= 0:
        raise ValueError(f"rise={rise}, start={start}, final={final}, expected 0 < rise < 1, start > 0 and final > 0")
    if rise * epochs * steps_per_epoch <= 1:
        raise ValueError(f"rise={rise} of {epochs * steps_per_epoch} steps, expected more than one step")
    return OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=epochs * steps_per_epoch,
        pct_start=rise,
        div_factor=1 / start,
        final_div_factor=start / final,
        cycle_momentum=False,
    )


def poly(optimizer: Optimizer, epochs: int, steps_per_epoch: int, warmup_epochs: float, power: float) -> LRScheduler:
    """Return a linear warm-up, then the learning rate times (1 - step / steps) ^ power.

    Raises:
        ValueError: warmup_epochs or power is negative.

    Reference: Chen, Papandreou, Kokkinos, Murphy, Yuille 2017, "DeepLab", arXiv:1606.00915.
    """
    if power < 0:
        raise ValueError(f"power={power}, expected >= 0")
    warmup = warmup_steps(epochs, steps_per_epoch, warmup_epochs)
    return after_warmup(optimizer, PolynomialLR(optimizer, epochs * steps_per_epoch - warmup, power), warmup)


class Plateau(ReduceLROnPlateau):
    """The learning rate times `factor` whenever the mean training loss has not fallen for more than `patience` epochs.

    It watches the training loss, because a rate that follows the held-out tiles would learn from them.

    Raises:
        ValueError: factor is not between 0 and 1, or patience is negative.
    """

    def __init__(
        self, optimizer: Optimizer, epochs: int, steps_per_epoch: int, factor: float, patience: int, final: float
    ):
        if not 0 < factor < 1 or patience < 0:
            raise ValueError(f"factor={factor}, patience={patience}, expected 0 < factor < 1 and patience >= 0")
        super().__init__(optimizer, factor=factor, patience=patience, min_lr=final)

    def step(self, metrics: float | None = None, epoch: int | None = None) -> None:  # type: ignore[override]
        """Take the loss after an epoch; do nothing after a training step, which has no `metrics`."""
        if metrics is not None:
            super().step(metrics)


def after_epoch(schedule: LRScheduler, loss: float) -> None:
    """Give the mean loss of an epoch, if finite, to a schedule that depends on it."""
    if isinstance(schedule, Plateau) and math.isfinite(loss):
        schedule.step(loss)


def snapshot_epochs(schedule: LRScheduler) -> list[int]:
    """Return the epochs (from 1), without the last one, after which a snapshot is kept for prediction."""
    return schedule.snapshot_epochs if isinstance(schedule, CosineRestarts) else []


def warmup_steps(epochs: int, steps_per_epoch: int, warmup_epochs: float) -> int:
    """Return the steps of the warm-up: at most a fifth of all, so that short trial runs still train at full rate."""
    if warmup_epochs < 0:
        raise ValueError(f"warmup_epochs={warmup_epochs}, expected >= 0")
    return int(min(warmup_epochs * steps_per_epoch, epochs * steps_per_epoch / 5))


def after_warmup(optimizer: Optimizer, body: LRScheduler, steps: int) -> LRScheduler:
    """Return `body` after a linear rise over `steps` steps."""
    if steps == 0:
        return body
    rise = LinearLR(optimizer, start_factor=1 / (steps + 1), total_iters=steps)
    return SequentialLR(optimizer, [rise, body], milestones=[steps])
