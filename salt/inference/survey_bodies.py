"""What interpreters load of a predicted survey: connected bodies, and top and base of salt at each trace."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from salt.survey.geometry import Survey

Rows = NDArray[np.int64]


class Bodies:
    """Bodies of voxels that share a face, found in one block of inlines after the other.

    Memory holds one block, and a row for each body: its voxels, and the first and last inline, crossline and sample.
    Bodies of fewer voxels than `smallest` are dropped as soon as they end.
    """

    def __init__(self, smallest: int) -> None:
        self.smallest = smallest
        self.n_inlines = 0  # so far
        self.ended: list[Rows] = []
        self.open: Rows = np.empty((0, 7), np.int64)  # bodies that touch the last inline
        self.border: NDArray[np.int64] | None = None  # (X S) of the last inline: the open body, from 1; 0 without

    def add(self, salt: NDArray[np.bool_]) -> None:
        """Take the next inlines (I X S)."""
        labels, n_labels = ndimage.label(salt)
        rows = np.concatenate([self.open, measure(labels, n_labels, self.n_inlines)])
        owner = self.connect(labels[0], n_labels)
        merged = merge(rows, owner)
        last = np.concatenate([[-1], owner[len(self.open) :]])[labels[-1]]
        still_open, border = np.unique(last, return_inverse=True)
        begin = int(still_open[0] == -1)
        self.border = border.reshape(last.shape) + 1 - begin
        self.end(np.delete(merged, still_open[begin:], axis=0))
        self.open = merged[still_open[begin:]]
        self.n_inlines += len(salt)

    def connect(self, first: NDArray[np.int64], n_labels: int) -> NDArray[np.int64]:
        """Return the body of each open body and each label of a block (N), whose first inline is given (X S)."""
        n_open = len(self.open)
        n = n_open + n_labels
        if self.border is None or n == 0:
            return np.arange(n)
        touching = (self.border > 0) & (first > 0)
        pairs = np.unique(np.stack([self.border[touching] - 1, n_open + first[touching] - 1]), axis=1)
        graph = coo_array((np.ones(pairs.shape[1], np.bool_), (pairs[0], pairs[1])), shape=(n, n))
        return np.asarray(connected_components(graph, directed=False)[1], np.int64)

    def end(self, rows: Rows) -> None:
        """Keep bodies that have ended and are large enough."""
        self.ended.append(rows[rows[:, 0] >= self.smallest])

    def table(self, survey: Survey) -> pd.DataFrame:
        """Return all bodies, from the largest on, with line numbers, and times or depths as the survey has them."""
        self.end(self.open)
        rows = np.concatenate(self.ended)
        rows = rows[np.lexsort((*rows.T[:0:-1], -rows[:, 0]))]
        inlines, crosslines, samples = survey.inlines, survey.crosslines, sample_positions(survey)
        columns = {"body": np.arange(1, len(rows) + 1), "voxels": rows[:, 0]}
        for name, numbers, low in (("inline", inlines, 1), ("crossline", crosslines, 2)):
            columns |= {f"{name}_first": numbers[rows[:, low]], f"{name}_last": numbers[rows[:, low + 3]]}
        return pd.DataFrame(columns | {"top": samples[rows[:, 3]], "base": samples[rows[:, 6]]})


def measure(labels: NDArray[np.int64], n_labels: int, n_before: int) -> Rows:
    """Return voxels and extent (N 7) of each label of a block that follows `n_before` inlines."""
    rows = np.empty((n_labels, 7), np.int64)
    rows[:, 0] = np.bincount(labels.ravel(), minlength=n_labels + 1)[1:]
    for row, box in zip(rows, ndimage.find_objects(labels), strict=True):
        row[1:4], row[4:7] = [side.start for side in box], [side.stop - 1 for side in box]
    rows[:, [1, 4]] += n_before
    return rows


def merge(rows: Rows, owner: NDArray[np.int64]) -> Rows:
    """Return the rows of bodies from those of their parts; `owner` has the body of each part."""
    n = int(owner.max(initial=-1)) + 1
    merged = np.zeros((n, 7), np.int64)
    np.add.at(merged[:, 0], owner, rows[:, 0])
    merged[:, 1:4] = np.iinfo(np.int64).max
    np.minimum.at(merged[:, 1:4], owner, rows[:, 1:4])
    np.maximum.at(merged[:, 4:7], owner, rows[:, 4:7])
    return merged


def horizons_of(
    salt: NDArray[np.bool_], survey: Survey, first: int, places: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> pd.DataFrame:
    """Return top and base of salt at each trace of some inlines (I X S) from `first` on that has any.

    `places` has x and y of each trace, in the file's order.
    """
    inlines, crosslines = np.nonzero(salt.any(axis=2))
    with_salt = salt[inlines, crosslines]
    traces, samples = survey.trace_of[first + inlines, crosslines], sample_positions(survey)
    columns = {
        "inline": survey.inlines[first + inlines],
        "crossline": survey.crosslines[crosslines],
        "x": places[0][traces],
        "y": places[1][traces],
        "top": samples[with_salt.argmax(axis=1)],
        "base": samples[::-1][with_salt[:, ::-1].argmax(axis=1)],
    }
    return pd.DataFrame(columns)


def sample_positions(survey: Survey) -> NDArray[np.float64]:
    """Return time or depth of each sample; its number from 0 if the file tells no interval."""
    numbers = np.arange(survey.n_samples, dtype=np.float64)
    return numbers if survey.interval is None else (survey.start + survey.interval * numbers).round(6)
