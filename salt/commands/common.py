"""What the commands have in common: one message instead of a traceback, `--version`, a quiet end where nobody reads."""

import signal
import sys
import threading
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import salt


def make_parser(name: str, description: str) -> ArgumentParser:
    """A parser of arguments that knows `--version`."""
    parser = ArgumentParser(name, description=description)
    parser.add_argument("--version", action="version", version=f"{name} {salt.__version__}")
    return parser


@contextmanager
def messages(name: str) -> Iterator[None]:
    """Within this context what a user can cause ends the command `name` with one message and exit code 1."""
    with quiet_pipe():
        try:
            yield
        except (ValueError, OSError) as error:
            sys.exit(f"{name}: {error}")
        except KeyboardInterrupt:
            print(f"{name}: stopped by Ctrl-C; the same command begins again", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)


@contextmanager
def quiet_pipe() -> Iterator[None]:
    """Within this context a pipe that nobody reads any more (`| head`) ends the process without a word.

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
