"""The command `salt-train`: compose the config, check it, and hand over. Heavy imports wait until then."""

import copy
import logging
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

import salt
from salt.cli import recipes
from salt.cli.log import log_to
from salt.cli.sweep import Sweep, run_directory
from salt.machine import distributed, interrupt
from salt.machine.pipes import current_folder, make_steady, outlive_readers, steady_output
from salt.overrides import CONFIGS, check_words, explain, hydra_raises, missing_values, typed_words

if TYPE_CHECKING:
    from salt.config import RunConfig

INTERRUPTED = [128 + number for number in interrupt.SIGNALS]  # exit codes

log = logging.getLogger("salt")
recipes.use_loader()


def main() -> None:
    """One run or a sweep, as the command line says; a sweep ends with the table of its points."""
    with steady_output("salt-train"):
        if "--version" in sys.argv[1:]:
            print(f"salt-train {salt.__version__}")
            return
        words = options_first()
        current_folder("salt-train")
        try:
            run_all(words)
        except KeyboardInterrupt:  # before a run or between two, where nothing is to be saved
            print("stopped by Ctrl-C", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)


def options_first() -> list[str]:
    """Return the settings typed; put them behind the options (--cfg job, -m), which Hydra takes in one block alone."""
    words: list[str] = get_args_parser().parse_intermixed_args().overrides
    options = sys.argv[1:]
    for word in words:
        options.remove(word)
    sys.argv[1:] = [*options, *words]
    return words


def run_all(words: list[str]) -> None:
    """Run what the command line asks for; ends the process with its exit code, or with one message."""
    code: Any = 0
    Sweep.running, Sweep.check_point = None, check_point
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    try:
        check_words(words)
        with hydra_raises():
            run()
    except SystemExit as ended:
        code = ended.code
    except (ValueError, HydraException, OmegaConfBaseException, YAMLError) as error:
        if wants_traceback:
            raise
        code = explain(error)
        if Sweep.running is not None:
            Sweep.running.remove_if_unused()
    sweep = Sweep.running
    if sweep is not None and code not in INTERRUPTED:
        print_table(sweep)
        if sweep.failed:
            print("Some points failed. Fix the error and run the same command again to resume.", file=sys.stderr)
            code = code or 1
    sys.exit(code)


def print_table(sweep: Sweep) -> None:
    """Print and write the table of a sweep's finished points, and list the others."""
    if sweep.folder is None or not any(sweep.folder.glob("*/[ce]*")):  # a dry run, or nothing was begun
        return
    from salt.comparing.tables import compare_sweep

    try:
        print(f"\n{compare_sweep(sweep.folder, sweep.baseline, failed=sweep.failed)}")
    except (ValueError, OSError) as error:
        print(f"salt-compare {sweep.folder}: {error}", file=sys.stderr)


@hydra.main(config_path=str(CONFIGS), config_name="train", version_base="1.3")
def run(cfg: DictConfig) -> float | None:
    """One run, or one point of a sweep; returns the out-of-fold score."""
    make_steady("salt-train")  # of a process that a launcher started
    path = run_directory()
    with messages(path):
        in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
        if not in_sweep:
            distributed.take_part()
        config = typed(cfg)
        if distributed.world_size() > 1 or (in_sweep and Sweep.running is None):  # started by torchrun or a launcher
            interrupt.follow_parent()
        check_start(config, path)
        limit_threads()
        if not config.dry_run:
            outlive_readers()
        from salt import crossval  # torch is imported from here on
        from salt.cli.start import describe_start
        from salt.job import Place

        with log_to(None if config.dry_run else path / "train.log", name_of_point()), device_of_point() as device:
            log_choices()
            points_left, in_parts = Sweep.points_left(), HydraConfig.get().callbacks["sweep"].in_parts
            return crossval.run(config, path, Place(device, in_parts, points_left, describe_start(cfg)))


def log_choices() -> None:
    """Log the chosen option of each group, and the settings that were typed."""
    hydra_config = HydraConfig.get()
    choices = {g: o for g, o in hydra_config.runtime.choices.items() if o != "null" and not g.startswith("hydra/")}
    log.info("options: %s", " ".join(f"{group}={option}" for group, option in choices.items() if option is not None))
    words = [word for word in typed_words(hydra_config) if word.partition("=")[0].lstrip("+~") not in choices]
    if words:
        log.info("settings: %s", shlex.join(words))
    for change in hydra_config.callbacks["sweep"].changes:
        log.info(change)


def check_point(cfg: DictConfig) -> None:
    """Check what a point of a sweep can be told without data.

    Raises:
        ValueError: a setting is wrong, or a part cannot be built.
    """
    HydraConfig.instance().set_config(cfg)
    settings = copy.copy(cfg)
    with open_dict(settings):
        del settings["hydra"]
    config = typed(settings)
    from salt.preflight.parts import check_parts

    check_parts(config)


