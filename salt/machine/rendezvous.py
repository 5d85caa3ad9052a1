"""Where the processes of torchrun find each other.

torch waits for the others in one call, for its whole timeout, and no signal reaches it there. Here it is asked again
and again, so that a process can say for whom it waits, and a signal ends it at once.
"""

import os
import socket
import sys
import time
from datetime import timedelta
from threading import Thread
from typing import Any

import torch.distributed as dist

SOON = 10.0  # seconds, after which it is said who is missing
LONGEST = 1800.0  # seconds; torchrun starts all processes together, but a cold disk may take minutes to load torch
ANSWER = timedelta(seconds=30)  # for what listens at the address to answer


class Opening(Thread):
    """An attempt to open the store at MASTER_ADDR and MASTER_PORT; a thread, for no signal ends a look-up of a name."""

    def __init__(self, rank: int, size: int):
        super().__init__(daemon=True)
        self.rank, self.size = rank, size
        self.store: Any = None
        self.silence = "so far"  # why nobody has answered
        self.error: str | None = None  # why it is of no use to try again

    def run(self) -> None:
        """Open the store; where torchrun's own agent is not its host, rank 0 is."""
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        hosts = self.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        try:
            if not hosts:  # torch itself would try for the whole time, with a warning each second
                socket.create_connection((address, port), timeout=ANSWER.total_seconds()).close()
            store = dist.TCPStore(  # type: ignore[attr-defined]
                address, port, self.size, hosts, ANSWER, wait_for_workers=False, multi_tenant=True
            )
            attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # of torchrun --max-restarts
            found = dist.PrefixStore(f"salt/{attempt}", store)  # type: ignore[attr-defined]
            found.set(here(self.rank), "")
            self.store = found
        except OSError as error:
            self.silence = str(error)
        except RuntimeError as error:  # torch's own, with the places in its code below
            self.error = str(error).splitlines()[0]


def meet(rank: int, size: int, remedy: str) -> Any:
    """Return the store that all processes have opened, as soon as they have.

    Raises:
        ValueError: the address cannot be used, or not all of them come within half an hour.
    """
    began, said = time.monotonic(), False
    opening = Opening(rank, size)
    opening.start()
    while True:
        store = opening.store
        if store is not None and store.check([here(number) for number in range(size)]):
            return store
        if opening.error is not None:
            raise ValueError(f"the processes cannot meet at {place()}: {opening.error}; {remedy}")
        waited = time.monotonic() - began
        if waited > LONGEST:
            raise ValueError(f"after {LONGEST / 60:.0f} minutes: {who_is_missing(opening)}; {remedy}")
        if waited > SOON and not said:
            said = True
            if store is None or not any(store.check([here(number)]) for number in range(rank)):  # else that one says it
                text = f"{who_is_missing(opening)}; {remedy} (waiting {LONGEST / 60:.0f} minutes at most)"
                print(text, file=sys.stderr, flush=True)
        if store is None and not opening.is_alive():
            again = Opening(rank, size)
            again.silence, opening = opening.silence, again
            opening.start()
        time.sleep(0.1)


def who_is_missing(opening: Opening) -> str:
    """Return in words for whom this process waits."""
    size, store = opening.size, opening.store
    if store is None:
        return f"waiting for the other {size - 1} of {size} processes: {place()} does not answer ({opening.silence})"
    missing = [number for number in range(size) if not store.check([here(number)])]
    some = ", ".join(map(str, missing[:8])) + (" ..." if len(missing) > 8 else "")
    return f"waiting for {len(missing)} of {size} processes at {place()} (rank {some})"


def place() -> str:
    """Return where the processes meet."""
    return f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"


def here(rank: int) -> str:
    """Return the key by which a process says that it is there."""
    return f"here/{rank}"
