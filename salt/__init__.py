"""Salt: config-driven training for salt segmentation in seismic tiles."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from salt.inference.blend import Blend
    from salt.inference.model import Model

__version__ = "0.1.0"


def load(run: "str | Path", device: str = "auto", batch_size: int | None = None) -> "Model | Blend":
    """The networks of a finished run, to predict images with: `model.predict`, `model.mask`, `model.threshold`.

    `device` is auto, cpu, cuda or cuda:N; `batch_size` the windows predicted at once (None: as the run did).

    Raises:
        ValueError: it is no run with finished folds and a score, or one of its files is damaged.
    """
    from salt.inference.blend import load_run  # imports torch, which takes seconds

    return load_run(run, device, batch_size)
