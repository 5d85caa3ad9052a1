"""Keep a command working if its output is closed, full or read by nobody, or its folder is gone."""

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO


class Steady(io.FileIO):
    """A file that drops what cannot be written, so that hours of work do not end because of a full disk."""

    def __init__(self, number: int, command: str):
        super().__init__(number, "w", closefd=False)
        self.command = command
        self.failed = False

    def write(self, data: Any) -> int:
        """Write bytes; report the first failure of standard output on standard error."""
        try:
            return super().write(data)
        except BlockingIOError:
            raise
        except OSError as error:
            if not self.failed and self.fileno() == 1:
                why = f"standard output cannot be written: {error.strerror}"
                print(f"{self.command}: {why}; send it elsewhere", file=sys.stderr)
            self.failed = True
            return len(data)


def make_steady(command: str) -> None:
    """Let the streams of this process take all output, even if they are closed, full or lack a letter.

    If descriptors 0 to 2 were closed, the next file opened, such as a checkpoint, would get what is printed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    if sys.stdout is sys.__stdout__:  # not those of a notebook or a test
        sys.stdout = steady(sys.stdout, 1, command)
    if sys.stderr is sys.__stderr__:
        sys.stderr = steady(sys.stderr, 2, command)


def steady(stream: TextIO | None, number: int, command: str) -> TextIO:
    """Return a stream that replaces a standard one, or None, which stands for a closed one in Python."""
    if stream is None:
        return Path(os.devnull).open("w", encoding="utf-8", errors="backslashreplace")
    with suppress(OSError):
        stream.flush()
    at_once = bool(getattr(stream, "line_buffering", False) or getattr(stream, "write_through", False))
    raw = io.BufferedWriter(Steady(number, command))
    return io.TextIOWrapper(raw, encoding=stream.encoding, errors="backslashreplace", line_buffering=at_once)


def current_folder(command: str) -> str:
    """Return the current folder, or end the process with one message if it is gone: MKL within torch would end it."""
    try:
        return os.getcwd()
    except OSError:
        sys.exit(f"{command}: the current folder {os.environ.get('PWD', '')} is gone: go to another one with cd")


def is_written() -> bool:
    """Return whether all standard output was written, or was closed on purpose."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return not (isinstance(raw, Steady) and raw.failed)


@contextmanager
def steady_output(command: str) -> Iterator[None]:
    """Run a command whose output may be closed or full; a closed pipe (`| head`) ends it quietly, with code 141."""
    make_steady(command)
    before = on_closed_pipe(signal.SIG_DFL)
    try:
        yield
    finally:
        on_closed_pipe(signal.SIG_DFL)
        sys.stdout.flush()  # Python would do it later, and complain
        on_closed_pipe(before)


def outlive_readers() -> None:
    """Make a closed pipe an ordinary error from here on: a run has pipes to other processes, and work to finish."""
    on_closed_pipe(signal.SIG_IGN)


def on_closed_pipe(action: Any) -> Any:
    """Set the handler of SIGPIPE in the main thread, and return the one before."""
    if threading.current_thread() is threading.main_thread():
        return signal.signal(signal.SIGPIPE, action)
    return None
