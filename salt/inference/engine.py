"""What computes the probabilities of a batch: some networks of one run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from salt.build import Forward, Network, build_network, compiled
from salt.config import RunConfig
from salt.inference.fuse import fold_batch_norms
from salt.machine.device import Runtime
from salt.models.inputs import to_float
from salt.models.segmenter import Segmenter
from salt.runs.stacks import Size
from salt.runs.weights import load_weights


class Engine(Protocol):
    """Some networks of one architecture, ready to predict windows of one size. Several threads may call it at once."""

    name: str
    size: Size
    runtime: Runtime

    def __call__(self, images: NDArray[np.uint8], depths: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return K probabilities (K N h w), one of each network, of grey values (N h w) and survey depths (N, feet)."""


class TorchEngine:
    """Networks in torch; with `mirror` each one's probability is the mean over the window and its mirror image."""

    name = "torch"

    def __init__(self, networks: Sequence[Forward], size: Size, runtime: Runtime, mirror: bool):
        self.networks, self.size, self.runtime, self.mirror = networks, size, runtime, mirror

    @torch.inference_mode()
    def __call__(self, images: NDArray[np.uint8], depths: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return K probabilities (K N h w) of a batch; see `Engine`."""
        n, device = len(images), self.runtime.device
        if self.runtime.one_batch_size:  # compiled, or tuned, for one size: copies fill the last batch
            index = np.arange(self.runtime.predict_batch_size) % n
            images, depths = images[index], depths[index]
        x = torch.from_numpy(images)[:, None].to(device, non_blocking=True)
        with self.runtime.autocast():
            return self.probabilities(x, torch.from_numpy(depths).to(device))[:, :n].cpu().numpy()

    def probabilities(self, images: Tensor, depths: Tensor) -> Tensor:
        """Return K probabilities (K N h w) of grey values (N 1 h w, uint8) and survey depths (N) on the device."""
        x = to_float(images)
        mirrored = x.flip(-1)
        parts = []
        for network in self.networks:
            part = network(x, depths).logits.float().sigmoid()
            if self.mirror:
                part = (part + network(mirrored, depths).logits.float().sigmoid().flip(-1)) / 2
            parts.append(part[:, 0])
        return torch.stack(parts)


def engine_of(network: Network, runtime: Runtime) -> TorchEngine:
    """Return an engine of a network in training, without mirroring; it follows the network's weights."""
    network.model.eval()
    return TorchEngine([network.forward], network.model.tile, runtime, mirror=False)


def load_torch(config: RunConfig, files: Sequence[Path], runtime: Runtime, compile: bool = False) -> TorchEngine:
    """Return an engine with a network of its own for each file of weights; `trainer.tta` decides on mirroring.

    By default nothing is compiled, even if the run trained so: to compile mostly takes longer than it saves.

    Raises:
        ValueError: a file cannot be used, or the device's memory is too small.
    """
    networks = [load_network(config, file, runtime) for file in files]
    forwards = [compiled(network, compile).forward for network in networks]
    return TorchEngine(forwards, networks[0].tile, runtime, config.trainer.tta)


def load_network(config: RunConfig, file: Path, runtime: Runtime) -> Segmenter:
    """Return a network with the weights of a file, without what only training needs."""
    model = build_network(config, runtime).model.eval()
    load_weights(model, file)
    images = to_float(torch.from_numpy(try_images(model.tile, 2))[:, None].to(runtime.device))
    fold_batch_norms(model, images, torch.full((2,), 500.0, device=runtime.device))
    return model.requires_grad_(False)


def try_images(size: Size, n: int) -> NDArray[np.uint8]:
    """Return n images (n h w) to try a network on."""
    return np.random.default_rng(0).integers(0, 256, (n, *size), dtype=np.uint8)
