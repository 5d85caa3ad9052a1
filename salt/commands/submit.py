"""The command `salt-submit RUN`: write and check the submission of a finished run again, and upload it if asked to."""

import logging
import sys
from functools import partial
from pathlib import Path

from salt.commands.common import make_parser, messages
from salt.inference.settings import PredictionSettings, add_prediction_options, settings_from
from salt.runs.files import locked, read_json
from salt.runs.rundir import RunDir


def main() -> None:
    """Predict the test tiles and write RUN/submission.csv; exit code 1 and one message if it fails."""
    with messages("salt-submit"):
        parser = make_parser("salt-submit", "Write and check RUN/submission.csv from the folds of a run.")
        parser.add_argument("run", type=Path, metavar="RUN", help="run directory, such as runs/baseline")
        parser.add_argument("--root", help="data folder, where it is not at the place that the run was trained from")
        add_prediction_options(parser)
        parser.add_argument("--upload", action="store_true", help="send it to Kaggle too, by the command kaggle")
        parser.add_argument("--message", help="what Kaggle shows beside an upload (default: run and score)")
        arguments = parser.parse_args()
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
        settings = settings_from(arguments)
        if arguments.upload:
            check_upload(arguments.run)
        elif arguments.message is not None:
            raise ValueError("--message is what Kaggle shows beside an upload; add --upload, or leave it out")
        submit(arguments.run, arguments.root, settings)
        if arguments.upload:
            print(upload(arguments.run, arguments.message))


def submit(path: Path, root: str | None, settings: PredictionSettings) -> None:
    """Write the submission of the run in `path`, predicted with these settings.

    Raises:
        ValueError: it is no run with a finished fold, its score is of other folds, or the data is not what it was
            trained on.
    """
    directory = RunDir(path)
    config = settings.applied(directory.read_config())
    with locked(path, "collect"):  # also finds a read-only disk before the prediction, not after it
        score = directory.read_score(config.data.n_folds)
        from salt.data.load import load_data_of_run  # no torch yet: a wrong --root is found at once

        data = load_data_of_run(directory, config, root)
        if not data.test.ids:
            raise ValueError(f"{root or config.data.root} has no test images to predict")
        from salt.inference import submission
        from salt.machine.device import choose_runtime

        origin = submission.origin_of(directory, score)
        if "runs" not in origin:
            submission.submit(config, directory, origin, data.test, choose_runtime(config.trainer))
            return
        from salt.inference.blend import Blend

        blend = Blend(path, settings)
        predict = partial(blend.predict_tiles, data.test)
        submission.write_predictions(config, directory, origin, data.test, predict, blend.made_with)


def check_upload(run: Path) -> None:
    """Check what an upload needs before anything is predicted: the competition's data and the command kaggle.

    Raises:
        ValueError: the run is of other data, or the command is missing.
    """
    from salt.data import kaggle
    from salt.data.source import source_of

    if source_of(RunDir(run).read_config().data).competition is None:
        raise ValueError(f"--upload: {run} was trained on other data than the competition's, so Kaggle would refuse it")
    kaggle.program()


def upload(run: Path, message: str | None) -> str:
    """Send a run's submission to Kaggle and return its answer.

    Raises:
        ValueError: it cannot be sent.
    """
    from salt.data import kaggle

    score = read_json(run / "score.json", "map")
    return kaggle.upload(run / "submission.csv", message or f"{run.resolve().name}, out-of-fold map {score['map']:.4f}")


if __name__ == "__main__":
    main()
