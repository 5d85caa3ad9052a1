"""How a trained run predicts: the same settings for every command and for `salt.load`."""

from typing import Any, Literal

from pydantic import Field

from salt.config import Device, RunConfig
from salt.sections import Section, checked


class PredictionSettings(Section):
    """What prediction takes from its caller; None keeps the run's own setting, or the default of all runs."""

    device: Device = "auto"
    batch_size: int | None = Field(None, ge=1)  # tiles or windows
    precision: Literal["auto", "fp32", "bf16", "fp16"] | None = None
    compile: bool = False
    overlap: float | None = Field(None, ge=0.1, le=0.75)  # share of a window's side that its neighbour covers too
    mirror: bool | None = None
    engine: Literal["auto", "torch", "openvino"] | None = None

    def apply_to(self, config: RunConfig) -> RunConfig:
        """Return a run's config with these settings instead of those of its training."""
        names = {"batch_size": "predict_batch_size", "mirror": "tta"}
        given = self.model_dump(exclude_none=True, exclude={"overlap"})
        values = {names.get(name, name): value for name, value in given.items()}
        return config.model_copy(update={"trainer": config.trainer.model_copy(update=values)})


def check_prediction(**values: Any) -> PredictionSettings:
    """Return typed settings.

    Raises:
        ValueError: a value is not one of those expected.
    """
    return checked(PredictionSettings, **values)
