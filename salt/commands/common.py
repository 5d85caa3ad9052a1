"""Shared by the commands: their common options, and one message instead of a traceback."""

import math
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import salt
from salt.inference.settings import PredictionSettings, check_prediction
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
        "--batch-size", type=int, metavar="N", help="tiles or windows predicted at once (default: as in training)"
    )
    parser.add_argument("--precision", help="auto, fp32, bf16 or fp16 (default: as in training)")
    parser.add_argument(
        "--compile", action="store_true", help="compile the network first, which pays for many images on a GPU"
    )


def settings_from(arguments: Namespace) -> PredictionSettings:
    """Return the settings that were typed.

    Raises:
        ValueError: a value is not one of those expected.
    """
    return check_prediction(**{name: getattr(arguments, name) for name in PredictionSettings.model_fields})


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
