"""The command `salt-submit RUN`: write and check the submission of a finished run again."""

import argparse
import logging
import sys
from pathlib import Path

from salt.config import check_config
from salt.files import read_json
from salt.rundir import RunDir


def main() -> None:
    """Predict the test tiles and write RUN/submission.csv; exit code 1 and one message if it fails."""
    parser = argparse.ArgumentParser(description="Write and check RUN/submission.csv from the folds of a run.")
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory, such as runs/baseline")
    parser.add_argument("--root", help="data folder, where it is not at the place that the run was trained from")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        submit(arguments.run, arguments.root, arguments.device)
    except (ValueError, OSError) as error:
        sys.exit(f"salt-submit: {error}")


def submit(path: Path, root: str | None, device: str) -> None:
    """Write the submission of the run in `path`.

    Raises:
        ValueError: it is no run with a finished fold, or the data is not what it was trained on.
    """
    directory = RunDir(path)
    config = directory.read_config()
    if not (path / "score.json").is_file():
        raise ValueError(f"{path} has no score.json yet: finish the run with the same salt-train command")
    raw = config.model_dump(by_alias=True)
    raw["data"]["root"] = root or config.data.root
    raw["trainer"]["device"] = device
    config = check_config(raw)
    from salt import crossval, submission
    from salt.runtime import choose_runtime

    runtime = choose_runtime(config.trainer)
    data = crossval.load_data(config)
    directory.check_data(data.digest(), config.data.root)
    submission.submit(config, directory, data.test, read_json(path / "score.json", "threshold")["threshold"], runtime)


if __name__ == "__main__":
    main()
