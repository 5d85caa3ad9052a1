"""What a command does when its shell is odd: output that is closed, full or read by nobody; a folder that is gone."""

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
    """A stream's file that drops what cannot be written: hours of work do not end because nobody can read of them."""

    def __init__(self, number: int, command: str):
        super().__init__(number, "w", closefd=False)
        self.command = command
        self.failed = False

    def write(self, data: Any) -> int:
        """Write bytes; the first failure of standard output is said on standard error."""
        try:
            return super().write(data)
        except BlockingIOError:
            raise
        except OSError as error:
            if not self.failed and self.fileno() == 1:
                print(
                    f"{self.command}: standard output cannot be written: {error.strerror}; send it elsewhere",
                    file=sys.stderr,
                )
            self.failed = True
            return len(data)


def make_steady(command: str) -> None:
    """Let this process's own streams take whatever is printed, also if they are closed, full or lack a letter.

    Without descriptors 0 to 2 the next file that is opened, such as a checkpoint, would get what is printed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stdout is sys.__stdout__:  # not those of a notebook or a test
        sys.stdout = steady(sys.stdout, 1, command)
    if sys.stderr is sys.__stderr__:
        sys.stderr = steady(sys.stderr, 2, command)


def steady(stream: TextIO | None, number: int, command: str) -> TextIO:
    """Return a stream in the place of a standard one, or of None, which Python has where it was closed."""
    if stream is None:
        return Path(os.devnull).open("w", encoding="utf-8", errors="backslashreplace")
    with suppress(OSError):
        stream.flush()
    at_once = bool(getattr(stream, "line_buffering", False) or getattr(stream, "write_through", False))
    return io.TextIOWrapper(
        io.BufferedWriter(Steady(number, command)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=at_once,
    )


def current_folder(command: str) -> str:
    """Return the current folder, or end the process with one message if it is gone.

    No relative path leads anywhere then, and Intel's MKL, of which torch is made, ends the process.
    """
    try:
        return os.getcwd()
    except OSError:
        sys.exit(f"{command}: the current folder {os.environ.get('PWD', '')} is gone: go to another one with cd")


def is_written() -> bool:
    """Return whether all that was printed on standard output has arrived, or was not wanted."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return not (isinstance(raw, Steady) and raw.failed)


@contextmanager
def steady_output(command: str) -> Iterator[None]:
    """Within this context a command's output may be closed or full; a pipe that is closed (`| head`) ends it quietly.

    Shells then show exit code 141.
    """
    make_steady(command)
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
