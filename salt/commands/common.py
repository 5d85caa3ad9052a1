"""Shared by the commands: one message instead of a traceback, `--version`, a quiet end if the output is closed."""

import math
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager

import salt
from salt.machine.pipes import current_folder, is_written, steady_output


def make_parser(name: str, description: str) -> ArgumentParser:
    """A parser of arguments that knows `--version`."""
    parser = ArgumentParser(name, description=description)
    parser.add_argument("--version", action="version", version=f"{name} {salt.__version__}")
    return parser


def finite_number(text: str) -> float:
    """Return the number that an argument gives.

    Raises:
        ValueError: it is none, infinite or NaN.
    """
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


@contextmanager
def messages(name: str) -> Iterator[None]:
    """Within this context what a user can cause ends the command `name` with one message and exit code 1."""
    with steady_output(name):
        current_folder(name)
        try:
            yield
        except (ValueError, OSError) as error:
            sys.exit(f"{name}: {error}")
        except KeyboardInterrupt:
            print(f"{name}: stopped by Ctrl-C; the same command begins again", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)
    if not is_written():
        sys.exit(1)
