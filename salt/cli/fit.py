"""A run from Python: the settings, checks and steps of `salt-train`, in the caller's process."""

from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from salt.cli import recipes
from salt.cli.process import run_logged
from salt.cli.sweep import check_folder, typed_config
from salt.machine import interrupt
from salt.overrides import CONFIGS, REFUSED, check_overrides, check_quotes, explain, hydra_raises, parse

ONE_RUN = "a sweep is many runs, and salt.fit trains one; use salt-train, or a loop over salt.fit"


def train(words: list[str]) -> Path:
    """Train the run that the words of a command line describe, and return its directory, or raise ValueError."""
    recipes.use_loader()
    outer = GlobalHydra.instance().hydra  # of a program that uses Hydra itself
    GlobalHydra.instance().clear()
    try:
        check_quotes(words)
        with hydra_raises(), initialize_config_dir(str(CONFIGS), version_base="1.3"):
            overrides = parse(words)
            check_overrides(overrides)
            if any(override.is_sweep_override() for override in overrides):
                raise ValueError(ONE_RUN)
            return run_composed(compose("train", overrides=words, return_hydra_config=True))
    except REFUSED as error:
        raise ValueError(explain(error)) from None
    finally:
        GlobalHydra.instance().hydra = outer


def run_composed(cfg: DictConfig) -> Path:
    """Run a composed config, and return the run's directory."""
    if cfg.hydra.mode == RunMode.MULTIRUN:
        raise ValueError(ONE_RUN)
    with open_dict(cfg):
        cfg.hydra.runtime.output_dir = cfg.hydra.run.dir
        cfg.hydra.job.num = 0
    HydraConfig.instance().set_config(cfg)
    path = Path(cfg.hydra.run.dir).absolute()
    config = typed_config(cfg)
    check_folder(path, with_points=False)
    from salt.preflight.before_torch import check_before_torch

    check_before_torch(config, path)
    with interrupt.handle_signals():
        run_logged(cfg, config, path)
    return path
