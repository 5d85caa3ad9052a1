"""What the commands have in common: one message instead of a traceback, `--version`, a quiet end where nobody reads."""

import signal
import sys
import threading
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager

import salt


def make_parser(name: str, description: str) -> ArgumentParser:
    """A parser of arguments that knows `--version`."""
    parser = ArgumentParser(name, description=description)
    parser.add_argument("--version", action="version", version=f"{name} {salt.__version__}")
    return parser


@contextmanager
def messages(name: str) -> Iterator[None]:
    """Within this context what a user can cause ends the command `name` with one message and exit code 1."""
    with closed_pipe(ends=True):
        try:
            yield
        except (ValueError, OSError) as error:
            sys.exit(f"{name}: {error}")


@contextmanager
def closed_pipe(ends: bool) -> Iterator[None]:
    """Within this context a pipe that nobody reads any more (`| head`) ends the process without a word, or it does not.

    Shells then show exit code 141. A process that trains must not end so: it has pipes to other processes too.
    """
    if not hasattr(signal, "SIGPIPE") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL if ends else signal.SIG_IGN)
    try:
        yield
    finally:
        if ends:
            sys.stdout.flush()  # Python would do it later, and complain
        signal.signal(signal.SIGPIPE, before)
