"""Which weights of a fold are its result: the last ones, or a mean of many (config group `averaging`)."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class Averaging(nn.Module):
    """A copy of the network whose weights are the result; without averaging, those of the last epoch.

    `module` is the averaged copy. The tensors of both are listed once, so that a move is a few operations on the
    device, for which the host does not wait.
    """

    stale_norms = False  # whether batch norm needs new statistics for the averaged weights
    n_averaged: Tensor

    def __init__(self, model: nn.Module):
        super().__init__()
        self.module = copy.deepcopy(model).requires_grad_(False)
        self.register_buffer("n_averaged", torch.tensor(0))  # on the CPU, which reads it at each step
        self._weights = tensors(self.module, True), tensors(model, True)
        self._counters = tensors(self.module, False), tensors(model, False)

    def after_step(self) -> None:
        """Update the average after a training step."""

    def after_epoch(self, progress: float) -> None:
        """Update the average after an epoch; `progress` is the fraction of the epochs done."""
        self.move(1.0)

    @torch.no_grad()
    def move(self, weight: float) -> None:
        """Move all averages by the fraction `weight` towards the current values (1: copy); copy counters."""
        averages, values = self._weights
        if weight == 1:
            torch._foreach_copy_(averages, values)
        else:
            torch._foreach_lerp_(averages, values, weight)
        if self._counters[0]:  # of batch norm
            torch._foreach_copy_(*self._counters)
        self.n_averaged += 1


class Last(Averaging):
    """The weights at the end of the last epoch."""


class EMA(Averaging):
    """Exponential moving average over the steps, statistics of batch norm included.

    It warms up: after n steps it remembers about n / 10 of them, at most 1 / (1 - decay).

    Raises:
        ValueError: decay is outside [0, 1).

    Reference: Polyak, Juditsky 1992, SIAM J. Control Optim. 30(4); Tarvainen, Valpola 2017, arXiv:1703.01780.
    """

    def __init__(self, model: nn.Module, decay: float):
        if not 0 <= decay < 1:
            raise ValueError(f"decay={decay}, expected 0 <= decay < 1")
        super().__init__(model)
        self.decay = decay

    def after_step(self) -> None:
        n = int(self.n_averaged)
        self.move(1 - min(self.decay, (1 + n) / (10 + n)) if n else 1.0)

    def after_epoch(self, progress: float) -> None:
        """Do nothing: `after_step` has moved the average."""


class SWA(Averaging):
    """Stochastic weight averaging: the mean of the weights at the end of each epoch after the fraction `start`.

    The statistics of batch norm are recomputed from training tiles whenever the mean is used.

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

    def after_epoch(self, progress: float) -> None:
        if progress > self.start:
            self.move(1 / (int(self.n_averaged) + 1))
        else:
            self.move(1.0)
            self.n_averaged.zero_()  # so that the first epoch after `start` replaces these too


def tensors(module: nn.Module, floating: bool) -> list[Tensor]:
    """Return the parameters and buffers of floating point, or the others."""
    return [t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point() == floating]


@torch.no_grad()
def recompute_norms(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Replace the statistics of batch norm by their mean over batches of images and depths."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
    model.train()
    for i, (images, depths) in enumerate(batches):
        for norm in norms:
            norm.momentum = 1 / (i + 1)  # equal weights; with None torch would read from the device
        model(images, depths)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
