"""Loggers show a run in other programs while it trains (config group `logger`). One that fails stops no run."""

import hashlib
import logging
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from salt.runs.files import first_line
from salt.runs.stacks import Stack

log = logging.getLogger(__name__)

OUTLINES = ((25, 181, 232), (255, 159, 28))  # of truth and prediction at 0.5, RGB
SHOWN_SIDE = 256  # pixels of a tile in the picture

Numbers = Mapping[str, float | int | None]


class NoLogger:
    """Show nothing."""

    n_images = 0

    def start(self, name: str, fold: int, path: Path, epoch: int, settings: dict[str, Any]) -> None:
        """Start or resume a fold after `epoch` epochs; `path` is its folder."""

    def epoch(self, numbers: Numbers) -> None:
        """Take the row of an epoch in metrics.csv."""

    def picture(self, epoch: int, image: NDArray[np.uint8]) -> None:
        """Take a picture (H W 3) of held-out tiles after an epoch."""

    def end(self) -> None:
        """End: the fold is finished or stopped."""


class TensorBoard(NoLogger):
    """Write event files for TensorBoard."""

    def __init__(self, n_images: int):
        need("tensorboard")
        self.n_images = n_images

    def start(self, name: str, fold: int, path: Path, epoch: int, settings: dict[str, Any]) -> None:
        """Open the folder `tensorboard` of the fold; drop later epochs, which a killed process wrote."""
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(path / "tensorboard"), purge_step=epoch + 1)

    def epoch(self, numbers: Numbers) -> None:
        for key, value in numbers.items():
            if key != "epoch" and value is not None:
                self.writer.add_scalar(key, value, numbers["epoch"])
        self.writer.flush()

    def picture(self, epoch: int, image: NDArray[np.uint8]) -> None:
        self.writer.add_image("held-out tiles", image, epoch, dataformats="HWC")

    def end(self) -> None:
        self.writer.close()


class WandB(NoLogger):
    """Log each fold as a run of Weights & Biases, in a group for all folds."""

    def __init__(self, n_images: int, mode: str, project: str):
        if mode not in ("offline", "online"):
            raise ValueError(f"mode={mode!r}, expected offline or online")
        need("wandb")
        self.n_images, self.mode, self.project = n_images, mode, project

    def start(self, name: str, fold: int, path: Path, epoch: int, settings: dict[str, Any]) -> None:
        """Start or resume the run of the fold, without the name of the machine, code or command."""
        import wandb

        place = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]  # the same if the fold resumes
        quiet = wandb.Settings(
            silent=True, console="off", disable_git=True, disable_code=True, x_disable_machine_info=True
        )
        self.run = wandb.init(
            project=self.project,
            group=name,
            name=f"{name}, fold {fold}",
            id=place,
            resume="allow" if self.mode == "online" else None,
            mode=self.mode,  # type: ignore[arg-type]
            dir=str(path),
            config=settings,
            settings=quiet,
        )
        self.kind = wandb.Image

    def epoch(self, numbers: Numbers) -> None:
        known = {key: value for key, value in numbers.items() if value is not None}
        self.run.log(known, step=int(numbers["epoch"] or 0))

    def picture(self, epoch: int, image: NDArray[np.uint8]) -> None:
        self.run.log({"held-out tiles": self.kind(image)}, step=epoch)

    def end(self) -> None:
        self.run.finish()


class SafeLogger:
    """Pass calls on to a logger until it fails, then warn and stop."""

    def __init__(self, logger: NoLogger):
        self.logger: NoLogger | None = logger

    @property
    def n_images(self) -> int:
        """How many tiles the picture shows; 0 for no picture."""
        return self.logger.n_images if self.logger else 0

    def call(self, name: str, *given: Any) -> None:
        if self.logger is None:
            return
        try:
            getattr(self.logger, name)(*given)
        except Exception as error:
            cause = f"{type(error).__name__}: {first_line(error)}"
            log.warning("%s failed, the run continues without it: %s", type(self.logger).__name__, cause)
            self.logger = None


def need(package: str) -> None:
    """Raise ValueError if a package is not installed."""
    if find_spec(package) is None:
        raise ValueError(f"needs the package {package}: pip install 'salt-segmentation[{package}]'")


def spread(coverage: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """Return up to n positions of tiles (N) at equal steps of coverage; of tiles with salt only, if there are any."""
    order = np.argsort(coverage, kind="stable")
    order = order[coverage[order] > 0] if coverage.any() else order
    return order[np.linspace(0, len(order) - 1, min(n, len(order))).round().astype(np.int64)]


def tiles_picture(images: Stack, masks: Stack, probabilities: Stack) -> NDArray[np.uint8]:
    """Draw tiles with the outlines of truth and prediction, and below them their probabilities (H W 3)."""
    columns = []
    for image, mask, probability in zip(images, masks, probabilities, strict=True):
        side = (SHOWN_SIDE, SHOWN_SIDE)
        grey = cv2.resize(image, side, interpolation=cv2.INTER_NEAREST)
        upper = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
        for salt, colour in zip((mask != 0, probability > 0.5), OUTLINES, strict=True):
            large = cv2.resize(salt.astype(np.uint8), side, interpolation=cv2.INTER_NEAREST)
            contours, _ = cv2.findContours(large, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(upper, contours, -1, colour, 2)
        grey = (probability.astype(np.float32) * 255).astype(np.uint8)
        lower = cv2.resize(grey, side, interpolation=cv2.INTER_NEAREST)
        columns.append(np.concatenate([upper, cv2.cvtColor(lower, cv2.COLOR_GRAY2RGB)]))
    return np.concatenate(columns, axis=1)
