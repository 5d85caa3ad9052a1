"""The command `salt-submit RUN`: write and check the submission of a finished run again."""

import logging
import sys
from pathlib import Path

from salt.command import make_parser, messages
from salt.config import RunConfig, check_config
from salt.files import locked
from salt.rundir import RunDir


def main() -> None:
    """Predict the test tiles and write RUN/submission.csv; exit code 1 and one message if it fails."""
    with messages("salt-submit"):
        parser = make_parser("salt-submit", "Write and check RUN/submission.csv from the folds of a run.")
        parser.add_argument("run", type=Path, metavar="RUN", help="run directory, such as runs/baseline")
        parser.add_argument("--root", help="data folder, where it is not at the place that the run was trained from")
        parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
        arguments = parser.parse_args()
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
        submit(arguments.run, arguments.root, arguments.device)


def submit(path: Path, root: str | None, device: str) -> None:
    """Write the submission of the run in `path`.

    Raises:
        ValueError: it is no run with a finished fold, its score is of other folds, or the data is not what it was
            trained on.
    """
    directory = RunDir(path)
    config = on_device(directory.read_config(), device)
    threshold = directory.read_score(config.data.n_folds)["threshold"]
    with locked(path, "collect"):  # also finds a read-only disk before the prediction, not after it
        data = directory.read_data(config, root)
        from salt import submission
        from salt.runtime import choose_runtime

        submission.submit(config, directory, data.test, threshold, choose_runtime(config.trainer))


def on_device(config: RunConfig, device: str) -> RunConfig:
    """The same settings with another trainer.device."""
    raw = config.model_dump(by_alias=True)
    raw["trainer"]["device"] = device
    return check_config(raw)


if __name__ == "__main__":
    main()
