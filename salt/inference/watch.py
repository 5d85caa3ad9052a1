"""A warning, once, if the images to predict look unlike those that the networks were trained on."""

import logging
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import numpy as np

from salt.data import likeness
from salt.data.amplitudes import Grey
from salt.data.tiles import Tiles
from salt.runs.stacks import as_stack

log = logging.getLogger("salt")

ENOUGH = 1_000_000  # pixels, of 100 tiles of 101x101; fewer differ by chance, see salt/data/likeness.py


class Watch:
    """Compares the first images with the training data of a run, as soon as these are enough; threads may share it."""

    def __init__(self, run: Path):
        self.run = run
        self.trained = likeness.read(run)  # None: unknown, or compared already
        self.seen: list[Grey] = []
        self.lock = Lock()

    def see(self, greys: Sequence[Grey]) -> None:
        """Take images to predict, and log a warning if they make up enough and differ strongly."""
        with self.lock:
            if self.trained is None:
                return
            self.seen += greys
            if sum(np.count_nonzero(~grey.missing) for grey in self.seen) < ENOUGH:
                return
            found = likeness.differences(self.trained, glance_at(self.seen))
            self.trained, self.seen = None, []
        if found:
            log.warning("the first images differ from those that %s was trained on: %s", self.run, "; ".join(found))


def glance_at(greys: Sequence[Grey]) -> likeness.Likeness:
    """Return what images look like; their sample interval if they have one in common."""
    levels, missing = (as_stack([getattr(grey, part) for grey in greys]) for part in ("levels", "missing"))
    intervals = {grey.interval for grey in greys}
    tiles = Tiles([str(i) for i in range(len(greys))], levels, None, np.full(len(greys), np.nan), missing)
    return likeness.glance(tiles, intervals.pop() if len(intervals) == 1 else None)
