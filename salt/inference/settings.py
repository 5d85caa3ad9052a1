"""How a trained run predicts: one object for every command and for `salt.load`.

A new setting is a field here, a line in `EXPECTED`, and an argument in `salt.commands.common`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from salt.config import RunConfig

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
EXPECTED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "device": (
        "auto, cpu, cuda or cuda:N",
        lambda value: isinstance(value, str) and bool(re.fullmatch(r"auto|cpu|cuda(:\d+)?", value)),
    ),
    "batch_size": (
        "a whole number, 1 or more",
        lambda value: value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1),
    ),
    "precision": (", ".join(PRECISIONS[:-1]) + f" or {PRECISIONS[-1]}", lambda value: value in (None, *PRECISIONS)),
    "compile": ("True or False", lambda value: isinstance(value, bool)),
}


@dataclass(frozen=True)
class PredictionSettings:
    """What prediction takes from its caller; None stands for the run's own setting.

    Nothing is compiled unless asked for, also for a run that trained so: it takes longer to start than it mostly saves.

    Raises:
        ValueError: a value is none of those expected.
    """

    device: str = "auto"
    batch_size: int | None = None  # tiles or windows
    precision: str | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        check_values(asdict(self), "{}={!r}")

    def applied(self, config: RunConfig) -> RunConfig:
        """Return a run's config with these settings in place of those of its training."""
        chosen = {
            "device": self.device,
            "predict_batch_size": self.batch_size,
            "precision": self.precision,
            "compile": self.compile,
        }
        given = {key: value for key, value in chosen.items() if value is not None}
        return config.model_copy(update={"trainer": config.trainer.model_copy(update=given)})


def check_values(values: Mapping[str, Any], named: str) -> None:
    """Refuse the first value that is none of those expected; `named` is a format of setting and value.

    Raises:
        ValueError: there is one.
    """
    for name, value in values.items():
        expected, fits = EXPECTED[name]
        if not fits(value):
            raise ValueError(f"{named.format(name, value)}: expected {expected}")
