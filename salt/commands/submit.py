"""The command `salt-submit RUN`: write and check the submission of a finished run again, and upload it if asked to."""

import logging
import sys

from salt.commands.common import add_prediction_options, add_root, add_run, make_parser, messages, settings_from
from salt.inference.settings import PredictionSettings
from salt.runs.ensemble import Ensemble, read_ensemble
from salt.runs.files import locked


def main() -> None:
    """Predict the test tiles and write RUN/submission.csv; exit code 1 and one message if it fails."""
    with messages("salt-submit"):
        parser = make_parser("salt-submit", "Write and check RUN/submission.csv from the folds of a run or a blend.")
        add_run(parser)
        add_root(parser)
        add_prediction_options(parser)
        parser.add_argument("--upload", action="store_true", help="send it to Kaggle too, by the command kaggle")
        parser.add_argument("--message", help="what Kaggle shows beside an upload (default: run and score)")
        arguments = parser.parse_args()
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
        settings = settings_from(arguments)
        ensemble = read_ensemble(arguments.run)
        if arguments.upload:
            check_upload(ensemble)
        elif arguments.message is not None:
            raise ValueError("--message is what Kaggle shows beside an upload; add --upload, or leave it out")
        submit(ensemble, arguments.root, settings)
        if arguments.upload:
            print(upload(ensemble, arguments.message))


def submit(ensemble: Ensemble, root: str | None, settings: PredictionSettings) -> None:
    """Write the submission of a run or a blend, predicted with these settings.

    Raises:
        ValueError: the data has no test images, or is not what it was trained on.
    """
    with locked(ensemble.path, "collect"):  # also finds a read-only disk before the prediction, not after it
        from salt.data.load import load_data_of_run  # no torch yet: a wrong --root is found at once

        config = ensemble.first.config
        data = load_data_of_run(ensemble.first.directory, config, root)
        if not data.test.ids:
            raise ValueError(f"{root or config.data.root} has no test images to predict")
        from salt.inference import submission
        from salt.inference.model import load_in_turn

        submission.make_submission(load_in_turn(ensemble, settings), data.test)


def check_upload(ensemble: Ensemble) -> None:
    """Check what an upload needs before anything is predicted: the competition's data and the command kaggle.

    Raises:
        ValueError: the run is of other data, or the command is missing.
    """
    from salt.data import kaggle
    from salt.data.source import source_of

    if source_of(ensemble.first.config.data).competition is None:
        raise ValueError(
            f"--upload: {ensemble.path} was trained on other data than the competition's, so Kaggle would refuse it"
        )
    kaggle.find_command()


def upload(ensemble: Ensemble, message: str | None) -> str:
    """Send a submission to Kaggle and return its answer.

    Raises:
        ValueError: it cannot be sent.
    """
    from salt.data import kaggle

    default = f"{ensemble.path.resolve().name}, out-of-fold map {ensemble.score['map']:.4f}"
    return kaggle.upload(ensemble.path / "submission.csv", message or default)


if __name__ == "__main__":
    main()
