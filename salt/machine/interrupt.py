"""Signals that end a run: noted while a fold trains, which stops between two steps; elsewhere the run ends at once."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from salt.machine import distributed

# Ctrl-C; the end of a job; the two signals that Slurm can send before the end (submitit asks for one of them)
NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")
SIGNALS = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]


class Interrupted(KeyboardInterrupt):
    """A signal asked the run to end."""

    def __init__(self, signum: int):
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, by the shells' convention: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.signum


_noted: int | None = None  # the signal that waits for the end of a step
_deferred = False
_parent: int | None = None  # this process stops when the parent with this number ends


def _handle(signum: int, _: FrameType | None) -> None:
    global _noted
    of_torchrun = distributed.world_size() > 1
    # torchrun sends its workers what it gets, which they may have had already; it kills them after 30 s
    if not _deferred or (_noted is not None and not of_torchrun):
        raise Interrupted(signum)
    if _noted is None:
        _noted = signum
        again = "" if of_torchrun else "; again to stop at once"
        print(f"\nstopping as soon as this step is done{again}", file=sys.stderr)


@contextmanager
def handled() -> Iterator[None]:
    """Within this context signals raise `Interrupted`; afterwards the previous handlers are restored."""
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
def deferred() -> Iterator[None]:
    """Within this context a first signal is only noted (ask `noted`); at its end it raises `Interrupted`.

    A RuntimeError after a signal raises `Interrupted` as well: the compilers that torch.compile starts end by a signal
    to all processes, and torch raises an error then.
    """
    global _deferred, _noted
    _deferred, _noted = True, None
    try:
        yield
        signum = _noted
    except RuntimeError as error:
        if _noted is None:
            raise
        raise Interrupted(_noted) from error
    finally:
        _deferred, _noted = False, None
    if signum is not None:
        raise Interrupted(signum)


def noted() -> int | None:
    """The signal that was noted, if there was one; SIGTERM if the parent process has ended (see `follow_parent`)."""
    return signal.SIGTERM if _noted is None and is_orphan() else _noted


def follow_parent() -> None:
    """Stop between two steps when the process that started this one has ended, however it ended."""
    global _parent
    _parent = os.getppid()


def is_orphan() -> bool:
    """Whether the parent process has ended, if this process follows it."""
    return _parent is not None and os.getppid() != _parent


def hand_on(signum: int) -> None:
    """Raise the signal again for the handler that was set before (submitit's requeues its job), if there is one."""
    if signal.getsignal(signum) not in (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler, None):
        signal.raise_signal(signum)
