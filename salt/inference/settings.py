"""How a trained run predicts: the same settings for every command and for `salt.load`."""

from typing import Any, Literal

from pydantic import Field, ValidationError

from salt.config import Device, RunConfig, Section
from salt.problems import problem_in_words


class PredictionSettings(Section):
    """What prediction takes from its caller; None keeps the run's own setting.

    Nothing is compiled by default, even if the run trained so: to compile mostly takes longer than it saves.
    """

    device: Device = "auto"
    batch_size: int | None = Field(None, ge=1)  # tiles or windows
    precision: Literal["auto", "fp32", "bf16", "fp16"] | None = None
    compile: bool = False

    def apply_to(self, config: RunConfig) -> RunConfig:
        """Return a run's config with these settings instead of those of its training."""
        values = self.model_dump(exclude_none=True)
        if "batch_size" in values:
            values["predict_batch_size"] = values.pop("batch_size")
        return config.model_copy(update={"trainer": config.trainer.model_copy(update=values)})


def check_prediction(**values: Any) -> PredictionSettings:
    """Return typed settings.

    Raises:
        ValueError: a value is not one of those expected.
    """
    try:
        return PredictionSettings(**values)
    except ValidationError as error:
        raise ValueError("; ".join(problem_in_words(detail, PredictionSettings) for detail in error.errors())) from None
