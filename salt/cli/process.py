"""What this process is (a run, a worker of torchrun, a point of a sweep), how errors end it, and where it logs."""

import logging
import os
import shlex
import sys
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from salt.cli.sweep import Sweep
from salt.machine import distributed, interrupt
from salt.overrides import typed_words
from salt.paths import as_text
from salt.runs.files import locked

if TYPE_CHECKING:
    from salt.config import RunConfig

log = logging.getLogger("salt")


def options_first() -> list[str]:
    """Return the typed settings; move options (--cfg job, -m) before them, since Hydra takes options in one block."""
    words: list[str] = get_args_parser().parse_intermixed_args().overrides
    options = sys.argv[1:]
    for word in words:
        options.remove(word)
    sys.argv[1:] = [*options, *words]
    return words


def is_point() -> bool:
    """Return whether this run is a point of a sweep."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def is_beside_others() -> bool:
    """Return whether other processes of this machine work on other points of the same sweep."""
    return is_point() and "n_jobs" in HydraConfig.get().launcher


def join_others() -> None:
    """Join the processes of torchrun, and stop when the process that started this one ends."""
    if not is_point():
        distributed.take_part()
    if distributed.world_size() > 1 or (is_point() and Sweep.running is None):
        interrupt.follow_parent()


def limit_threads() -> None:
    """Limit a job of submitit to the cores that it asks for, or one if it asks for none, as Slurm does."""
    launcher = HydraConfig.get().launcher
    if is_point() and "cpus_per_task" in launcher:
        os.environ.setdefault("OMP_NUM_THREADS", str(launcher.cpus_per_task or 1))


def name_of_point() -> str:
    """Return a prefix for this point's log lines, its own settings; empty if no others run beside it."""
    if not is_beside_others():
        return ""
    hydra = HydraConfig.get()
    shared = set(hydra.job.config.override_dirname.exclude_keys)
    if hydra.callbacks["sweep"].in_parts:
        shared.discard("folds")
    words = [word for word in typed_words(hydra) if word.partition("=")[0] not in shared]
    return f"{' '.join(words)}: " if words else ""


def device_of_point() -> AbstractContextManager[str | None]:
    """Reserve a GPU for a point that others run beside; None for other runs, or without a GPU."""
    hydra = HydraConfig.get()
    return free_device(Path(hydra.sweep.dir), int(hydra.job.num)) if is_beside_others() else nullcontext()


@contextmanager
def free_device(folder: Path, job: int) -> Iterator[str | None]:
    """Hold GPU number `job` (modulo their number) or the next free one within this context; yield None without one."""
    from salt.machine.device import n_gpus

    n_devices = n_gpus()
    with ExitStack() as held:
        for i in range(n_devices):
            device = f"cuda:{(job + i) % n_devices}"
            with suppress(ValueError):  # in use
                held.enter_context(locked(folder, device))
                break
        yield device if n_devices else None


@contextmanager
def end_with_message(path: Path) -> Iterator[None]:
    """Within this context, turn what a user can cause into one message; a sweep continues with its next point."""
    try:
        with interrupt.handle_signals():
            yield
    except interrupt.Interrupted as stop:
        print(f"{f'{path}: ' if is_point() else ''}{stop}; the same command resumes", file=sys.stderr)
        if interrupt.is_orphan():  # joblib would keep this process and its GPU memory for no work
            os._exit(stop.exit_code)
        interrupt.hand_on(stop.signum)
        sys.exit(stop.exit_code)
    except (ValueError, OSError) as error:
        if is_point():
            print(f"{path}: {error}", file=sys.stderr)
            keep_traceback(Path(HydraConfig.get().runtime.output_dir))  # in a dry run: a temporary folder
        forget_variables(error)
        raise CompactHydraException(str(error)) from error
    except Exception as error:
        if is_point():
            traceback.print_exc()
            forget_variables(error)
        raise


def keep_traceback(folder: Path) -> None:
    """Write error.txt, the only trace of a point that is refused before its run begins."""
    if not (folder / "config.yaml").exists():
        with suppress(OSError):  # the disk itself may be what failed
            text = traceback.format_exc()
            (folder / "error.txt").write_text(text, encoding="utf-8", errors="backslashreplace")


def forget_variables(error: BaseException | None) -> None:
    """Free the variables of the failed calls: Hydra keeps the error, and the sweep's next points need the memory."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


class RunLog(logging.FileHandler):
    """Write train.log; keep records in memory until the run directory exists, so that a refused run makes none.

    With `restart` they also wait until the run that is there, if any, is deleted.
    """

    def __init__(self, file: Path, restart: bool):
        super().__init__(file, delay=True, encoding="utf-8", errors="backslashreplace")
        self.waiting: list[logging.LogRecord] = []
        self.replaced = self.time_of_run() if restart else None

    def time_of_run(self) -> int | None:
        """Return when the config of the run in the directory was written, in nanoseconds, or None without a run."""
        file = Path(self.baseFilename).with_name("config.yaml")
        return file.stat().st_mtime_ns if file.exists() else None

    def may_write(self) -> bool:
        """Return whether the run directory exists and belongs to this run."""
        there = Path(self.baseFilename).parent.is_dir()
        return there and (self.replaced is None or self.replaced != self.time_of_run())

    def format(self, record: logging.LogRecord) -> str:
        """Return a line with its paths in UTF-8, as in the run's other files."""
        return as_text(super().format(record))

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, after those that waited for the directory."""
        self.waiting.append(record)
        while self.waiting and self.may_write():
            super().emit(self.waiting.pop(0))


def run_logged(cfg: DictConfig, config: "RunConfig", path: Path) -> float | None:
    """Run what `check_before_torch` has let pass, with its log; return the out-of-fold score. It imports torch."""
    from salt import crossval
    from salt.cli.reproduce import describe_start
    from salt.job import Launch

    with log_to(config, path, name_of_point()), device_of_point() as device:
        log_choices()
        in_parts = HydraConfig.get().callbacks["sweep"].in_parts
        points_left = Sweep.points_left() if is_point() else 0
        return crossval.run(config, path, Launch(device, in_parts, points_left, describe_start(cfg)))


@contextmanager
def log_to(config: "RunConfig", path: Path, prefix: str = "") -> Iterator[None]:
    """Within this context, log above the progress bars, where each line starts with `prefix`, and to train.log.

    A dry run has no train.log.
    """
    from tqdm.contrib.logging import logging_redirect_tqdm

    if not distributed.is_main():
        log.setLevel(logging.ERROR)
        yield
        return
    handlers: dict[logging.Handler, str] = {logging.StreamHandler(sys.stdout): prefix.replace("%", "%%")}
    if not config.dry_run:
        handlers[RunLog(path / "train.log", bool(config.restart))] = ""
    for handler, start in handlers.items():
        handler.setFormatter(logging.Formatter(f"%(asctime)s {start}%(message)s", "%H:%M:%S"))
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        with logging_redirect_tqdm([log]):
            yield
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()


def log_choices() -> None:
    """Log each group's chosen option, the other settings that were typed, and what recipes lost and kept."""
    hydra = HydraConfig.get()
    choices = {g: o for g, o in hydra.runtime.choices.items() if o not in (None, "null") and not g.startswith("hydra/")}
    log.info("options: %s", " ".join(f"{group}={option}" for group, option in choices.items()))
    words = [word for word in typed_words(hydra) if word.partition("=")[0].lstrip("+~") not in choices]
    if words:
        log.info("settings: %s", shlex.join(words))
    for change in hydra.callbacks["sweep"].changes:
        log.info(change)
