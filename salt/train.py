"""The command `salt-train`: compose the config, check it, and hand over. Heavy imports wait until then."""

import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from salt import interrupt, ranks
from salt.sweep import Sweep

if TYPE_CHECKING:
    from salt.config import RunConfig

PACKAGED = Path(__file__).parent / "configs"  # in the wheel; in a checkout configs/ lies beside salt/
CONFIGS = PACKAGED if PACKAGED.is_dir() else Path(__file__).parent.parent / "configs"

INTERRUPTED = [128 + number for number in interrupt.SIGNALS]  # exit codes

log = logging.getLogger("salt")


def main() -> None:
    """One run or a sweep, as the command line says; a sweep ends with the table of its points."""
    code: Any = 0
    try:
        run()
    except SystemExit as ended:
        code = ended.code
    if Sweep.running is not None and code not in INTERRUPTED:
        Sweep.running.compare()
        if code:
            print(
                "Not every point is finished. Once the cause is mended, the same command does what is missing.",
                file=sys.stderr,
            )
    sys.exit(code)


@hydra.main(config_path=str(CONFIGS), config_name="train", version_base="1.3")
def run(cfg: DictConfig) -> float | None:
    """One run, or one point of a sweep; returns the out-of-fold score."""
    path = Path(HydraConfig.get().runtime.output_dir)
    with messages(path):
        in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
        if ranks.world_size() > 1 and in_sweep:
            raise ValueError("a sweep cannot run under torchrun, each process would run all of it; one point at a time")
        config = typed(cfg)
        if config.dry_run:
            print(OmegaConf.to_yaml(cfg, resolve=True))
        if in_sweep and Sweep.running is None:  # a point in a process of its own
            interrupt.follow_parent()
        limit_threads()
        from salt import crossval  # torch is imported from here on

        with log_to(None if config.dry_run else path / "train.log"), device_of_point() as device:
            return crossval.run(config, path, device, in_parts=in_sweep)


def limit_threads() -> None:
    """Let a job of submitit compute with as many threads as it has cores; Slurm too gives one if nothing is said."""
    launcher = HydraConfig.get().launcher
    if HydraConfig.get().mode == RunMode.MULTIRUN and "cpus_per_task" in launcher:
        os.environ.setdefault("OMP_NUM_THREADS", str(launcher.cpus_per_task or 1))


@contextmanager
def device_of_point() -> Iterator[str | None]:
    """A GPU that no other point of the sweep uses, if points run side by side and there is one; None elsewhere."""
    hydra_config = HydraConfig.get()
    if hydra_config.mode != RunMode.MULTIRUN or "n_jobs" not in hydra_config.launcher:
        yield None
        return
    from salt.runtime import free_device

    with free_device(Path(hydra_config.sweep.dir), int(hydra_config.job.num)) as device:
        yield device


def typed(cfg: DictConfig) -> "RunConfig":
    """The composed config as typed, frozen settings."""
    from salt.config import check_config

    try:
        raw: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ValueError(f"config: {error}") from None
    return check_config(raw)


@contextmanager
def messages(path: Path) -> Iterator[None]:
    """Turn what a user can cause into one message without traceback; a sweep goes on with its next point."""
    try:
        with interrupt.handled():
            yield
    except interrupt.Interrupted as stop:
        print(f"{stop}; the same command goes on from where it was", file=sys.stderr)
        if interrupt.is_orphan():  # joblib would keep this process, and its GPU memory, for work that nobody gives
            os._exit(stop.exit_code)
        interrupt.hand_on(stop.signum)
        sys.exit(stop.exit_code)
    except (ValueError, OSError) as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            print(f"{path}: {error}", file=sys.stderr)  # Hydra shows the first failure only, at the end
            if not (path / "config.yaml").exists():  # refused before it began: nothing else would tell
                with suppress(OSError):  # the disk itself may be what failed
                    (path / "error.txt").write_text(traceback.format_exc())
        raise CompactHydraException(str(error)) from None


@contextmanager
def log_to(file: Path | None) -> Iterator[None]:
    """Log to the terminal above the progress bars, and to the run's train.log."""
    from tqdm.contrib.logging import logging_redirect_tqdm

    if not ranks.is_main():  # one of several processes speaks
        os.environ["TQDM_DISABLE"] = "1"
        log.setLevel(logging.ERROR)
        yield
        return
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(file))
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
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


if __name__ == "__main__":
    main()
