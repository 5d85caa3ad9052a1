"""What a command does when the pipe of its output is closed, as by `| head`."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet_pipe() -> Iterator[None]:
    """Within this context a closed output pipe (`| head`) ends the process without a message.

    Shells then show exit code 141.
    """
    before = on_closed_pipe(signal.SIG_DFL)
    try:
        yield
    finally:
        on_closed_pipe(signal.SIG_DFL)
        sys.stdout.flush()  # Python would do it later, and complain
        on_closed_pipe(before)


def outlive_readers() -> None:
    """From here on a closed pipe is an error like others: a run has pipes to other processes, and work to end."""
    on_closed_pipe(signal.SIG_IGN)


def on_closed_pipe(action: Any) -> Any:
    """Set what SIGPIPE does, where there is such a signal; returns what it did before."""
    if hasattr(signal, "SIGPIPE") and threading.current_thread() is threading.main_thread():
        return signal.signal(signal.SIGPIPE, action)
    return None
