"""The processes that train one fold together, started by torchrun; everything here is trivial in a single process."""

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

PATIENCE = timedelta(days=1)  # the first process may decode or score for longer than the 30 minutes torch allows
ANSWER = timedelta(seconds=30)  # to wait for an answer from the store
SOON = 10.0  # seconds until a process says that it waits for the others
LONGEST = 1800.0  # seconds to wait for them; a cold disk may take minutes to load torch
REMEDY = "if no torchrun started this, these variables are left over: unset RANK WORLD_SIZE"


@dataclass(frozen=True)
class Group:
    """How many processes train together, and the numbers of this one: among all, and on its machine."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0


ONE_PROCESS = Group()
_group = ONE_PROCESS


def dist() -> Any:
    """Return torch.distributed, imported when needed: the command starts without torch."""
    import torch.distributed

    return torch.distributed


def take_part() -> None:
    """Join the processes of torchrun, if its variables say so. Only a run does: other commands work alone."""
    global _group
    _group = read_group(os.environ)


def read_group(variables: Mapping[str, str]) -> Group:
    """Return what torchrun's variables say: one process if RANK or WORLD_SIZE is missing; raise ValueError if wrong."""
    size, rank = variables.get("WORLD_SIZE", "").strip(), variables.get("RANK", "").strip()
    if not rank or size in ("", "1"):
        return Group()
    given = {key: variables.get(key, "").strip() for key in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")}
    missing = [key for key, value in given.items() if not value]
    if missing:
        raise ValueError(f"{' and '.join(missing)} must be set, since RANK={rank} and WORLD_SIZE={size}; {REMEDY}")
    try:
        group = Group(int(rank), int(size), int(variables.get("LOCAL_RANK", "0")))
        right = 0 <= group.rank < group.world_size and group.local_rank >= 0 and 0 < int(given["MASTER_PORT"]) < 2**16
    except ValueError:
        right = False
    if not right:
        found = " ".join(f"{key}={variables[key]}" for key in (*given, "LOCAL_RANK") if key in variables)
        raise ValueError(f"{found} name no process of torchrun, expected RANK from 0 to WORLD_SIZE-1; {REMEDY}")
    return group


def group() -> Group:
    """Return the processes that train together."""
    return _group


def world_size() -> int:
    """Return the number of processes."""
    return _group.world_size


def rank() -> int:
    """Return the rank of this process, from 0."""
    return _group.rank


def is_main() -> bool:
    """Return whether this is rank 0, the only process that writes files."""
    return rank() == 0


def tqdm_disable() -> bool | None:
    """Return tqdm's setting `disable`: None (draw a bar in a terminal) on rank 0, True on the other ranks."""
    return None if is_main() else True


def join(on_gpu: bool) -> None:
    """Set up the process group of torch.distributed, if there are several processes."""
    if world_size() > 1 and not dist().is_initialized():
        store = meet()
        store.set_timeout(PATIENCE)
        backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
        dist().init_process_group(backend, timeout=PATIENCE, store=store, rank=rank(), world_size=world_size())


def meet() -> Any:
    """Return the store that all processes have opened, after half an hour at most; torch's own wait ignores signals."""
    began, said, store = time.monotonic(), False, None
    place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    while True:
        try:
            store = store or open_store()
            absent = [number for number in range(world_size()) if not store.check([f"here/{number}"])]
            if not absent:
                return store
            cause = f"rank {', '.join(map(str, absent))}"
        except OSError as error:  # rank 0 has not opened the port yet
            cause = str(error)
        except RuntimeError as error:  # its first line: the others are places in the code of torch
            raise ValueError(f"the processes cannot meet at {place}: {str(error).splitlines()[0]}; {REMEDY}") from None
        waited, text = time.monotonic() - began, f"waiting for other processes at {place} ({cause}); {REMEDY}"
        if waited > LONGEST:
            raise ValueError(f"after {LONGEST / 60:.0f} minutes: {text}")
        if waited > SOON and not said:
            print(f"{text} (waiting {LONGEST / 60:.0f} minutes at most)", file=sys.stderr, flush=True)
            said = True
        time.sleep(0.1)


def open_store() -> Any:
    """Open the store at MASTER_ADDR and MASTER_PORT; its host is torchrun or, without one, rank 0."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    hosts = rank() == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    if not hosts:  # torch would try for its whole timeout, with a warning each second
        socket.create_connection((address, port), timeout=ANSWER.total_seconds()).close()
    store = dist().TCPStore(address, port, world_size(), hosts, ANSWER, wait_for_workers=False, multi_tenant=True)
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # of torchrun --max-restarts
    mine = dist().PrefixStore(f"salt/{attempt}", store)
    mine.set(f"here/{rank()}", "")
    return mine


def leave() -> None:
    """Close the process group of torch.distributed."""
    if dist().is_initialized():
        dist().destroy_process_group()


def barrier() -> None:
    """Wait for all processes."""
    any_of(False)  # over gloo: dist.barrier would use the GPU as well


def all_gather(part: Any) -> list[Any]:
    """Return an object of each process, in the order of ranks, on every rank."""
    if world_size() == 1:
        return [part]
    parts: list[Any] = [None] * world_size()
    dist().all_gather_object(parts, part)
    return parts


def any_of(flag: bool) -> bool:
    """Return on every rank whether the flag is set in any process."""
    return any(all_gather(flag))


@contextmanager
def main_first() -> Iterator[None]:
    """Run this context on rank 0 first, then on the others, which find the files it wrote."""
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()


def from_main(function: Callable[[], Any]) -> Any:
    """Call the function on rank 0 alone, for others may change files meanwhile; return its result on every rank."""
    if world_size() == 1:
        return function()
    result: list[Any] = [function() if is_main() else None]
    dist().broadcast_object_list(result, 0)
    return result[0]


def gather(part: Any) -> list[Any]:
    """Return an object of each process, in the order of ranks, on rank 0; an empty list on the others."""
    if world_size() == 1:
        return [part]
    parts: list[Any] = [None] * world_size() if is_main() else []
    dist().gather_object(part, parts or None)
    return parts


def all_reduce_mean(value: Any) -> Any:
    """Return the mean of a tensor over the processes."""
    if world_size() == 1:
        return value
    dist().all_reduce(value)
    return value / world_size()


def same_as_main(module: Any) -> None:
    """Copy the tensors of a module from rank 0: on CPU the statistics of batch norm differ between processes."""
    if world_size() > 1:
        for tensor in module.state_dict().values():
            dist().broadcast(tensor, 0)
