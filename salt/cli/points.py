"""The settings of a run or a point, typed; and the points of a sweep, checked before the first one starts."""

import logging
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from salt.overrides import REFUSED, explain, missing_values

if TYPE_CHECKING:
    from salt.config import RunConfig

log = logging.getLogger(__name__)

BAR_AFTER = 3.0  # seconds of checking


def typed_config(cfg: DictConfig) -> "RunConfig":
    """Return the composed config as typed, frozen settings.

    Raises:
        ValueError: a setting is missing or wrong.
    """
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
    """Compose each point of the sweep `config` as Hydra will; check its settings, and that its parts can be built.

    Raises:
        ValueError: points cannot run; each is named with its cause.
    """
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
            from salt.preflight.parts import check_parts  # imports torch

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