def check_start(config: "RunConfig", path: Path) -> None:
    """Check what needs no torch, which takes seconds to import: that paths are there, and the run directory is free.

    Raises:
        ValueError: they are not.
    """
    from salt.data.source import source_of
    from salt.runs.files import check_file
    from salt.runs.rundir import RunDir

    directory = RunDir(path)
    source_of(config.data).check()
    if config.data.folds not in (None, "random", "mosaic"):
        check_file(
            "data.folds", Path(config.data.folds), "; expected random, mosaic, or a file with the columns id,fold"
        )
    if config.data.mosaic is not None:
        check_file("data.mosaic", Path(config.data.mosaic), "; expected a table of salt-data mosaic, or null")
    directory.check(config.model_dump(mode="json", by_alias=True))
    weights, begin = config.encoder.weights, directory.folds_to_begin(config.fold_list)
    if config.init is not None and begin:
        check_file("init", Path(config.init, "config.yaml"), "; expected a run directory, or null")
    elif weights not in (None, "imagenet") and config.encoder.name and begin:
        check_file("encoder.weights", Path(weights), "; expected imagenet, null, or a .safetensors or .pth file")
    if config.data.pseudo is not None and begin:
        check_file("data.pseudo", Path(config.data.pseudo), "; expected a file of salt-pseudo, or null")
    directory.check_free(config.fold_list)


def limit_threads() -> None:
    """Let a job of submitit compute with as many threads as it has cores; Slurm too gives one if nothing is said."""
    launcher = HydraConfig.get().launcher
    if HydraConfig.get().mode == RunMode.MULTIRUN and "cpus_per_task" in launcher:
        os.environ.setdefault("OMP_NUM_THREADS", str(launcher.cpus_per_task or 1))


def in_company() -> bool:
    """Whether this process works on one of a sweep's points while others work on others, on one machine."""
    return HydraConfig.get().mode == RunMode.MULTIRUN and "n_jobs" in HydraConfig.get().launcher


def name_of_point() -> str:
    """What begins a point's lines in the terminal, where points run side by side: the settings that are its own."""
    if not in_company():
        return ""
    settings = HydraConfig.get()
    shared = set(settings.job.config.override_dirname.exclude_keys)
    if settings.callbacks["sweep"].in_parts:
        shared.discard("folds")
    words = [word for word in typed_words(settings) if word.partition("=")[0] not in shared]
    return f"{' '.join(words)}: " if words else ""


@contextmanager
def device_of_point() -> Iterator[str | None]:
    """A GPU that no other point of the sweep uses, if points run side by side and there is one; None elsewhere."""
    if not in_company():
        yield None
        return
    from salt.cli.sweep import free_device

    hydra_config = HydraConfig.get()
    with free_device(Path(hydra_config.sweep.dir), int(hydra_config.job.num)) as device:
        yield device


def typed(cfg: DictConfig) -> "RunConfig":
    """The composed config as typed, frozen settings."""
    from salt.config import check_config

    try:
        missing = OmegaConf.missing_keys(cfg)
        raw: Any = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise ValueError(explain(error)) from None
    if missing:
        raise ValueError(missing_values(missing, HydraConfig.get().runtime.choices))
    return check_config(raw)


@contextmanager
def messages(path: Path) -> Iterator[None]:
    """Turn what a user can cause into one message without traceback; a sweep goes on with its next point."""
    in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    try:
        with interrupt.handled():
            yield
    except interrupt.Interrupted as stop:
        print(f"{f'{path}: ' if in_sweep else ''}{stop}; the same command goes on from where it was", file=sys.stderr)
        if interrupt.is_orphan():  # joblib would keep this process and its GPU memory for no work
            os._exit(stop.exit_code)
        interrupt.hand_on(stop.signum)
        sys.exit(stop.exit_code)
    except (ValueError, OSError) as error:
        if in_sweep:
            print(f"{path}: {error}", file=sys.stderr)
            place = Path(HydraConfig.get().runtime.output_dir)  # of a dry run: a temporary folder
            if not (place / "config.yaml").exists():  # refused before it began: this is its only trace
                with suppress(OSError):  # the disk itself may be what failed
                    text = traceback.format_exc()
                    (place / "error.txt").write_text(text, encoding="utf-8", errors="backslashreplace")
        forget_variables(error)
        raise CompactHydraException(str(error)) from error
    except Exception as error:
        if in_sweep:
            traceback.print_exc()
            forget_variables(error)
        raise


def forget_variables(error: BaseException | None) -> None:
    """Free the variables of the calls that failed: Hydra keeps the error, a sweep's next points need the memory."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


if __name__ == "__main__":
    main()
