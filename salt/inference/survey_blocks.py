"""Blocks of consecutive lines: read as tiles for the networks, their probabilities kept in a file for each.

A block's file is there when the block is done, and only then. So processes on any machines may share the folder, die
and do a block twice.
"""

import resource
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from salt.config import Data
from salt.data.amplitudes import Grey, Range, Scaling, find_outlier, find_range, remarks
from salt.data.tiles import Tiles
from salt.inference.predict import Prediction
from salt.runs.files import remove_left, write_atomic
from salt.survey.geometry import Direction, Survey
from salt.survey.read import read_block, read_traces

MOST_LINES, MOST_VOXELS = 16, 1 << 22  # of a block, which has at least one line
SAMPLED, MOST_SAMPLED = 16, 1 << 22  # lines spread over the survey, and voxels, that give the range of amplitudes
BLOCK_STEPS, BLOCK_TYPE = 65535, np.dtype("<u2")  # 1 in the files of blocks, which hold 16 bits for each voxel
OTHER_FILES = 256  # that a process may open besides those of blocks


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
    """The files of blocks, which hold the probability and, with `spread`, its deviation, in 65535ths.

    A file is an array (C, inlines, crosslines, samples) without a header. Its name has a key of what its bytes depend
    on: blocks that were made in another way, whose record is gone, are none of these. Without a key no block is done.
    """

    folder: Path
    survey: Survey
    spread: bool
    key: str

    def path(self, block: LineBlock) -> Path:
        """Return the file of a block."""
        return self.folder / f"{block.direction}_{block.first:06d}-{block.last:06d}_{self.key}.bin"

    def size(self, block: LineBlock) -> int:
        """Return the bytes of a block."""
        n_traces = self.survey.places(block.direction).shape[1]
        return 2 * (1 + self.spread) * block.n_lines * n_traces * self.survey.n_samples

    def has(self, block: LineBlock) -> bool:
        """Return whether a block is done."""
        try:
            return self.key != "" and self.path(block).stat().st_size == self.size(block)
        except OSError:
            return False

    def write(self, block: LineBlock, prediction: Prediction) -> None:
        """Write the prediction (lines, samples, traces) of a block, atomically."""
        parts = [part for part in prediction if part is not None]
        values = np.empty((len(parts), *np.array(parts[0].shape)[[0, 2, 1]]), BLOCK_TYPE)
        for into, part in zip(values, parts, strict=True):
            for line, image in zip(into, part, strict=True):
                line[:] = np.rint(image * np.float32(BLOCK_STEPS)).T
        if block.direction == "crossline":
            values = np.ascontiguousarray(values.swapaxes(1, 2))
        write_atomic(self.path(block), lambda temporary: temporary.write_bytes(values.data), clean=False)

    def clear(self) -> None:
        """Delete all blocks, and the folder unless another process still writes in it."""
        if self.folder.is_dir():
            remove_left(self.folder)
            for path in self.folder.glob("*.bin"):
                path.unlink(missing_ok=True)
            with suppress(OSError):  # whoever writes there clears it when it ends
                self.folder.rmdir()


class BlockReader(ExitStack):
    """The values of inlines from all blocks of one direction, each of which is opened once: a crossline block has all.

    Of more blocks than a process may keep open, the rest are opened each time.
    """

    def __init__(self, scratch: Scratch, blocks: Sequence[LineBlock]) -> None:
        super().__init__()
        self.scratch, self.blocks = scratch, blocks
        self.most = allow_open(len(blocks)) if blocks[0].direction == "crossline" else 0
        self.files: dict[LineBlock, BinaryIO] = {}

    def read(self, inlines: LineBlock) -> NDArray[np.float32]:
        """Return the values (C, inlines, crosslines, samples) of a block of inlines."""
        survey = self.scratch.survey
        across = self.blocks[0].direction == "crossline"
        values = np.empty(
            (1 + self.scratch.spread, inlines.n_lines, len(survey.crosslines), survey.n_samples), np.float32
        )
        for block in self.blocks if across else [inlines]:
            place = values[:, :, block.first : block.last] if across else values
            first = inlines.first if across else 0
            with self.opened(block) as file:
                for channel, into in enumerate(place):
                    into[:] = self.rows(file, block, channel, first, into.shape)
        values /= np.float32(BLOCK_STEPS)
        return values

    def rows(self, file: BinaryIO, block: LineBlock, channel: int, first: int, shape: tuple[int, ...]) -> NDArray[Any]:
        """Read inlines (shape) of a block from the one that is `first` in its file."""
        n = self.scratch.size(block) // (1 + self.scratch.spread)
        row = BLOCK_TYPE.itemsize * shape[1] * shape[2]
        file.seek(channel * n + first * row)
        content = file.read(shape[0] * row)
        if len(content) < shape[0] * row:
            raise OSError(f"{file.name} has changed while the results were written; the same command repairs it")
        return np.frombuffer(content, BLOCK_TYPE).reshape(shape)

    @contextmanager
    def opened(self, block: LineBlock) -> Iterator[BinaryIO]:
        """Open a block, unless it is open."""
        if block in self.files:
            yield self.files[block]
        elif len(self.files) < self.most:
            self.files[block] = self.enter_context(self.scratch.path(block).open("rb", buffering=0))
            yield self.files[block]
        else:
            with self.scratch.path(block).open("rb", buffering=0) as file:
                yield file


def allow_open(n: int) -> int:
    """Let this process keep up to `n` more files open than it does, and return how many it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = n + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(OSError, ValueError):  # macOS allows fewer than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return n if soft == resource.RLIM_INFINITY else max(min(n, soft - OTHER_FILES), 0)
