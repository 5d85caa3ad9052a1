"""The geometry of a 3-D survey: which trace of a SEG-Y file lies at which inline and crossline."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from salt.survey.layout import TRACE_HEADER, HeaderNumbers, Layout, find_layout, naming, read_interval
from salt.survey.line import CDP, OFFSET, STACK, count_different, count_gathers, fill_grid
from salt.words import plural

Direction = Literal["inline", "crossline"]
DIRECTIONS: tuple[Direction, Direction] = ("inline", "crossline")
CHANNEL = 13
PAIRS = (  # bytes of the trace header where inline and crossline begin in files of the usual kinds
    (189, 193),  # since revision 1
    (9, CDP),  # before it
    (5, CDP),
    (17, CDP),
    (221, CDP),
    (17, CHANNEL),  # shots and their channels if their offsets differ
    (9, CHANNEL),
)
SCALAR, DELAY = 71, 109  # where these words of two bytes begin in a trace header
COORDINATES = ((181, 185), (73, 77))  # x and y: of the CDP; of the source, where traces before revision 1 have them
LAST_WORD = TRACE_HEADER - 3  # where a last word of four bytes begins
SHARED = 0.1  # of the traces, at least, lie at the place of another one if a file holds gathers
MOST_PLACES = 100  # for each trace, in the grid that named words span

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Survey:
    """A 3-D survey in a SEG-Y file: traces at the places of a grid, some of which may be empty."""

    layout: Layout
    words: tuple[int, int]  # bytes where inline and crossline begin in a trace header
    inlines: NDArray[np.int64]  # (I), ascending
    crosslines: NDArray[np.int64]  # (X), ascending
    trace_of: NDArray[np.int64]  # (I X): the number in the file of the trace at a place; -1 if there is none
    duplicates: NDArray[np.int64]  # (D), ascending: the traces whose place an earlier trace has
    duplicate_places: NDArray[np.int64]  # (D): where they lie, counted along trace_of.ravel()
    interval: float | None  # between samples, in ms, or in m if the survey is in depth; None if no header tells
    start: float  # of the first sample, in the same unit; of most traces
    kept: NDArray[np.int64] | None = None  # of a part of a survey: the ascending numbers of its traces in the file

    @property
    def path(self) -> Path:
        """Return the file."""
        return self.layout.path

    @property
    def n_samples(self) -> int:
        """Return the number of samples of a trace."""
        return self.layout.n_samples

    def lines(self, direction: Direction) -> NDArray[np.int64]:
        """Return the ascending line numbers of a direction."""
        return self.inlines if direction == "inline" else self.crosslines

    def places(self, direction: Direction) -> NDArray[np.int64]:
        """Return the trace at each place, as (lines of this direction, lines of the other one)."""
        return self.trace_of if direction == "inline" else self.trace_of.T

    def coordinates(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Read x and y (N each) of all traces in the file's order, scaled as their headers say."""
        numbers = self.layout.numbers({SCALAR: "i2"} | {byte: "i4" for pair in COORDINATES for byte in pair})
        scale = numbers[SCALAR].astype(np.float64)
        used = next((pair for pair in COORDINATES if any(numbers[byte].any() for byte in pair)), COORDINATES[0])
        x, y = (
            np.where(scale < 0, numbers[byte] / np.maximum(-scale, 1), numbers[byte] * np.maximum(scale, 1))
            for byte in used
        )
        return x, y


def open_survey(path: Path, inline_byte: int | None = None, crossline_byte: int | None = None) -> Survey:
    """Read the geometry of a survey from its trace headers; of the file, only their words are kept in memory.

    Raises:
        ValueError: the file is no sound SEG-Y, its geometry cannot be derived, or it holds gathers before the stack.
    """
    named = check_bytes(inline_byte, crossline_byte)
    layout = read_layout(path)
    numbers = read_words(layout, (named,) if named else PAIRS)
    pair = check_pair(path, numbers, named) if named else find_pair(path, numbers)
    if pair is None:
        tried = ", ".join(f"{first}/{second}" for first, second in PAIRS)
        raise ValueError(
            f"{path}: geometry cannot be derived: tried inline/crossline in bytes {tried}; "
            "name them by data.inline_byte and data.crossline_byte"
        )
    return place_traces(layout, numbers, pair)


def open_volume(path: Path) -> Survey | None:
    """Read the geometry of a survey from the usual words; return None if they make it none: it may be a 2-D line.

    Raises:
        ValueError: the file is no sound SEG-Y, or holds gathers before the stack.
    """
    layout = read_layout(path)
    numbers = read_words(layout, PAIRS)
    pair = find_pair(path, numbers)
    return None if pair is None else place_traces(layout, numbers, pair)


