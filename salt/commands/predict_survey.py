"""The part of `salt-predict` that concerns 3-D surveys."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from salt.commands.common import announce, settings_from
from salt.inference.survey_options import SurveyOptions, check_survey_options, trained_bytes
from salt.paths import printable
from salt.runs.ensemble import Ensemble
from salt.runs.files import first_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from salt.inference.model import Model
    from salt.inference.survey import SurveyJob

WORTHWHILE = 500  # windows of all blocks: with fewer, OpenVINO's start takes longer than it saves
FLAGS = {
    "--lines": {"metavar": "LINES", "help": "predict a part: inline=1200:1300, crossline=5:90, or both with a comma"},
    "--directions": {"metavar": "NAMES", "help": "inline (default), crossline, or inline,crossline: their mean"},
    "--mean": {"help": "of the directions: arithmetic (default) or geometric"},
    "--as": {"dest": "kind", "choices": ("float", "int8"), "help": "samples of the results; int8: percent"},
    "--part": {"metavar": "K/N", "help": "predict every Nth block; the last part to end writes the results"},
    "--smallest-body": {"type": int, "metavar": "N", "help": "voxels of the bodies in NAME_bodies.csv (default: 1)"},
    "--inline-byte": {"type": int, "metavar": "BYTE", "help": "of the trace header, where the inline number begins"},
    "--crossline-byte": {"type": int, "metavar": "BYTE", "help": "where the crossline number begins"},
}


def add_survey_flags(parser: ArgumentParser) -> None:
    """Add the arguments that concern surveys alone."""
    group = parser.add_argument_group("3-D surveys (SEG-Y)")
    for flag, settings in FLAGS.items():
        group.add_argument(flag, **settings)  # type: ignore[arg-type]


def survey_options(arguments: Namespace) -> SurveyOptions:
    """Return the typed options of a survey; raise ValueError for a wrong one."""
    names = SurveyOptions.model_fields.keys() - {"as_int8", "spread"}
    values = {name: getattr(arguments, name) for name in names}
    return check_survey_options(as_int8=arguments.kind == "int8", spread=arguments.spread, **values)


def find_surveys(ensemble: Ensemble, files: list[Path], options: SurveyOptions) -> list[Path]:
    """Return those of the files that hold a 3-D survey; all SEG-Y files if the bytes of its lines are named.

    Raises:
        ValueError: there is none, and an option concerns surveys alone.
    """
    from salt.survey.geometry import is_volume
    from salt.survey.line import SEGY_SUFFIXES

    named = options.inline_byte is not None or options.crossline_byte is not None
    surveys = []
    for path in files:
        if path.suffix.lower() in SEGY_SUFFIXES:
            try:
                if named or is_volume(path, trained_bytes(ensemble.first.config.data)):
                    surveys.append(path)
            except ValueError:
                if len(files) == 1:
                    raise
                # it is reported with the others
    default = SurveyOptions(spread=options.spread, depth=options.depth, nodata=options.nodata)
    if not surveys and options != default:
        name = next(name for name in SurveyOptions.model_fields if getattr(options, name) != getattr(default, name))
        flag = "--as" if name == "as_int8" else f"--{name.replace('_', '-')}"
        raise ValueError(f"{flag} is for 3-D surveys, and none of the files is one; such files are SEG-Y")
    return surveys


def predict_surveys(ensemble: Ensemble, surveys: list[Path], options: SurveyOptions, arguments: Namespace) -> int:
    """Predict surveys one after the other; return how many failed. The only file raises its error instead."""
    from salt.inference.stream import PROBLEMS

    failed = 0
    for path in surveys:
        try:
            predict_one(ensemble, path, options, arguments)
        except PROBLEMS as error:
            if len(arguments.files) == 1 and arguments.files[0] == path:
                raise
            failed += 1
            print(f"{printable(path)}: {first_line(error)}", file=sys.stderr)
    return failed


def predict_one(ensemble: Ensemble, path: Path, options: SurveyOptions, arguments: Namespace) -> None:
    """Predict a survey, and say what is there now."""
    from salt.inference.survey import open_job, predict_survey

    job = open_job(ensemble, settings_from(arguments), path, arguments.out, options)
    if job.is_done:
        print(f"{printable(path)} is done already")
    done = predict_survey(job, lambda example, n_windows: load(job, example, n_windows))
    if done:
        print(f"{printable(arguments.out)}: {', '.join(printable(place.name) for place in job.results.values())}")
    else:
        left = len(job.todo())
        print(f"{printable(path)}: part {options.part[0]}/{options.part[1]} is done; {left} blocks are left for others")


def load(job: "SurveyJob", example: "NDArray[np.uint8]", n_windows: int) -> "Model":
    """Return the networks, in torch if OpenVINO's start does not pay."""
    from salt.inference.model import load_networks

    settings = job.settings
    if settings.engine == "auto" and n_windows < WORTHWHILE:
        settings = settings.model_copy(update={"engine": "torch"})
    model = load_networks(job.ensemble, settings, example)
    announce(model)
    return model
