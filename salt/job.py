"""A run that has passed its checks, as everything after them takes it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from salt.build import Network
from salt.config import RunConfig
from salt.data import likeness
from salt.data.likeness import Likeness
from salt.data.tiles import Dataset
from salt.machine.device import Runtime
from salt.runs.environment import BY_CODE, Start
from salt.runs.rundir import NOT_COMPARED, Digests, RunDir


@dataclass(frozen=True)
class Launch:
    """How a run was started, and which other runs and processes share its work."""

    device: str | None = None  # replaces trainer.device=auto or cuda, if points of a sweep run side by side
    in_parts: bool = False  # other processes train other folds of the same run
    points_left: int = 0  # of the sweep, after this one
    start: Start = BY_CODE


ALONE = Launch()


@dataclass(frozen=True)
class Job:
    """A run whose settings, data, network and directory fit together."""

    config: RunConfig
    data: Dataset
    folds: NDArray[np.int64]  # fold of each training tile
    directory: RunDir
    runtime: Runtime
    network: Network  # one for all folds and for the submission; each loads its weights into it
    launch: Launch = ALONE
    digests: Digests = NOT_COMPARED

    @cached_property
    def looks(self) -> Likeness:
        """What the training tiles look like, and which they are."""
        return likeness.describe(self.data.train, self.data.interval)

    def held_out(self, fold: int) -> NDArray[np.int64]:
        """Return the positions of the tiles that a fold is scored on."""
        return np.flatnonzero(self.folds == fold)
