"""The command `salt-train`, from the command line to the run. torch takes seconds to import, so it comes last."""

import os
import signal
import sys
from typing import Any

import hydra
from omegaconf import DictConfig

import salt
from salt.cli import recipes
from salt.cli.process import end_with_message, join_others, limit_threads, options_first, run_logged
from salt.cli.sweep import Sweep, run_directory, typed_config
from salt.machine.pipes import current_folder, make_steady, outlive_readers, steady_output
from salt.overrides import CONFIGS, REFUSED, check_quotes, explain, hydra_raises

recipes.use_loader()


def main() -> None:
    """Run what the command line asks for; a sweep ends with the table of its points."""
    with steady_output("salt-train"):
        if "--version" in sys.argv[1:]:
            print(f"salt-train {salt.__version__}")
            return
        words = options_first()
        current_folder("salt-train")
        try:
            code = run_all(words)
        except KeyboardInterrupt:  # before a run or between two: nothing to save
            print("stopped by Ctrl-C", file=sys.stderr)
            code = 128 + signal.SIGINT
        sys.exit(code)


def run_all(words: list[str]) -> Any:
    """Run the job or the sweep; return the exit code, or the message that ends the command."""
    code: Any = 0
    Sweep.running = None
    try:
        check_quotes(words)
        with hydra_raises():
            run()
    except SystemExit as ended:
        code = ended.code
    except (*REFUSED, OSError) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        code = explain(error)
    return code if Sweep.running is None else Sweep.running.end(code)


@hydra.main(config_path=str(CONFIGS), config_name="train", version_base="1.3")
def run(cfg: DictConfig) -> float | None:
    """Run a job, or one point of a sweep; return the out-of-fold score."""
    make_steady("salt-train")  # in a launcher's process
    path = run_directory()
    with end_with_message(path):
        join_others()
        config = typed_config(cfg)
        from salt.preflight.before_torch import check_before_torch  # no torch yet, which takes seconds to import

        check_before_torch(config, path)
        limit_threads()
        if not config.dry_run:
            outlive_readers()
        return run_logged(cfg, config, path)  # imports torch


if __name__ == "__main__":
    main()