def place_traces(layout: Layout, numbers: dict[int, HeaderNumbers], pair: tuple[int, int]) -> Survey:
    """Return the survey whose line numbers two words of the trace headers hold; warn of what is odd."""
    path, numbered = layout.path, find_numbered(numbers, pair)
    inlines, rows = np.unique(numbers[pair[0]][numbered], return_inverse=True)
    crosslines, columns = np.unique(numbers[pair[1]][numbered], return_inverse=True)
    places = rows * len(crosslines) + columns
    trace_of = first_at(places, numbered, len(inlines) * len(crosslines))
    second = trace_of[places] != numbered
    if n_unnumbered := layout.n_traces - len(numbered):
        log.warning("%s: %s without line numbers; they are left out", path, plural(n_unnumbered, "trace"))
    if second.any():
        shared = plural(int(second.sum()), "trace")
        log.warning("%s: %s at a place that an earlier trace has; the first one of a place counts", path, shared)
    delays, counts = np.unique(numbers[DELAY], return_counts=True)
    if len(delays) > 1:
        log.warning(
            "%s: the traces start at different times (bytes %d), %d to %d ms; Salt takes them as starting together",
            *(path, DELAY, delays[0], delays[-1]),
        )
    return Survey(
        layout=layout,
        words=pair,
        inlines=inlines.astype(np.int64),
        crosslines=crosslines.astype(np.int64),
        trace_of=trace_of.reshape(len(inlines), len(crosslines)),
        duplicates=numbered[second],
        duplicate_places=places[second],
        interval=read_interval(layout),
        start=float(delays[counts.argmax()]),
    )


def cut_survey(survey: Survey, lines: Mapping[Direction, tuple[int, int]]) -> Survey:
    """Return the part of a survey between two line numbers, both included, of one direction or of each.

    Raises:
        ValueError: one of them is no line number of the survey, or no trace lies between them.
    """
    if not lines:
        return survey
    spans = []
    for direction in DIRECTIONS:
        known = survey.lines(direction)
        first, last = lines.get(direction, (int(known[0]), int(known[-1])))
        for number in (first, last):
            if number not in known:
                found = describe_lines(known)
                raise ValueError(f"{survey.path} has no {direction} {number}: its {direction}s are {found}")
        spans.append(slice(*np.searchsorted(known, [first, last + 1]).tolist()))
    trace_of = np.ascontiguousarray(survey.trace_of[tuple(spans)])
    if not (trace_of >= 0).any():
        raise ValueError(f"{survey.path} has no trace between these lines")
    places = np.full(survey.trace_of.shape, -1)
    places[tuple(spans)] = np.arange(trace_of.size).reshape(trace_of.shape)
    duplicate_places = places.ravel()[survey.duplicate_places]
    duplicates = survey.duplicates[duplicate_places >= 0]
    return replace(
        survey,
        inlines=survey.inlines[spans[0]],
        crosslines=survey.crosslines[spans[1]],
        trace_of=trace_of,
        duplicates=duplicates,
        duplicate_places=duplicate_places[duplicate_places >= 0],
        kept=np.sort(np.concatenate([trace_of[trace_of >= 0], duplicates])),
    )


def describe_lines(lines: NDArray[np.int64]) -> str:
    """Return the range of ascending line numbers in words."""
    steps = np.unique(np.diff(lines))
    step = "" if len(steps) == 1 and steps[0] == 1 else f" in steps of {steps[0]}" if len(steps) == 1 else " with gaps"
    return f"{lines[0]} to {lines[-1]}{step}"


def is_volume(path: Path) -> bool:
    """Return whether the usual words of a file's trace headers make it a 3-D survey; if not, it may be a 2-D line.

    Raises:
        ValueError: the file is no sound SEG-Y, or holds gathers before the stack.
    """
    return find_pair(path, read_words(read_layout(path), PAIRS)) is not None


