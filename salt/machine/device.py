"""Device, number format, memory and random seeds of a process."""

import ctypes
import gc
import os
import platform
import random
import resource
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from joblib import cpu_count
from torch import Tensor

from salt.config import Trainer
from salt.machine import distributed

# What `mallopt` of the GNU C library calls its settings (malloc.h).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3

MOST_LANES = 16  # each needs memory for a batch
LANE_BATCH = 8  # tiles; a lane of a CPU computes small batches faster, since they stay in its cache

# Texts of errors about memory that torch's own allocator does not manage.
OUT_OF_MEMORY = (
    "CUDA out of memory",  # torch's own, within a RuntimeError of load_state_dict
    "CUDA error: out of memory",  # the driver, which has no room for what it needs itself
    "CUDA driver error: out of memory",
    "Triton Error [CUDA]: out of memory",
    "CUDA ran out of memory",  # cuDNN's attention
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "unable to find an engine",  # cuDNN: each of its ways to compute a convolution lacked memory
)


@dataclass(frozen=True)
class Runtime:
    """Where and in which number format the network runs.

    A GPU takes the same steps, but in bfloat16 or float16 (`build_scaler` then scales the loss), with loader workers
    and pinned memory, with four times the batch in prediction, and with cuDNN's fastest algorithms, so runs differ in
    their last bits. Under torchrun it uses NCCL, and batch norm over the whole batch (CPUs: gloo, each its share).
    `speed_up_depthwise` is for CPUs alone.
    """

    device: torch.device
    dtype: torch.dtype
    workers: int
    predict_batch_size: int  # tiles
    lanes: int = 1  # batches that are predicted at once, each with its share of the threads
    one_batch_size: bool = False  # in prediction, since another would be compiled or tuned again

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context of a forward pass in mixed precision; it does nothing in float32."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)


def choose_runtime(trainer: Trainer, device: str | None = None) -> Runtime:
    """Resolve `auto` settings and prepare the device; `device` replaces auto and cuda. Raise ValueError if missing."""
    found = choose_device(device if device is not None and trainer.device in ("auto", "cuda") else trainer.device)
    if found.type == "cuda":
        with explain_full_gpu():
            torch.cuda.set_device(found)  # pinned memory and profiles refer to the current device
        torch.backends.cudnn.benchmark = True  # try which convolution is fastest: all batches have the same shape
    else:
        keep_freed_memory()
    workers = trainer.workers
    if workers is None:
        workers = 0 if found.type == "cpu" else min(8, cpu_count())  # CPUs that this process may use
    names = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    dtype = names[trainer.precision] if trainer.precision != "auto" else fast_dtype(found)
    if dtype == torch.bfloat16 and found.type == "cuda" and fast_dtype(found) != dtype:
        raise ValueError("trainer.precision=bf16: this GPU has no such convolutions, expected auto, fp16 or fp32")
    missing = missing_compiler(found) if trainer.compile else None
    if missing is not None:
        raise ValueError(f"trainer.compile=true needs {missing}, which is missing; expected trainer.compile=false")
    share = max(trainer.batch_size // distributed.world_size(), 1)  # of this process
    # without gradients a batch needs a fraction of the memory, and a GPU is faster with larger ones
    usual = share * 4 if found.type == "cuda" else min(share, LANE_BATCH)
    predict_batch_size = trainer.predict_batch_size or usual
    one_batch_size = trainer.compile or found.type == "cuda"
    lanes = 1 if one_batch_size else min(torch.get_num_threads(), MOST_LANES)
    return Runtime(found, dtype, workers, predict_batch_size, lanes, one_batch_size)


def choose_device(name: str) -> torch.device:
    """Return the device of this process by its name in trainer.device."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if distributed.world_size() > 1 and name.startswith("cuda:"):
        n = distributed.world_size()
        raise ValueError(f"trainer.device={name}: {n} processes need a GPU each, expected auto or cuda")
    if name == "cuda":
        name = f"cuda:{distributed.group().local_rank}"  # torch takes no device without a number
    device = torch.device(name)
    if device.type == "cuda" and device.index >= n_gpus():
        raise ValueError(f"trainer.device={name}: this machine has {n_gpus()} CUDA devices that torch can use")
    return device


def n_gpus() -> int:
    """Return how many GPUs torch can compute on: 0 if the driver is too old for it, though the system lists them."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def keep_freed_memory() -> None:
    """Keep the memory of freed tensors; GNU's C library would return it, a quarter of a step's time on 2 cores."""
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, 2**25)  # bytes, the most that is allowed: larger blocks are always returned
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)  # bytes, the largest number it takes


