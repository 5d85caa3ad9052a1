"""The points of a sweep, checked before the first one starts."""

import logging
import shlex
from collections.abc import Callable

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from salt.overrides import explain

log = logging.getLogger(__name__)

SECONDS = 3.0  # after which a bar shows how far the check is


def check_points(config: DictConfig, overrides: list[Override], check: Callable[[DictConfig], None]) -> None:
    """Compose each point of the sweep `config`, as Hydra will do, and check it.

    Raises:
        ValueError: points cannot run; each is named with its cause.
    """
    from tqdm import tqdm  # `--help` does without it

    loader = GlobalHydra.instance().config_loader()
    varied = [override for override in overrides if override.is_sweep_override()]
    keys = [override.get_key_element() for override in varied]
    (points,) = BasicSweeper.split_arguments(overrides, None)
    problems: dict[str, str] = {}
    for words in tqdm(points, "checking the points", unit="point", disable=None, leave=False, delay=SECONDS):
        try:
            check(loader.load_sweep_config(config, list(words)))
        except (ValueError, HydraException, OmegaConfBaseException, YAMLError) as error:
            problems[" ".join(word for word in words if word.partition("=")[0] in keys)] = explain(error)
        except Exception as error:  # no user's mistake: the point itself keeps its traceback
            log.debug("%s: %s", words, error)
    if len(problems) == len(points) and len(set(problems.values())) == 1:
        raise ValueError(next(iter(problems.values())))
    if problems:
        lines = "\n".join(f"  {point}: {text}".replace("\n", "\n  ") for point, text in problems.items())
        raise ValueError(
            f"{len(problems)} of the {len(points)} points cannot run, none was started:\n{lines}"
            f"{how_to_leave_out(varied, list(problems))}"
        )


def how_to_leave_out(varied: list[Override], points: list[str]) -> str:
    """The setting that leaves out the points that cannot run, where one setting alone varies and others can."""
    if len(varied) != 1:
        return ""
    key = varied[0].get_key_element()
    left = [value for value in varied[0].sweep_string_iterator() if f"{key}={value}" not in points]
    return f"\nTo leave them out: {shlex.quote(key + '=' + ','.join(left))}" if left else ""
