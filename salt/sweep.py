"""Sweeps: short names for their points, and a table that compares them at the end."""

import os
import sys
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict

MOST_ON_CPU = 4  # processes; each needs up to 4 GB


class Sweep(Callback):
    """Hydra's hook around a sweep (`salt-train -m ...` or `ablation=...`). `baseline` names the point to compare with.

    A point's directory is named by the settings that vary in the sweep, not by those that all its points share: a
    shared setting that changes later is refused by the points' own config, with the keys that differ.
    """

    running: "Sweep | None" = None  # of this process

    def __init__(self, baseline: str | None):
        self.baseline = baseline
        self.folder: Path | None = None
        self.failed: list[str] = []

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Make the run directory here, because Hydra would answer with a traceback where it cannot."""
        make_folder(Path(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Leave shared settings out of the points' names."""
        make_folder(Path(config.hydra.sweep.dir))
        overrides = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        swept = {o.key_or_group for o in overrides if o.is_sweep_override()}
        shared = [o.key_or_group for o in overrides]
        exclude = [*config.hydra.job.config.override_dirname.exclude_keys, *shared]
        exclude = [key for key in exclude if key not in swept or key == "folds"]  # all folds belong to one run
        quoted = ",".join(f"'{key}'" for key in dict.fromkeys(exclude))
        with open_dict(config):
            config.hydra.overrides.hydra.append(f"hydra.job.config.override_dirname.exclude_keys=[{quoted}]")
        if config.hydra.launcher.get("n_jobs") == -1:
            config.hydra.launcher.n_jobs = default_jobs()
        if not config.dry_run:
            self.folder = Path(config.hydra.sweep.dir)
        Sweep.running = self

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Remember the points that failed now; some have a score of an earlier command."""
        if job_return.status == JobStatus.FAILED:
            self.failed.append(Path(config.hydra.runtime.output_dir).name)

    def compare(self) -> None:
        """Print and write the table of all finished points, and list the others."""
        if self.folder is None or not any(self.folder.glob("*/[ce]*")):  # a dry run, or nothing was begun
            return
        from salt.compare import compare_sweep

        try:
            print(f"\n{compare_sweep(self.folder, self.baseline, failed=self.failed)}")
        except (ValueError, OSError) as error:
            print(f"salt-compare {self.folder}: {error}", file=sys.stderr)


def default_jobs() -> int:
    """Points to run side by side: one for each GPU; without one a few, which share the CPU's threads."""
    import torch

    return torch.cuda.device_count() or min(os.cpu_count() or 1, MOST_ON_CPU)


def make_folder(path: Path) -> None:
    """Make a folder, or end with one message."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.exit(f"{path} cannot be made: {error}")