def fast_dtype(device: torch.device) -> torch.dtype:
    """Return the number format that the device computes fastest: bfloat16 if native, float16 on older GPUs."""
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device)[0] >= 8  # since Ampere
        return torch.bfloat16 if native else torch.float16
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.bfloat16 if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else torch.float32


def missing_compiler(device: torch.device) -> str | None:
    """Return what torch.compile needs on this device and does not find, or None."""
    if device.type == "cpu":
        compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
        return None if shutil.which(compiler) else f"the C++ compiler {compiler}"
    if torch.cuda.get_device_capability(device)[0] < 7:
        return "a GPU of CUDA capability 7.0 or newer"
    if find_spec("triton") is None:
        return "the Python package triton"
    if not any(shutil.which(compiler) for compiler in (os.environ.get("CC", "gcc"), "gcc", "clang")):
        return "a C compiler, gcc or clang"
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    return None if header.is_file() else f"{header}"


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether an error of torch, or of a CUDA library it uses, means that the GPU's memory is too small."""
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in OUT_OF_MEMORY)


@contextmanager
def raise_out_of_memory(when: str, advice: str) -> Iterator[None]:
    """Raise ValueError for an error that means the GPU's memory is too small: its cause, and the advice."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        lines = str(error).splitlines()  # load_state_dict puts a line of its own before the cause
        cause = next((line.strip() for line in lines if any(text in line for text in OUT_OF_MEMORY)), lines[0])
        raise ValueError(f"out of GPU memory {when}: {cause} {advice}") from error


# For what no batch size changes: the start of the driver, weights, moments.
explain_full_gpu = partial(
    raise_out_of_memory,
    "before anything is computed",
    "Another process may use this GPU; choose another trainer.device or a smaller encoder.",
)


def explain_out_of_memory(trainer: Trainer) -> AbstractContextManager[None]:
    """Turn an out-of-memory error into a ValueError that advises a batch size which the processes can share."""
    n = distributed.world_size()
    half = max(trainer.batch_size // (2 * n), 2) * n
    return raise_out_of_memory(
        f"with trainer.batch_size={trainer.batch_size}",
        "Lower trainer.batch_size or input.size, or choose a smaller encoder, with another name=... To resume the "
        f"folds of this run: trainer.batch_size={half} 'accept=[trainer.batch_size]'",
    )


class AsyncScalars:
    """A small tensor that is copied to the host while the device continues to work."""

    def __init__(self, value: Tensor):
        self._copy = value.to("cpu", non_blocking=True)  # from a GPU into page-locked memory
        self._arrived = torch.cuda.Event() if value.is_cuda else None
        if self._arrived is not None:
            self._arrived.record()

    def read(self) -> list[float]:
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._copy.tolist()


def peak_memory(device: torch.device) -> float:
    """Return the largest memory of this process so far in GB, on the GPU or in all."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e9 if sys.platform == "darwin" else 1e6)  # bytes there, kilobytes elsewhere


def seed_all(*key: int) -> None:
    """Seed Python, NumPy and torch from a key such as (seed, fold, epoch)."""
    words = np.random.SeedSequence(key).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.manual_seed(int(words[2]))


@contextmanager
def free_memory_afterwards() -> Iterator[None]:
    """Free what a run leaves in memory; as a decorator, since the run's own variables must be gone first."""
    try:
        yield
    finally:
        if "torch._dynamo" in sys.modules:  # else nothing was compiled
            torch.compiler.reset()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
