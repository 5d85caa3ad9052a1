"""What the commands share: arguments, and one message instead of a traceback."""

import math
import signal
import sys
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

import salt
from salt.inference.settings import PredictionSettings, check_prediction
from salt.machine.pipes import current_folder, is_written, steady_output
from salt.words import plural

if TYPE_CHECKING:
    from salt.inference.model import Model

SHARED: dict[str, dict[str, Any]] = {
    "run": {"type": Path, "metavar": "RUN", "help": "run directory, such as runs/baseline"},
    "--root": {"help": "data folder (default: the run's data.root)"},
    "--device": {"default": "auto", "help": "auto, cpu, cuda or cuda:N (default: auto)"},
    "--batch-size": {"type": int, "metavar": "N", "help": "tiles or windows at once (default: as in training)"},
    "--precision": {"help": "auto, fp32, bf16 or fp16 (default: as in training)"},
    "--overlap": {"type": float, "metavar": "SHARE", "help": "of neighbouring windows (default: 0.25)"},
    "--mirror": {"action": BooleanOptionalAction, "help": "predict the mirrored image too (default: as in training)"},
    "--engine": {"help": "torch, openvino, or auto: openvino if installed and equal (default: as the run was scored)"},
    "--compile": {"action": "store_true", "help": "compile the network first; pays for many images on a GPU"},
}
# `settings_from` reads them
PREDICTION = ("--device", "--batch-size", "--precision", "--mirror", "--engine", "--compile")


def make_parser(name: str, description: str, *shared: str) -> ArgumentParser:
    """Return a parser with `--version` and some of the shared arguments."""
    parser = ArgumentParser(name, description=description)
    parser.add_argument("--version", action="version", version=f"{name} {salt.__version__}")
    for argument in shared:
        parser.add_argument(argument, **SHARED[argument])
    return parser


def settings_from(arguments: Namespace) -> PredictionSettings:
    """Return the typed settings of a prediction; raise ValueError for a wrong one."""
    return check_prediction(**{name: getattr(arguments, name, None) for name in PredictionSettings.model_fields})


def announce(model: "Model") -> None:
    """Print to stderr, above a progress bar, what predicts: engine, device, number format and lanes."""
    made, lanes = model.made_with, max(predictor.engine.runtime.lanes for predictor in model.predictors)
    how = f"{made['engine']} on {made['device']} in {made['precision']}, {plural(lanes, 'lane')}"
    tqdm.write(f"predicting with {how}", file=sys.stderr)


def finite_number(text: str) -> float:
    """Return an argument as a number; raise ValueError if it is none, infinite or NaN."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


def check_new(option: str, file: Path, suffix: str) -> None:
    """Raise ValueError if the file that an option names exists, or cannot be written under this name."""
    if file.suffix != suffix:
        raise ValueError(f"{option} {file}: expected a name that ends in {suffix}")
    if not file.parent.is_dir():
        raise ValueError(f"{option} {file}: there is no folder {file.parent}")
    if file.exists():
        raise ValueError(f"{option} {file}: this file exists already; nothing was written")


@contextmanager
def messages(name: str) -> Iterator[None]:
    """Within this context, end the command `name` with one message and exit code 1 for what a user can cause."""
    with steady_output(name):
        current_folder(name)
        try:
            yield
        except (ValueError, OSError) as error:
            sys.exit(f"{name}: {error}")
        except KeyboardInterrupt:
            print(f"{name}: stopped by Ctrl-C; the same command starts again", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)
    if not is_written():
        sys.exit(1)
