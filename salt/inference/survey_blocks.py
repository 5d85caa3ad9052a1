"""Blocks of consecutive lines: read as tiles for the networks, their probabilities kept in a file for each.

A block's file is there when the block is done, and only then. So processes on any machines may share the folder, die
and do a block twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from salt.config import Data
from salt.data.amplitudes import Grey, Range, Scaling, find_outlier, find_range, remarks
from salt.data.tiles import Tiles
from salt.inference.predict import Prediction
from salt.runs.files import write_atomic
from salt.survey.geometry import Direction, Survey
from salt.survey.read import read_block, read_traces

MOST_LINES, MOST_VOXELS = 16, 1 << 23  # of a block, which has at least one line
SAMPLED, MOST_SAMPLED = 16, 1 << 22  # lines spread over the survey, and voxels, that give the range of amplitudes
BLOCK_STEPS = 65535  # 1 in the files of blocks, which hold 16 bits for each voxel


class LineBlock(NamedTuple):
    """Consecutive lines of a direction, counted from 0; `last` is not among them."""

    direction: Direction
    first: int
    last: int

    @property
    def n_lines(self) -> int:
        """Return the number of lines."""
        return self.last - self.first


def blocks_of(survey: Survey, direction: Direction) -> list[LineBlock]:
    """Return the blocks of a direction; they depend on the survey alone."""
    n_lines, n_traces = survey.places(direction).shape
    size = min(max(MOST_VOXELS // (n_traces * survey.n_samples), 1), MOST_LINES)
    return [LineBlock(direction, first, min(first + size, n_lines)) for first in range(0, n_lines, size)]


class SurveySample(NamedTuple):
    """Amplitudes of lines spread over a survey, and the remarks on them."""

    amplitudes: NDArray[np.floating[Any]]  # (traces, samples), NaN if missing
    limits: Range  # the amplitudes that become the grey values 0 and 255 everywhere in the survey
    remarks: list[str]


def sample_survey(survey: Survey, data: Data, nodata: float | None) -> SurveySample:
    """Return amplitudes of the survey, and the range that the run's settings of the data make of them.

    Raises:
        ValueError: they cannot be scaled, or the run was trained on 8 bits.
    """
    n_lines, n_traces = survey.trace_of.shape
    lines = np.unique(np.linspace(0, n_lines - 1, SAMPLED).round().astype(np.int64))
    step = -(-len(lines) * n_traces * survey.n_samples // MOST_SAMPLED)
    amplitudes = read_traces(survey.layout, survey.trace_of[lines, ::step]).reshape(-1, survey.n_samples)
    if data.amplitudes.per == "survey" and data.amplitudes.limits is None:
        raise ValueError(f"{survey.path} has floats as samples, but the run was trained on a survey of 8 bits")
    scaling = Scaling(data.amplitudes, nodata)
    try:
        known = scaling.split(amplitudes)[1]
        limits = data.amplitudes.limits or find_range(known, data.amplitudes.pair)
        grey = scaling.by(limits)(amplitudes)
    except ValueError as error:
        raise ValueError(f"{survey.path} {error}") from None
    return SurveySample(amplitudes, limits, remarks(grey._replace(outlier=find_outlier(known)), "--nodata"))


def read_tiles(survey: Survey, block: LineBlock, scaling: Scaling, depth: float | None) -> Tiles:
    """Return the grey values of the lines of a block, as images with the samples down.

    Raises:
        ValueError: an amplitude is infinite.
    """
    greys: list[Grey] = []
    for offset, line in enumerate(read_block(survey, block.first, block.last, block.direction)):
        try:
            greys.append(scaling(np.ascontiguousarray(line.T)))
        except ValueError as error:
            number = survey.lines(block.direction)[block.first + offset]
            raise ValueError(f"{survey.path}: {block.direction} {number} {error}") from None
    levels, missing = (np.stack([getattr(grey, part) for grey in greys]) for part in ("levels", "missing"))
    depths = np.full(len(greys), np.nan if depth is None else depth)
    return Tiles([str(i) for i in range(len(greys))], levels, None, depths, missing)


@dataclass(frozen=True)
class Scratch:
    """The files of blocks, which hold the probability and, with `spread`, its deviation, in 65535ths."""

    folder: Path
    survey: Survey
    spread: bool

    def path(self, block: LineBlock) -> Path:
        """Return the file of a block."""
        return self.folder / f"{block.direction}_{block.first:06d}-{block.last:06d}.npy"

    def size(self, block: LineBlock) -> int:
        """Return the bytes of the values of a block."""
        n_traces = self.survey.places(block.direction).shape[1]
        return 2 * (1 + self.spread) * block.n_lines * n_traces * self.survey.n_samples

    def has(self, block: LineBlock) -> bool:
        """Return whether a block is done."""
        try:
            return self.path(block).stat().st_size > self.size(block)
        except OSError:
            return False

    def write(self, block: LineBlock, prediction: Prediction) -> None:
        """Write the prediction (lines, samples, traces) of a block, atomically.

        The file has it as (C, inlines, crosslines, samples), whatever its direction.
        """
        parts = [part for part in prediction if part is not None]
        values = np.empty((len(parts), *np.array(parts[0].shape)[[0, 2, 1]]), np.uint16)
        for into, part in zip(values, parts, strict=True):
            into[:] = np.rint(part * np.float32(BLOCK_STEPS)).transpose(0, 2, 1)
        if block.direction == "crossline":
            values = values.swapaxes(1, 2)

        def save(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.save(file, np.ascontiguousarray(values))

        write_atomic(self.path(block), save)

    def read(self, blocks: Sequence[LineBlock], first: int, last: int) -> NDArray[np.float32]:
        """Return the values (C, inlines, crosslines, samples) of some inlines, from all blocks of one direction."""
        if blocks[0].direction == "inline":
            parts = [
                np.load(self.path(block), mmap_mode="r")[:, max(first - block.first, 0) : last - block.first]
                for block in blocks
                if block.first < last and first < block.last
            ]
            values = np.concatenate(parts, axis=1)
        else:
            values = np.concatenate([np.load(self.path(b), mmap_mode="r")[:, first:last] for b in blocks], axis=2)
        return values.astype(np.float32) / np.float32(BLOCK_STEPS)
