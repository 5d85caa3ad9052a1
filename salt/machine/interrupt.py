"""Signals that end a run: at once, or between two steps while a fold trains, so that it can save its state."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from salt.machine import distributed

# Ctrl-C; the end of a job; the two that Slurm can send before the end (submitit asks for one)
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2]


class Interrupted(KeyboardInterrupt):
    """A signal asked the run to end."""

    def __init__(self, signum: int):
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """128 + the number of the signal, as in shells: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.signum


_pending: int | None = None  # the signal that waits for the end of a step
_deferred = False
_parent: int | None = None  # process number; this process stops when its parent ends


def _handle(signum: int, _: FrameType | None) -> None:
    global _pending
    of_torchrun = distributed.world_size() > 1
    # torchrun sends its workers the signal that it gets, which they may have had already; it kills them after 30 s
    if not _deferred or (_pending is not None and not of_torchrun):
        raise Interrupted(signum)
    if _pending is None:
        _pending = signum
        again = "" if of_torchrun else "; again to stop at once"
        print(f"\nstopping as soon as this step is done{again}", file=sys.stderr)


@contextmanager
def handle_signals() -> Iterator[None]:
    """Raise `Interrupted` for signals within this context; restore the previous handlers at its end."""
    if threading.current_thread() is not threading.main_thread():  # Python lets no other thread handle signals
        yield
        return
    before: dict[int, Any] = {number: signal.signal(number, _handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def defer_signals() -> Iterator[None]:
    """Keep the first signal (see `pending`), and raise `Interrupted` for it at the end of this context.

    A RuntimeError after a signal raises `Interrupted` as well: a signal to all processes ends the compilers that
    torch.compile starts, and torch raises an error then.
    """
    global _deferred, _pending
    _deferred, _pending = True, None
    try:
        yield
        signum = _pending
    except RuntimeError as error:
        if _pending is None:
            raise
        raise Interrupted(_pending) from error
    finally:
        _deferred, _pending = False, None
    if signum is not None:
        raise Interrupted(signum)


def pending() -> int | None:
    """Return the signal that asks the run to stop, or None; SIGTERM if the parent has ended (see `follow_parent`)."""
    return signal.SIGTERM if _pending is None and is_orphan() else _pending


def follow_parent() -> None:
    """Stop between two steps as soon as the process that started this one has ended."""
    global _parent
    _parent = os.getppid()


def is_orphan() -> bool:
    """Return whether this process follows its parent, and the parent has ended."""
    return _parent is not None and os.getppid() != _parent


def hand_on(signum: int) -> None:
    """Raise the signal again if another handler waits for it: submitit's queues its job again."""
    if signal.getsignal(signum) not in (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler, None):
        signal.raise_signal(signum)
