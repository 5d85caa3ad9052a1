"""Shared by the commands: their common options, and one message instead of a traceback."""

import math
import re
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import salt
from salt.inference.settings import EXPECTED, PredictionSettings, check_values
from salt.machine.pipes import current_folder, is_written, steady_output


def make_parser(name: str, description: str) -> ArgumentParser:
    """A parser of arguments that knows `--version`."""
    parser = ArgumentParser(name, description=description)
    parser.add_argument("--version", action="version", version=f"{name} {salt.__version__}")
    return parser


def add_run(parser: ArgumentParser) -> None:
    """Add the argument RUN."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory, such as runs/baseline")


def add_root(parser: ArgumentParser) -> None:
    """Add the option --root."""
    parser.add_argument("--root", help="data folder (default: the one that the run was trained from)")


def add_prediction_options(parser: ArgumentParser) -> None:
    """Add the options of every command that predicts; `settings_from` reads them."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument(
        "--batch-size", metavar="N", help="tiles or windows predicted at once (default: as in training)"
    )
    parser.add_argument("--precision", help=f"{EXPECTED['precision'][0]} (default: as in training)")
    parser.add_argument(
        "--compile", action="store_true", help="compile the network first, which pays for many images on a GPU"
    )


def settings_from(arguments: Namespace) -> PredictionSettings:
    """Return the settings that were typed.

    Raises:
        ValueError: a value is none of those expected; the message names the option.
    """
    values = {field.name: getattr(arguments, field.name) for field in fields(PredictionSettings)}
    if re.fullmatch(r"[+-]?\d+", values["batch_size"] or ""):
        values["batch_size"] = int(values["batch_size"])
    for name, value in values.items():
        check_values({name: value}, f"--{name.replace('_', '-')} {{1}}")
    return PredictionSettings(**values)


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
