"""The processes that train one fold together, started by torchrun; everything here is trivial in a single process."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

PATIENCE = timedelta(days=1)  # the first process may decode or score for longer than the 30 minutes torch allows

# torch is imported within functions: rundir uses this file, and the command starts without torch


@dataclass(frozen=True)
class Group:
    """How many processes train together, and the numbers of this one: among all, and on its machine."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0


ALONE = Group()
_group = ALONE


def take_part() -> None:
    """Make this process one of those that torchrun started, if its variables say so.

    A run of salt-train calls it. All else works alone, whatever variables a shell, a job or an image has left over.

    Raises:
        ValueError: the variables are incomplete or no numbers.
    """
    global _group
    _group = read_group(os.environ)


def read_group(variables: Mapping[str, str]) -> Group:
    """Return what torchrun's variables say; a single process if RANK or WORLD_SIZE is missing, or this is 1.

    Raises:
        ValueError: the variables are incomplete or no numbers.
    """
    size, rank = variables.get("WORLD_SIZE", "").strip(), variables.get("RANK", "").strip()
    if not rank or size in ("", "1"):
        return Group()
    given = {key: variables.get(key, "").strip() for key in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")}
    missing = [key for key, value in given.items() if not value]
    if missing:
        raise ValueError(f"{' and '.join(missing)} must be set, since RANK={rank} and WORLD_SIZE={size}; {remedy()}")
    try:
        group = Group(int(rank), int(size), int(variables.get("LOCAL_RANK", "0")))
        right = 0 <= group.rank < group.world_size and group.local_rank >= 0 and 0 < int(given["MASTER_PORT"]) < 2**16
    except ValueError:
        right = False
    if not right:
        found = " ".join(f"{key}={variables[key]}" for key in (*given, "LOCAL_RANK") if key in variables)
        raise ValueError(f"{found} name no process of torchrun, expected RANK from 0 to WORLD_SIZE-1; {remedy()}")
    return group


def remedy() -> str:
    """Return what to do about variables that no torchrun has set."""
    return "if no torchrun started this, these variables are left over: unset RANK WORLD_SIZE"


def group() -> Group:
    """Return the processes that train together."""
    return _group


def world_size() -> int:
    """Number of processes."""
    return _group.world_size


def rank() -> int:
    """Rank of this process, from 0."""
    return _group.rank


def is_main() -> bool:
    """Whether this is rank 0, the only process that writes files."""
    return rank() == 0


def hides_bars() -> bool | None:
    """The setting `disable` of tqdm: None (drawn if the output is a terminal) on rank 0, True on the others."""
    return None if is_main() else True


def local_rank() -> int:
    """Number of this process on its machine, which is that of its GPU."""
    return _group.local_rank


def join(on_gpu: bool) -> None:
    """Set up the process group of torch.distributed, if it is not there yet.

    Raises:
        ValueError: other processes do not come.
    """
    import torch.distributed as dist

    if world_size() > 1 and not dist.is_initialized():
        from salt.machine.rendezvous import meet

        store = meet(rank(), world_size(), remedy())
        store.set_timeout(PATIENCE)
        backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE, store=store, rank=rank(), world_size=world_size())


def leave() -> None:
    """Close the process group of torch.distributed."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def barrier() -> None:
    """Wait for all processes."""
    any_of(False)  # over gloo: dist.barrier would use the GPU as well


def all_gather(part: Any) -> list[Any]:
    """An object of each process, in the order of ranks; they all get the same list."""
    if world_size() == 1:
        return [part]
    import torch.distributed as dist

    parts: list[Any] = [None] * world_size()
    dist.all_gather_object(parts, part)
    return parts


def any_of(flag: bool) -> bool:
    """Whether the flag is set in any of the processes; they all get the same answer."""
    return any(all_gather(flag))


@contextmanager
def main_first() -> Iterator[None]:
    """Rank 0 runs this context first; then the others run it, and find the files it wrote."""
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()


def from_main(function: Callable[[], Any]) -> Any:
    """Call the function on rank 0 alone and return its result on every rank.

    For decisions by what lies on the disk: another process may change it before the other ranks look.
    """
    if world_size() == 1:
        return function()
    import torch.distributed as dist

    result: list[Any] = [function() if is_main() else None]
    dist.broadcast_object_list(result, 0)
    return result[0]


def gather(part: Any) -> list[Any]:
    """Gather an object of each process on rank 0, in the order of ranks; the others get an empty list."""
    if world_size() == 1:
        return [part]
    import torch.distributed as dist

    parts: list[Any] = [None] * world_size() if is_main() else []
    dist.gather_object(part, parts or None)
    return parts


def all_reduce_mean(value: Any) -> Any:
    """The mean of a tensor over the processes."""
    if world_size() == 1:
        return value
    import torch.distributed as dist

    dist.all_reduce(value)
    return value / world_size()


def same_as_main(module: Any) -> None:
    """Broadcast rank 0's tensors of a module; on CPU the statistics of batch norm differ between processes."""
    if world_size() > 1:
        import torch.distributed as dist

        for tensor in module.state_dict().values():
            dist.broadcast(tensor, 0)
