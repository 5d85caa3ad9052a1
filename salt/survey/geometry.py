"""The geometry of a 3-D survey: which trace of a SEG-Y file lies at which inline and crossline."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from salt.survey.layout import HeaderNumbers, Layout, find_layout, header_numbers, naming, read_interval
from salt.survey.line_numbers import (
    DELAY,
    WordPair,
    check_bytes,
    check_pair,
    find_numbered,
    find_pair,
    pairs_from,
    read_words,
)
from salt.words import plural

Direction = Literal["inline", "crossline"]
DIRECTIONS: tuple[Direction, Direction] = ("inline", "crossline")
SCALAR = 71  # where this word of two bytes begins in a trace header
COORDINATES = ((181, 185), (73, 77))  # x and y: of the CDP; of the source, where traces before revision 1 have them

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Survey:
    """A 3-D survey in a SEG-Y file: traces at the places of a grid, some of which may be empty."""

    layout: Layout
    words: WordPair  # bytes where inline and crossline begin in a trace header
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

    @cached_property
    def coordinate_words(self) -> WordPair:
        """The bytes where x and y begin: the first pair that is not 0 in all traces of the file."""
        layout = self.layout
        for pair in COORDINATES:
            if any(header_numbers(t, layout.order, byte).any() for _, t in layout.windows() for byte in pair):
                return pair
        return COORDINATES[0]

    def coordinates(self, traces: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Read x and y (N each) of the traces of these numbers (N), scaled as their headers say."""
        wanted, at = np.unique(traces, return_inverse=True)
        numbers = self.layout.numbers({SCALAR: "i2"} | dict.fromkeys(self.coordinate_words, "i4"), wanted)
        scale = numbers[SCALAR].astype(np.float64)
        x, y = (
            np.where(scale < 0, numbers[byte] / np.maximum(-scale, 1), numbers[byte] * np.maximum(scale, 1))
            for byte in self.coordinate_words
        )
        return x[at], y[at]


def open_survey(
    path: Path, inline_byte: int | None = None, crossline_byte: int | None = None, likely: WordPair | None = None
) -> Survey:
    """Read the geometry of a survey from its trace headers; of the file, only their words are kept in memory.

    If the bytes are not named, the `likely` ones are tried before the usual ones.

    Raises:
        ValueError: the file is no sound SEG-Y, its geometry cannot be derived, or it holds gathers before the stack.
    """
    named = check_bytes(inline_byte, crossline_byte)
    if named:
        layout = read_layout(path)
        numbers = read_words(layout, (named,))
        return place_traces(layout, numbers, check_pair(path, numbers, named))
    survey = open_volume(path, likely)
    if survey is None:
        tried = ", ".join(f"{first}/{second}" for first, second in pairs_from(likely))
        raise ValueError(
            f"{path}: geometry cannot be derived: tried inline/crossline in bytes {tried}; "
            "name them by data.inline_byte and data.crossline_byte"
        )
    return survey


def open_volume(path: Path, likely: WordPair | None = None) -> Survey | None:
    """Read the geometry of a survey from the usual words; return None if they make it none: it may be a 2-D line.

    Raises:
        ValueError: the file is no sound SEG-Y, or holds gathers before the stack.
    """
    layout = read_layout(path)
    found = find_pair(layout, likely)
    return None if found is None else place_traces(layout, *found)


def place_traces(layout: Layout, numbers: dict[int, HeaderNumbers], pair: WordPair) -> Survey:
    """Return the survey whose line numbers two words of the trace headers hold; warn of what is odd."""
    path, numbered = layout.path, find_numbered(numbers, pair)
    inlines, crosslines = (np.unique(numbers[byte][numbered]) for byte in pair)
    places = np.searchsorted(inlines, numbers[pair[0]][numbered])
    places *= len(crosslines)
    places += np.searchsorted(crosslines, numbers[pair[1]][numbered])
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


def is_volume(path: Path, likely: WordPair | None = None) -> bool:
    """Return whether the usual words of a file's trace headers make it a 3-D survey; if not, it may be a 2-D line.

    Raises:
        ValueError: the file is no sound SEG-Y, or holds gathers before the stack.
    """
    return find_pair(read_layout(path), likely) is not None


def first_at(places: NDArray[np.int64], traces: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return which of the traces (N, ascending) lies at each of n places, the first of several; -1 if none does."""
    trace_of = np.full(n, -1)
    trace_of[places[::-1]] = traces[::-1]  # of several numbers for a place the last one stays
    return trace_of


def read_layout(path: Path) -> Layout:
    """Find the layout of a file; raise ValueError that names the file if it is no sound SEG-Y."""
    with naming(path):
        return find_layout(path)
