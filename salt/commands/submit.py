"""The command `salt-submit RUN`: write and check the submission of a finished run again, and upload it."""

import logging
import sys

from salt.commands.common import PREDICTION, make_parser, messages, settings_from
from salt.data import kaggle
from salt.inference.settings import PredictionSettings
from salt.runs.ensemble import Ensemble, read_ensemble
from salt.runs.files import locked


def main() -> None:
    """Predict the test tiles, and write RUN/submission.csv."""
    with messages("salt-submit"):
        description = "Predict the test tiles of a run or a blend. Writes and checks RUN/submission.csv."
        parser = make_parser("salt-submit", description, "run", "--root", *PREDICTION)
        parser.add_argument("--upload", action="store_true", help="send it to Kaggle with the command kaggle")
        parser.add_argument("--message", help="Kaggle's note for an upload (default: run and score)")
        arguments = parser.parse_args()
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
        settings = settings_from(arguments)
        if arguments.run.is_file():
            raise ValueError(f"{arguments.run} is a bundle; unzip it, and name the folder as RUN")
        ensemble = read_ensemble(arguments.run)
        if arguments.upload:
            check_upload(ensemble)
        elif arguments.message is not None:
            raise ValueError("--message is Kaggle's note for an upload; add --upload, or leave it out")
        submit_ensemble(ensemble, arguments.root, settings)
        if arguments.upload:
            default = f"{ensemble.path.resolve().name}, out-of-fold map {ensemble.score['map']:.4f}"
            print(kaggle.upload(ensemble.path / "submission.csv", arguments.message or default))


def submit_ensemble(ensemble: Ensemble, root: str | None, settings: PredictionSettings) -> None:
    """Write the submission of a run or a blend, predicted with these settings.

    Raises:
        ValueError: the data has no test images, or is other data than in training.
    """
    with locked(ensemble.path, "collect"):  # also finds a read-only disk before the prediction
        from salt.data.load import load_data_of_run  # no torch yet: a wrong --root is found at once

        config = ensemble.first.config
        data = load_data_of_run(ensemble.first.directory, config, root)
        if not data.test.ids:
            raise ValueError(f"{root or config.data.root} has no test images to predict")
        from salt.inference import submission
        from salt.inference.model import load_networks

        submission.make_submission(load_networks(ensemble, settings), data.test)


def check_upload(ensemble: Ensemble) -> None:
    """Check what an upload needs before anything is predicted.

    Raises:
        ValueError: the run has other data than the competition, or the command kaggle is missing.
    """
    from salt.data.source import source_of

    if source_of(ensemble.first.config.data).competition is None:
        raise ValueError(
            f"--upload: {ensemble.path} was trained on other data than the competition's, so Kaggle would refuse it"
        )
    kaggle.find_command()


if __name__ == "__main__":
    main()
