"""Sweeps: short names for their points, and a table that compares them at the end."""

import atexit
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from math import prod
from pathlib import Path
from tempfile import mkdtemp
from types import FrameType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from salt.cli.points import check_points
from salt.machine import distributed
from salt.machine.pipes import outlive_readers
from salt.overrides import check_overrides, explain, in_quotes, parse, typed_words
from salt.runs.files import folder_name, locked

MOST_ON_CPU = 4  # processes; each needs up to 4 GB
LONGEST_NAME = 255  # bytes, of most file systems
IN_THIS_PROCESS = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"

OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)  # for configs/train.yaml


class Sweep(Callback):
    """Hydra's hook around a sweep (`salt-train -m ...` or `ablation=...`). `baseline` names the point to compare with.

    A point's directory is named by the settings that vary in the sweep, not by those that all its points share: a
    shared setting that changes later is refused by the points' own config, with the keys that differ.
    """

    running: "Sweep | None" = None  # of this process
    place: Path | None = None  # where the run or the sweep belongs, if Hydra was given another folder
    check_point: Callable[[DictConfig], None] | None = None  # raises a ValueError if a composed point cannot run

    def __init__(self, baseline: str | None, **_: Any):
        self.baseline = baseline
        self.folder: Path | None = None
        self.failed: list[str] = []
        self.n_points = 0

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Keep the run directory from Hydra, which would make it before anything is checked."""
        with one_message():
            check_overrides(parse(typed_words(config.hydra)))
            from salt.config import check_name  # takes a moment to import, and --help needs none of it

            check_name(config.name)
            Sweep.running, Sweep.place = None, Path(config.hydra.run.dir).absolute()
            check_place(Path(config.hydra.run.dir), with_points=False)
            config.hydra.run.dir = "."

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Check what holds for all points, and leave shared settings out of their names."""
        with one_message():
            if distributed.read_group(os.environ).world_size > 1:
                raise ValueError(
                    "a sweep cannot run under torchrun, each process would run all of it; one point at a time, or "
                    f"{distributed.REMEDY}"
                )
            task = parse(typed_words(config.hydra))
            overrides = [*parse(f"{k}={v}" for k, v in (config.hydra.sweeper.get("params") or {}).items()), *task]
            check_overrides(overrides)
            from salt.config import check_name  # takes a moment to import, and --help needs none of it

            check_name(config.name)
            swept = {o.key_or_group for o in overrides if o.is_sweep_override()}
            exclude = [*config.hydra.job.config.override_dirname.exclude_keys, *(o.key_or_group for o in task)]
            exclude = [key for key in exclude if key not in swept or key == "folds"]  # all folds belong to one run
            check_length([o for o in overrides if o.key_or_group not in exclude])
            if Sweep.check_point is not None:
                check_points(config, overrides, Sweep.check_point)
            Sweep.running, Sweep.place = self, None
            self.n_points = prod(len(list(o.sweep_string_iterator())) for o in overrides if o.is_sweep_override())
            folder = Path(config.hydra.sweep.dir)
            check_place(folder, with_points=any(o.key_or_group not in exclude for o in overrides))
            if config.dry_run:
                Sweep.place, folder = folder.absolute(), temporary_folder()
                config.hydra.launcher = {"_target_": IN_THIS_PROCESS}
            else:
                outlive_readers()
                self.folder = folder
                folder.mkdir(parents=True, exist_ok=True)
            config.hydra.sweep.dir = str(folder)
            if config.hydra.launcher.get("n_jobs") == -1:
                config.hydra.launcher.n_jobs = default_jobs()
            if config.hydra.launcher.get("n_jobs", 1) > 1:
                signal.signal(signal.SIGINT, leave_points)
                quiet = (os.environ.get("PYTHONWARNINGS"), "ignore:resource_tracker")  # at its end after Ctrl-C
                os.environ["PYTHONWARNINGS"] = ",".join(filter(None, quiet))
            quoted = ",".join(f"'{key}'" for key in dict.fromkeys(exclude))
            config.hydra.overrides.hydra += [  # each point is composed anew
                f"hydra.job.config.override_dirname.exclude_keys=[{quoted}]",
                f"hydra.sweep.dir={in_quotes(str(folder))}",
                f"hydra.callbacks.sweep.in_parts={'folds' in swept}".lower(),
            ]

    @classmethod
    def points_left(cls) -> int:
        """Points that come after the one under way; 0 where points run side by side, each in a process of its own."""
        return 0 if cls.running is None else cls.running.n_points - 1 - int(HydraConfig.get().job.num)

    def remove_if_unused(self) -> None:
        """Remove the folder where Hydra noted the settings before it refused them."""
        if self.folder is not None and [file.name for file in self.folder.glob("*")] == ["multirun.yaml"]:
            (self.folder / "multirun.yaml").unlink()
            with suppress(OSError):  # not empty
                self.folder.rmdir()
                self.folder.parent.rmdir()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """In the process of a run or a point: replace the result if it failed; a point's is sent to the sweep."""
        if job_return.status == JobStatus.FAILED:
            job_return.__class__ = Failed


