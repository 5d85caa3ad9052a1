"""Salt: config-driven training for salt segmentation in seismic tiles."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from salt.api import Run, fit
    from salt.inference.model import Model

__all__ = ["Run", "__version__", "fit", "load"]

__version__ = "0.1.0"


def load(
    run: str | Path,
    device: str = "auto",
    *,
    batch_size: int | None = None,
    precision: str | None = None,
    compile: bool = False,
    overlap: float | None = None,
    mirror: bool | None = None,
    engine: str | None = None,
) -> "Model":
    """Load a run, a blend or a bundle to predict images: `model.predict`, `model.mask`, `model.threshold`.

    `device` is auto, cpu, cuda or cuda:N. `batch_size` is the number of windows predicted at once, `precision` auto,
    fp32, bf16 or fp16. `compile` compiles the networks first. `overlap` is the share of a window's side that its
    neighbour covers too. `mirror` predicts the mirrored image too. `engine` is torch, openvino (faster
    on CPUs), or auto: openvino if it is installed and agrees with torch. None takes the run's own setting.

    Raises:
        ValueError: the run has no finished folds or no score, a file is damaged, or a setting is wrong.
    """
    from salt.inference.settings import check_prediction
    from salt.runs.ensemble import read_ensemble

    settings = check_prediction(
        device=device,
        batch_size=batch_size,
        precision=precision,
        compile=compile,
        overlap=overlap,
        mirror=mirror,
        engine=engine,
    )
    ensemble = read_ensemble(Path(run).expanduser())
    from salt.inference.model import load_networks

    return load_networks(ensemble, settings)


def __getattr__(name: str) -> Any:
    """Import `fit` and `Run` when they are first used."""
    if name in ("Run", "fit"):
        from salt import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
