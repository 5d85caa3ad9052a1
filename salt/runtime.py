"""Device, number format and random seeds of a fold."""

import os
import random
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from salt import ranks
from salt.config import Trainer


@dataclass(frozen=True)
class Runtime:
    """Where and in which number format the network runs."""

    device: torch.device
    dtype: torch.dtype
    workers: int

    def autocast(self) -> AbstractContextManager[None]:
        """Mixed precision for the forward pass; nothing in float32."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)


def choose_runtime(trainer: Trainer) -> Runtime:
    """Resolve the `auto` settings on this machine.

    Raises:
        ValueError: the device is not there.
    """
    name = trainer.device if trainer.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and ranks.world_size() > 1:
        name = f"cuda:{ranks.local_rank()}"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"trainer.device={name}: this machine has {torch.cuda.device_count()} CUDA devices")
    if device.type == "cuda":
        torch.cuda.set_device(device)  # pinned memory and records speak of the current device
    if trainer.workers is not None:
        workers = trainer.workers
    else:
        workers = 0 if device.type == "cpu" else min(8, os.cpu_count() or 1)
    names = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    dtype = names[trainer.precision] if trainer.precision != "auto" else fast_dtype(device)
    return Runtime(device, dtype, workers)


def fast_dtype(device: torch.device) -> torch.dtype:
    """The number format that the device computes fastest: bfloat16 where it is native, float16 on older GPUs."""
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device)[0] >= 8  # since Ampere
        return torch.bfloat16 if native else torch.float16
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.bfloat16 if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else torch.float32


class OnTheWay:
    """A small tensor that is copied from the device to the host while the device works on."""

    def __init__(self, value: Tensor):
        self._copy = value.to("cpu", non_blocking=True)  # from a GPU into page-locked memory
        self._arrived = torch.cuda.Event() if value.is_cuda else None
        if self._arrived is not None:
            self._arrived.record()

    def read(self) -> list[float]:
        """The numbers, as soon as they are there."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._copy.tolist()


def seed_all(*key: int) -> None:
    """Seed Python, NumPy and torch from a key such as (seed, fold, epoch)."""
    words = np.random.SeedSequence(key).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.manual_seed(int(words[2]))