class Failed(JobReturn):
    """The result of a run or a sweep's point that failed.

    Hydra's class prints a line of its own before the error, and raises the first point's error at the end of a sweep,
    though each point has printed its error when it failed.
    """

    @property  # type: ignore[misc]  # nothing sets it any more
    def return_value(self) -> None:
        """Raises the error of a run; of a sweep the points are remembered that failed now."""
        if Sweep.running is None:
            assert isinstance(self._return_value, Exception)
            raise self._return_value
        assert self.hydra_cfg is not None
        Sweep.running.failed.append(Path(self.hydra_cfg.hydra.runtime.output_dir).name)


def check_place(path: Path, with_points: bool) -> None:
    """Make sure that a run, or a sweep with a folder for each of its points, begins in no folder of another one.

    Raises:
        ValueError: it would.
    """
    from salt.runs.results import find_points  # takes a moment to import
    from salt.runs.rundir import RunDir

    begun, points = RunDir(path).is_begun(), find_points(path) if path.is_dir() else []
    if with_points and begun and not points:
        raise ValueError(f"{path} is a run, where a sweep cannot have its points; choose another name=...")
    if not with_points and not begun and (points or is_sweep(path)):
        raise ValueError(f"{path} is a sweep's folder, where no other run can be; choose another name=...")
    for above in [] if begun else path.parents:
        if is_sweep(above) or RunDir(above).is_begun():
            raise ValueError(f"{path} lies in {above.absolute()}, which is a run or a sweep; choose another folder")


def is_sweep(folder: Path) -> bool:
    """Whether a sweep was started in a folder whose points have folders of their own; all folds belong to one run."""
    from salt.runs.files import read_yaml

    with suppress(OSError, ValueError, KeyError, TypeError, HydraException):  # such as the file of another program
        hydra = read_yaml(folder / "multirun.yaml")["hydra"]
        varied = [f"{key}={value}" for key, value in (hydra["sweeper"]["params"] or {}).items()]
        typed = parse([*varied, *hydra["overrides"]["task"]])
        return "sweep" in hydra["callbacks"] and any(o.is_sweep_override() and o.key_or_group != "folds" for o in typed)
    return False


def default_jobs() -> int:
    """Points to run side by side: one for each GPU; without one a few, which share the CPU's threads."""
    from joblib import cpu_count  # those that this process may use

    from salt.machine.device import n_gpus

    return n_gpus() or min(cpu_count(), MOST_ON_CPU)


def run_directory() -> Path:
    """Where the run that is under way belongs. It may not be there yet."""
    hydra = HydraConfig.get()
    if Sweep.place is None:
        return Path(hydra.runtime.output_dir)
    return Sweep.place / hydra.sweep.subdir if hydra.mode == RunMode.MULTIRUN else Sweep.place


def temporary_folder() -> Path:
    """A folder for what Hydra writes in a dry run, until this process ends."""
    folder = mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@contextmanager
def one_message() -> Iterator[None]:
    """Within this context an error ends the command with one message; Hydra would warn and go on."""
    try:
        yield
    except (ValueError, OSError, HydraException, OmegaConfBaseException, YAMLError) as error:
        sys.exit(explain(error))


def check_length(overrides: list[Override]) -> None:
    """Make sure that the folder of each point can have its name, which these settings give.

    Raises:
        ValueError: the longest name is too long.
    """
    parts = []
    for override in {o.key_or_group: o for o in overrides}.values():  # the last one counts
        values = override.sweep_string_iterator() if override.is_discrete_sweep() else [override.get_value_string()]
        parts.append(max((folder_name(f"{override.get_key_element()}={value}").encode() for value in values), key=len))
    longest = b",".join(parts)
    if len(longest) > LONGEST_NAME:
        raise ValueError(
            f"a point of this sweep needs a folder with a name of {len(longest)} bytes, at most {LONGEST_NAME} are "
            f"possible: {longest[:60].decode(errors='ignore')}... Vary fewer settings, or name files by shorter paths."
        )


def leave_points(signum: int, _: FrameType | None) -> None:
    """End a sweep at Ctrl-C by the signal itself: joblib would kill its processes, without their parent they save."""
    print("stopped by Ctrl-C; its points save their state and stop, the same command goes on", file=sys.stderr)
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)


@contextmanager
def free_device(folder: Path, job: int) -> Iterator[str | None]:
    """A GPU that no other process with this folder uses: the one whose turn it is, or else the next free one.

    None without a GPU. With more processes than GPUs some share one.
    """
    from salt.machine.device import n_gpus

    n_devices = n_gpus()
    with ExitStack() as held:
        for i in range(n_devices):
            device = f"cuda:{(job + i) % n_devices}"
            with suppress(ValueError):  # in use
                held.enter_context(locked(folder, device))
                break
        yield device if n_devices else None