def first_at(places: NDArray[np.int64], traces: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return which of the traces (N, ascending) lies at each of n places, the first of several; -1 if none does."""
    trace_of = np.full(n, -1)
    taken, first = np.unique(places, return_index=True)
    trace_of[taken] = traces[first]
    return trace_of


def check_bytes(inline_byte: int | None, crossline_byte: int | None) -> tuple[int, int] | None:
    """Return the named bytes of inline and crossline, None if they are not named."""
    if inline_byte is None and crossline_byte is None:
        return None
    if inline_byte is None or crossline_byte is None:
        raise ValueError("data.inline_byte and data.crossline_byte: name both, or none")
    for key, byte in (("data.inline_byte", inline_byte), ("data.crossline_byte", crossline_byte)):
        if not 1 <= byte <= LAST_WORD:
            raise ValueError(f"{key}={byte}: expected where a word begins in a trace header, 1 to {LAST_WORD}")
    return inline_byte, crossline_byte


def read_layout(path: Path) -> Layout:
    """Find the layout of a file; raise ValueError that names the file if it is no sound SEG-Y."""
    with naming(path):
        return find_layout(path)


def read_words(layout: Layout, pairs: tuple[tuple[int, int], ...]) -> dict[int, HeaderNumbers]:
    """Read all words of the trace headers that tell the geometry, in one pass through the file."""
    usual = {DELAY: "i2"} | dict.fromkeys((OFFSET, CDP), "i4")
    return layout.numbers(usual | {byte: "i4" for pair in pairs for byte in pair})


def find_pair(path: Path, numbers: dict[int, HeaderNumbers]) -> tuple[int, int] | None:
    """Return the first usual pair of bytes whose numbers place the traces on a grid; None if there is none.

    Raises:
        ValueError: the traces are gathers, of a survey or a line.
    """
    offsets = numbers[OFFSET]
    for pair in PAIRS:
        if pair[1] == CHANNEL and count_different(offsets) > 1:
            continue
        numbered = find_numbered(numbers, pair)
        if fill_grid(*(numbers[byte][numbered] for byte in (*pair, OFFSET))):
            check_stacked(path, numbers, pair)
            log.info("%s: inlines are in bytes %d, crosslines in bytes %d of the trace headers", path, *pair)
            return pair
        if pair == PAIRS[0] and count_gathers(numbers[CDP], offsets):  # only revision 1 can tell otherwise
            cdps, counts = np.unique(numbers[CDP], return_counts=True)
            raise ValueError(gathers_at(path, f"CDP {cdps[counts.argmax()]}", counts.max()))
    return None


def find_numbered(numbers: dict[int, HeaderNumbers], pair: tuple[int, int]) -> NDArray[np.int64]:
    """Return the traces that have line numbers: all, unless several others pad the file and have zeros there."""
    numbered = np.flatnonzero((numbers[pair[0]] != 0) | (numbers[pair[1]] != 0))
    n_traces = len(numbers[pair[0]])
    return numbered if n_traces < 2 * len(numbered) < 2 * (n_traces - 1) else np.arange(n_traces)


def check_pair(path: Path, numbers: dict[int, HeaderNumbers], pair: tuple[int, int]) -> tuple[int, int]:
    """Return a named pair of bytes if its numbers can be those of a survey.

    Raises:
        ValueError: there are not two numbers of each, or they span a grid too large for memory, or are gathers.
    """
    numbered = find_numbered(numbers, pair)
    n_inlines, n_crosslines = (count_different(numbers[byte][numbered]) for byte in pair)
    n_traces = len(numbered)
    if min(n_inlines, n_crosslines) < 2 or n_inlines * n_crosslines > MOST_PLACES * n_traces:
        inlines, crosslines = (plural(n, "different number") for n in (n_inlines, n_crosslines))
        raise ValueError(
            f"{path}: geometry cannot be derived from data.inline_byte={pair[0]} ({inlines}) and "
            f"data.crossline_byte={pair[1]} ({crosslines}): {plural(n_traces, 'trace')} make no grid of them"
        )
    check_stacked(path, numbers, pair)
    return pair


def check_stacked(path: Path, numbers: dict[int, HeaderNumbers], pair: tuple[int, int]) -> None:
    """Raise ValueError if most traces share a place, or many do and differ by their offsets."""
    numbered = find_numbered(numbers, pair)
    first, second, offsets = (numbers[byte][numbered] for byte in (*pair, OFFSET))
    if (n_places := count_different(first, second)) == len(first):
        return
    shared, by_offset = (n - n_places for n in (len(first), count_different(first, second, offsets)))
    if shared < n_places and (shared < SHARED * len(first) or 2 * by_offset < shared):
        return
    places, counts = np.unique(np.stack((first, second)), axis=1, return_counts=True)
    inline, crossline = places[:, counts.argmax()]
    raise ValueError(gathers_at(path, f"inline {inline}, crossline {crossline}", counts.max()))


def gathers_at(path: Path, place: str, n: int) -> str:
    """Return what is wrong with a file that has `n` traces at a place."""
    return f"{path}: {place} has {n} traces, as gathers have, expected one: {STACK}"
