"""What other programs show of a run while it trains. Nothing depends on it: a logger that fails does not stop a run."""

import hashlib
import logging
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from salt.runs.stacks import Stack

log = logging.getLogger(__name__)

OUTLINES = ((25, 181, 232), (255, 159, 28))  # of truth and prediction at 0.5, RGB
SHOWN_SIDE = 256  # pixels of a tile in the picture

Numbers = Mapping[str, float | int | None]


class NoLogger:
    """Shows nothing."""

    n_images = 0

    def start(self, name: str, fold: int, path: Path, epoch: int, settings: dict[str, Any]) -> None:
        """A fold begins, or goes on after some epochs; `path` is its directory."""

    def epoch(self, numbers: Numbers) -> None:
        """The row of an epoch in metrics.csv."""

    def picture(self, epoch: int, image: NDArray[np.uint8]) -> None:
        """A picture (H W 3) of held-out tiles after an epoch."""

    def end(self) -> None:
        """The fold is finished or stopped."""


class TensorBoard(NoLogger):
    """Event files for TensorBoard."""

    def __init__(self, n_images: int):
        need("tensorboard")
        self.n_images = n_images

    def start(self, name: str, fold: int, path: Path, epoch: int, settings: dict[str, Any]) -> None:
        """Open the folder `tensorboard` of the fold; what a killed process wrote of later epochs is dropped."""
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(path / "tensorboard"), purge_step=epoch + 1)

    def epoch(self, numbers: Numbers) -> None:
        """A point for each number that is there."""
        for key, value in numbers.items():
            if key != "epoch" and value is not None:
                self.writer.add_scalar(key, value, numbers["epoch"])
        self.writer.flush()

    def picture(self, epoch: int, image: NDArray[np.uint8]) -> None:
        """Add a picture."""
        self.writer.add_image("held-out tiles", image, epoch, dataformats="HWC")

    def end(self) -> None:
        """Close the file."""
        self.writer.close()


class WandB(NoLogger):
    """A run of Weights & Biases for each fold, in a group for all folds of the run."""

    def __init__(self, n_images: int, mode: str, project: str):
        if mode not in ("offline", "online"):
            raise ValueError(f"mode={mode!r}, expected offline or online")
        need("wandb")
        self.n_images, self.mode, self.project = n_images, mode, project

    def start(self, name: str, fold: int, path: Path, epoch: int, settings: dict[str, Any]) -> None:
        """Begin or resume the fold's run, without the machine's name, the code and the command."""
        import wandb

        place = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]  # the same when the fold goes on
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
        """A step with each number that is there."""
        self.run.log(
            {key: value for key, value in numbers.items() if value is not None}, step=int(numbers["epoch"] or 0)
        )

    def picture(self, epoch: int, image: NDArray[np.uint8]) -> None:
        """Add a picture to the step."""
        self.run.log({"held-out tiles": self.kind(image)}, step=epoch)

    def end(self) -> None:
        """End the run."""
        self.run.finish()


class Harmless:
    """Passes calls on to a logger; after its first failure, which is told, no more."""

    def __init__(self, logger: NoLogger):
        self.logger: NoLogger | None = logger

    @property
    def n_images(self) -> int:
        """Tiles that the logger's picture shows; 0 if none is wanted."""
        return self.logger.n_images if self.logger else 0

    def call(self, name: str, *given: Any) -> None:
        """Call a method of the logger."""
        if self.logger is None:
            return
        try:
            method: Callable[..., None] = getattr(self.logger, name)
            method(*given)
        except Exception as error:
            log.warning("%s failed, the run goes on without it: %s", type(self.logger).__name__, first_line(error))
            self.logger = None


def first_line(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def need(package: str) -> None:
    """Make sure that a package is installed.

    Raises:
        ValueError: it is not.
    """
    if find_spec(package) is None:
        raise ValueError(f"needs the package {package}: pip install 'salt-segmentation[{package}]'")


def spread(coverage: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """Up to n positions of tiles (N) at equal steps of the share of salt, from little to much; without, if none has."""
    order = np.argsort(coverage, kind="stable")
    order = order[coverage[order] > 0] if coverage.any() else order
    return order[np.linspace(0, len(order) - 1, min(n, len(order))).round().astype(np.int64)]


def tiles_picture(images: Stack, masks: Stack, probabilities: Stack) -> NDArray[np.uint8]:
    """Tiles with the outlines of truth and prediction (above), and their probabilities (below), as (H W 3)."""
    columns = []
    for image, mask, probability in zip(images, masks, probabilities, strict=True):
        side = (SHOWN_SIDE, SHOWN_SIDE)
        grey = cv2.resize(image, side, interpolation=cv2.INTER_NEAREST)
        upper = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
        for salt, colour in zip((mask != 0, probability > 0.5), OUTLINES, strict=True):
            large = cv2.resize(salt.astype(np.uint8), side, interpolation=cv2.INTER_NEAREST)
            contours, _ = cv2.findContours(large, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(upper, contours, -1, colour, 2)
        lower = cv2.resize(
            (probability.astype(np.float32) * 255).astype(np.uint8), side, interpolation=cv2.INTER_NEAREST
        )
        columns.append(np.concatenate([upper, cv2.cvtColor(lower, cv2.COLOR_GRAY2RGB)]))
    return np.concatenate(columns, axis=1)
