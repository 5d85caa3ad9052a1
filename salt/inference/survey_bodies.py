"""What interpreters load of a predicted survey: connected bodies, and top and base of salt at each trace."""

from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from salt.survey.geometry import Survey

Rows = NDArray[np.int64]  # (N 7)


class Bodies:
    """Bodies of voxels that share a face, found in one block of inlines after the other.

    Memory holds one block, and a row for each part of a body in a block: its voxels, and the first and last inline,
    crossline and sample. Parts of fewer voxels than `smallest` are dropped unless they touch the next or last block.
    """

    def __init__(self, smallest: int) -> None:
        self.smallest = smallest
        self.n_inlines = 0  # so far
        self.n_parts = [0]  # before each block, and so far; parts are counted over all blocks
        self.rows: list[NDArray[np.int32]] = []  # (N 7) of each block's parts
        self.labels: list[NDArray[np.int32]] = []  # of these parts in their block
        self.touching: list[NDArray[np.int64]] = []  # (2 P): pairs of parts that share a face between two blocks
        self.border: NDArray[np.int64] | None = None  # (X S) of the last inline: the part; -1 without

    def add(self, salt: NDArray[np.bool_]) -> None:
        """Take the next inlines (I X S)."""
        labels, n_labels = ndimage.label(salt)
        rows = measure(labels, n_labels, self.n_inlines)
        counts = np.concatenate([[False], rows[:, 0] >= self.smallest])  # label 0 is no salt
        for outside in (labels[0], labels[-1]):
            counts[outside] = True
        counts[0] = False
        part_of = np.full(n_labels + 1, -1)
        part_of[counts] = self.n_parts[-1] + np.arange(counts.sum())
        first = part_of[labels[0]]
        if self.border is not None:
            both = (self.border >= 0) & (first >= 0)
            self.touching.append(np.unique(np.stack([self.border[both], first[both]]), axis=1))
        self.border = part_of[labels[-1]]
        self.rows.append(rows[counts[1:]].astype(np.int32))
        self.labels.append(np.flatnonzero(counts).astype(np.int32))
        self.n_parts.append(self.n_parts[-1] + int(counts.sum()))
        self.n_inlines += len(salt)

    @cached_property
    def owner(self) -> NDArray[np.int64]:
        """The body of each part, after the last block."""
        n, pairs = self.n_parts[-1], np.concatenate([np.empty((2, 0), np.int64), *self.touching], axis=1)
        graph = coo_array((np.ones(pairs.shape[1], np.bool_), (pairs[0], pairs[1])), shape=(n, n))
        return np.asarray(connected_components(graph, directed=False)[1], np.int64) if n else np.empty(0, np.int64)

    @cached_property
    def merged(self) -> Rows:
        """The rows of the bodies, also of those that are too small."""
        return merge(np.concatenate(self.rows), self.owner)

    def large(self, number: int, salt: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the salt of a block (I X S), counted from 0, without bodies that are too small, after the last one."""
        labels, n_labels = ndimage.label(salt)
        kept = np.zeros(n_labels + 1, np.bool_)
        owner = self.owner[slice(*self.n_parts[number : number + 2])]
        kept[self.labels[number]] = self.merged[owner, 0] >= self.smallest
        large: NDArray[np.bool_] = kept[labels]
        return large

    def table(self, survey: Survey) -> pd.DataFrame:
        """Return all bodies, from the largest on, with line numbers, and times or depths as the survey has them."""
        rows = self.merged[self.merged[:, 0] >= self.smallest]
        rows = rows[np.lexsort((*rows.T[:0:-1], -rows[:, 0]))]
        inlines, crosslines, samples = survey.inlines, survey.crosslines, sample_positions(survey)
        columns = {"body": np.arange(1, len(rows) + 1), "voxels": rows[:, 0]}
        for name, numbers, low in (("inline", inlines, 1), ("crossline", crosslines, 2)):
            columns |= {f"{name}_first": numbers[rows[:, low]], f"{name}_last": numbers[rows[:, low + 3]]}
        return pd.DataFrame(columns | {"top": samples[rows[:, 3]], "base": samples[rows[:, 6]]})


def measure(labels: NDArray[np.int64], n_labels: int, n_before: int) -> Rows:
    """Return voxels and extent (N 7) of each label of a block that follows `n_before` inlines."""
    rows = np.empty((n_labels, 7), np.int64)
    rows[:, 0] = 0
    for line in labels:  # the numbers of which NumPy copies to 64 bits
        rows[:, 0] += np.bincount(line.ravel(), minlength=n_labels + 1)[1:]
    for row, box in zip(rows, ndimage.find_objects(labels), strict=True):
        row[1:4], row[4:7] = [side.start for side in box], [side.stop - 1 for side in box]
    rows[:, [1, 4]] += n_before
    return rows


def merge(rows: NDArray[np.int32], owner: NDArray[np.int64]) -> Rows:
    """Return the rows of bodies from those of their parts; `owner` has the body of each part."""
    n = int(owner.max(initial=-1)) + 1
    merged = np.zeros((n, 7), np.int64)
    np.add.at(merged[:, 0], owner, rows[:, 0])
    merged[:, 1:4] = np.iinfo(np.int64).max
    np.minimum.at(merged[:, 1:4], owner, rows[:, 1:4])
    np.maximum.at(merged[:, 4:7], owner, rows[:, 4:7])
    return merged


def horizons_of(salt: NDArray[np.bool_], survey: Survey, first: int) -> pd.DataFrame:
    """Return top and base of salt at each trace of some inlines (I X S) from `first` on that has any."""
    inlines, crosslines = np.nonzero(salt.any(axis=2))
    with_salt = salt[inlines, crosslines]
    samples = sample_positions(survey)
    x, y = survey.coordinates(survey.trace_of[first + inlines, crosslines])
    columns = {
        "inline": survey.inlines[first + inlines],
        "crossline": survey.crosslines[crosslines],
        "x": x,
        "y": y,
        "top": samples[with_salt.argmax(axis=1)],
        "base": samples[::-1][with_salt[:, ::-1].argmax(axis=1)],
    }
    return pd.DataFrame(columns)


def sample_positions(survey: Survey) -> NDArray[np.float64]:
    """Return time or depth of each sample; its number from 0 if the file tells no interval."""
    numbers = np.arange(survey.n_samples, dtype=np.float64)
    return numbers if survey.interval is None else (survey.start + survey.interval * numbers).round(6)
