"""Sweeps: short names for their points, a check of each before the first starts, and a table at the end."""

import atexit
import logging
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path
from tempfile import mkdtemp
from types import FrameType
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from salt.machine import distributed, interrupt
from salt.machine.pipes import outlive_readers
from salt.overrides import REFUSED, check_overrides, explain, in_quotes, missing_values, parse, point_names, typed_words
from salt.runs.files import folder_name, read_yaml

if TYPE_CHECKING:
    from salt.config import RunConfig

log = logging.getLogger(__name__)

MOST_ON_CPU = 4  # processes; each needs up to 4 GB
IN_THIS_PROCESS = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
INTERRUPTED = [128 + number for number in interrupt.SIGNALS]  # exit codes
BAR_AFTER = 3.0  # seconds of checking

OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)  # for configs/train.yaml


class Sweep(Callback):
    """Hydra's hook around a run or a sweep (`-m`, `ablation=...`); `baseline` names the point to compare with."""

    running: "Sweep | None" = None  # in this process
    place: Path | None = None  # of the run or the sweep, if Hydra was given another folder

    def __init__(self, baseline: str | None, **_: Any):
        self.baseline = baseline
        self.folder: Path | None = None
        self.failed: list[str] = []
        self.n_points = 0

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Check the words; hide the run directory from Hydra, which would make it before anything is checked."""
        with end_command():
            check_overrides(parse(typed_words(config.hydra)))
            Sweep.place = Path(config.hydra.run.dir).absolute()
            check_folder(Path(config.hydra.run.dir), with_points=False)
            config.hydra.run.dir = "."

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Check the words and every point; leave the shared settings out of the points' names."""
        with end_command():
            if distributed.read_group(os.environ).world_size > 1:
                why = "a sweep cannot run under torchrun, since each process would run all of it"
                raise ValueError(f"{why}; start the points one by one, or {distributed.REMEDY}")
            task = parse(typed_words(config.hydra))
            params = config.hydra.sweeper.get("params") or {}
            overrides = [*parse(f"{key}={value}" for key, value in params.items()), *task]
            check_overrides(overrides)
            varied = [o for o in overrides if o.is_sweep_override()]
            swept = {o.key_or_group for o in varied}
            exclude = [*config.hydra.job.config.override_dirname.exclude_keys, *(o.key_or_group for o in task)]
            exclude = [key for key in exclude if key not in swept or key == "folds"]  # all folds belong to one run
            if "folds" in swept and config.restart:
                raise ValueError("restart would delete the folds of the other processes; start them again without it")
            check_points(config, overrides)
            Sweep.running, Sweep.place = self, None
            self.n_points = prod(len(list(o.sweep_string_iterator())) for o in varied)
            named = [o for o in overrides if o.key_or_group not in exclude]
            check_folder(Path(config.hydra.sweep.dir), with_points=bool(named))
            self.make_folder(config)
            prepare_launcher(config.hydra.launcher)
            quoted = ",".join(f"'{key}'" for key in dict.fromkeys(exclude))
            config.hydra.overrides.hydra += [  # Hydra composes each point again
                f"hydra.job.config.override_dirname.exclude_keys=[{quoted}]",
                f"hydra.sweep.dir={in_quotes(config.hydra.sweep.dir)}",
                f"hydra.callbacks.sweep.in_parts={'folds' in swept}".lower(),
            ]

    def make_folder(self, config: DictConfig) -> None:
        """Make the sweep's folder; a dry run gets a temporary one, and needs no other processes."""
        folder = Path(config.hydra.sweep.dir)
        if config.dry_run:
            Sweep.place, folder = folder.absolute(), Path(mkdtemp())  # for what Hydra writes
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            config.hydra.launcher = {"_target_": IN_THIS_PROCESS}
        else:
            outlive_readers()
            self.folder = folder
            folder.mkdir(parents=True, exist_ok=True)
        config.hydra.sweep.dir = str(folder)

    @classmethod
    def points_left(cls) -> int:
        """Return how many points follow the current one; 0 if points run side by side, each in its own process."""
        return 0 if cls.running is None else cls.running.n_points - 1 - int(HydraConfig.get().job.num)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """In the process of a run or a point: replace the result if it failed; a launcher sends it to the sweep."""
        if job_return.status == JobStatus.FAILED:
            job_return.__class__ = Failed

    def end(self, code: Any) -> Any:
        """Print the table of the points; return the exit code, or the message that ends the command."""
        if code in INTERRUPTED:
            return code
        if self.folder is not None and any(self.folder.glob("*/[ce]*")):  # config.yaml or error.txt of a point
            from salt.comparing.tables import compare_sweep

            try:
                print(f"\n{compare_sweep(self.folder, self.baseline, failed=self.failed)}")
            except (ValueError, OSError) as error:
                print(f"salt-compare {self.folder}: {error}", file=sys.stderr)
        if self.failed:
            print("Some points failed. Fix the error and run the same command again to resume.", file=sys.stderr)
        return code or (1 if self.failed else 0)


