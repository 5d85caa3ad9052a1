"""Which weights of a fold are its result: the last ones, or a mean of many. Chosen by the group `averaging`."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel

Tensors = list[Tensor] | tuple[Tensor, ...]


class Last(AveragedModel):
    """The weights at the end of the last epoch; the other kinds of averaging begin from here."""

    stale_norms = False  # whether the statistics of batch norm do not belong to the averaged weights

    def after_step(self, model: nn.Module) -> None:
        """Take account of one training step."""

    def after_epoch(self, model: nn.Module, progress: float) -> None:
        """Take account of an epoch; `progress` is the fraction of the epochs that are done now."""
        self.copy(model)

    def copy(self, model: nn.Module) -> None:
        """Forget what was averaged and begin again from these weights."""
        self.n_averaged.zero_()
        self.update_parameters(model)


class EMA(Last):
    """Exponential moving average over the steps, statistics of batch norm included.

    It warms up: after n steps it remembers about n / 10 of them, at most 1 / (1 - decay).

    Raises:
        ValueError: decay is outside [0, 1).

    Reference: Polyak, Juditsky 1992, SIAM J. Control Optim. 30(4); Tarvainen, Valpola 2017, arXiv:1703.01780.
    """

    def __init__(self, model: nn.Module, decay: float):
        if not 0 <= decay < 1:
            raise ValueError(f"decay={decay}, expected 0 <= decay < 1")
        super().__init__(model, multi_avg_fn=self.move, use_buffers=True)
        self.decay = decay

    @torch.no_grad()
    def move(self, averages: Tensors, current: Tensors, _: Tensor | int) -> None:
        """Move all averages (of one kind of numbers) towards the current ones at once."""
        n = int(self.n_averaged)  # lies on the CPU; the copy that torch passes would have to be fetched from a GPU
        weight = 1 - min(self.decay, (1 + n) / (10 + n))
        if torch.is_floating_point(averages[0]):
            torch._foreach_lerp_(averages, current, weight)
        else:  # counters of batch norm
            for average, value in zip(averages, current, strict=True):
                average.copy_(value)

    def after_step(self, model: nn.Module) -> None:
        """Move the average towards the weights."""
        self.update_parameters(model)

    def after_epoch(self, model: nn.Module, progress: float) -> None:
        """Nothing."""


class SWA(Last):
    """Stochastic weight averaging: the mean of the weights at the end of each epoch after the fraction `start`.

    The statistics of batch norm are computed anew from the fold's training tiles.

    Raises:
        ValueError: start is outside [0, 1).

    Reference: Izmailov, Podoprikhin, Garipov, Vetrov, Wilson 2018, arXiv:1803.05407.
    """

    stale_norms = True

    def __init__(self, model: nn.Module, start: float):
        if not 0 <= start < 1:
            raise ValueError(f"start={start}, expected 0 <= start < 1, a fraction of the epochs")
        super().__init__(model)
        self.start = start

    def after_epoch(self, model: nn.Module, progress: float) -> None:
        """Add the weights to the mean; before `start`, replace it."""
        if progress > self.start:
            self.update_parameters(model)
        else:
            self.copy(model)
            self.n_averaged.zero_()  # so that the first epoch after `start` replaces these too


@torch.no_grad()
def recompute_norms(
    model: nn.Module, forward: Callable[[Tensor, Tensor], object], batches: Iterable[tuple[Tensor, Tensor]]
) -> None:
    """Replace the statistics of batch norm by the mean over batches of images and depths, for the weights of now."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # equal weight for every batch
    model.train()
    for images, depths in batches:
        forward(images, depths)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
