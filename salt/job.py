"""A run that may start: what was checked, and what everything after the checks works with."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salt.build import Network
from salt.config import RunConfig
from salt.data.tiles import Dataset
from salt.machine.device import Runtime
from salt.runs.environment import BY_CODE, Start
from salt.runs.rundir import Digests, RunDir


@dataclass(frozen=True)
class Place:
    """How a run was started, and where it stands among others."""

    device: str | None = None  # stands for trainer.device=auto or cuda, if points of a sweep run side by side
    in_parts: bool = False  # other processes train other folds of the same run
    points_left: int = 0  # of the sweep, after this one
    start: Start = BY_CODE


ALONE = Place()
NOT_COMPARED = Digests()


@dataclass(frozen=True)
class Job:
    """A run whose settings, data, network and directory fit together."""

    config: RunConfig
    data: Dataset
    folds: NDArray[np.int64]  # of each training tile
    directory: RunDir
    runtime: Runtime
    network: Network  # one for all folds and for the submission; each loads its weights into it
    place: Place = ALONE
    digests: Digests = NOT_COMPARED

    def path(self, fold: int) -> Path:
        """The folder of a fold."""
        return self.directory.fold(fold)

    def training(self, fold: int) -> NDArray[np.int64]:
        """Positions of the tiles that a fold is trained on."""
        return np.flatnonzero(self.folds != fold)

    def held_out(self, fold: int) -> NDArray[np.int64]:
        """Positions of the tiles that a fold is scored on."""
        return np.flatnonzero(self.folds == fold)