class Failed(JobReturn):
    """A failed run or point; Hydra's class would print a line, and raise the first point's error at a sweep's end."""

    @property  # type: ignore[misc]  # nothing sets it any more
    def return_value(self) -> None:
        """Raise a run's error; remember a sweep's point."""
        if Sweep.running is None:
            assert isinstance(self._return_value, Exception)
            raise self._return_value
        assert self.hydra_cfg is not None
        Sweep.running.failed.append(Path(self.hydra_cfg.hydra.runtime.output_dir).name)


def check_folder(path: Path, with_points: bool) -> None:
    """Raise ValueError if a run, or a sweep with a folder for each point, would start in the folder of another one."""
    from salt.runs.results import find_points  # takes a moment to import
    from salt.runs.rundir import RunDir

    begun, points = RunDir(path).is_begun(), find_points(path) if path.is_dir() else []
    if with_points and begun and not points:
        raise ValueError(f"{path} is a run, a sweep needs another folder for its points; choose another name=...")
    if not with_points and not begun and (points or is_sweep(path)):
        raise ValueError(f"{path} is the folder of a sweep, a run needs another one; choose another name=...")
    for above in [] if begun else path.parents:
        if is_sweep(above) or RunDir(above).is_begun():
            raise ValueError(f"{path} lies in {above.absolute()}, which is a run or a sweep; choose another folder")


def is_sweep(folder: Path) -> bool:
    """Return whether a folder belongs to a sweep; one over folds alone is a run."""
    with suppress(OSError, ValueError, KeyError, TypeError):  # such as another program's file
        hydra = read_yaml(folder / "multirun.yaml")["hydra"]
        varied = [f"{key}={value}" for key, value in (hydra["sweeper"]["params"] or {}).items()]
        return "sweep" in hydra["callbacks"] and bool(point_names([*varied, *hydra["overrides"]["task"]]))
    return False


def prepare_launcher(launcher: DictConfig) -> None:
    """Choose how many points joblib runs side by side, and let them save their state at Ctrl-C."""
    if launcher.get("n_jobs") == -1:
        launcher.n_jobs = default_jobs()
    if launcher.get("n_jobs", 1) > 1:
        signal.signal(signal.SIGINT, leave_points)
        quiet = (os.environ.get("PYTHONWARNINGS"), "ignore:resource_tracker")  # which warns after Ctrl-C
        os.environ["PYTHONWARNINGS"] = ",".join(filter(None, quiet))


def default_jobs() -> int:
    """Return one point per GPU; without a GPU a few, which share the CPU's threads."""
    from joblib import cpu_count  # those that this process may use

    from salt.machine.device import n_gpus

    return n_gpus() or min(cpu_count(), MOST_ON_CPU)


def leave_points(signum: int, _: FrameType | None) -> None:
    """End a sweep at Ctrl-C by the signal itself: joblib would kill its processes, but orphans save their state."""
    print("stopped by Ctrl-C; the points save their state and stop, the same command resumes", file=sys.stderr)
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)


def run_directory() -> Path:
    """Return the directory of the current run, which may not exist yet."""
    hydra = HydraConfig.get()
    if Sweep.place is None:
        return Path(hydra.runtime.output_dir)
    return Sweep.place / hydra.sweep.subdir if hydra.mode == RunMode.MULTIRUN else Sweep.place


@contextmanager
def end_command() -> Iterator[None]:
    """Within this context, an error ends the command with one message; Hydra would only warn of it."""
    try:
        yield
    except (*REFUSED, OSError) as error:
        sys.exit(explain(error))


def typed_config(cfg: DictConfig) -> "RunConfig":
    """Return the composed config as typed, frozen settings; raise ValueError if one is missing or wrong."""
    from salt.config import check_config  # imports pydantic, which --help does not need

    cfg = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    try:
        missing = OmegaConf.missing_keys(cfg)
        raw: Any = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise ValueError(explain(error)) from None
    if missing:
        raise ValueError(missing_values(missing, HydraConfig.get().runtime.choices))
    return check_config(raw)


def check_points(config: DictConfig, overrides: list[Override]) -> None:
    """Check each point of the sweep, composed as Hydra will; raise ValueError that names each one that cannot run."""
    from tqdm import tqdm  # --help does not need it

    loader = GlobalHydra.instance().config_loader()
    keys = [override.get_key_element() for override in overrides if override.is_sweep_override()]
    (points,) = BasicSweeper.split_arguments(overrides, None)
    problems: dict[str, str] = {}
    for words in tqdm(points, "checking the points", unit="point", disable=None, leave=False, delay=BAR_AFTER):
        try:
            point = loader.load_sweep_config(config, list(words))
            HydraConfig.instance().set_config(point)
            settings = typed_config(point)
            from salt.preflight.checks import check_parts  # imports torch

            check_parts(settings)
        except REFUSED as error:
            problems[" ".join(word for word in words if word.partition("=")[0] in keys)] = explain(error)
        except Exception as error:  # a bug, perhaps in the user's class: the point itself shows its traceback
            log.debug("%s: %s", words, error)
    if len(problems) == len(points) and len(set(problems.values())) == 1:
        raise ValueError(next(iter(problems.values())))
    if problems:
        lines = "\n".join(f"  {point}: {text}".replace("\n", "\n  ") for point, text in problems.items())
        raise ValueError(f"{len(problems)} of the {len(points)} points cannot run, none was started:\n{lines}")
