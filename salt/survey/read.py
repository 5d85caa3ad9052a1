"""Amplitudes of a 3-D survey, by lines or blocks of lines, with NaN at places without a trace."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salt.survey.geometry import Direction, Survey, describe_lines, first_at, read_layout
from salt.survey.layout import IBM_FLOAT, Layout, from_ibm, header_numbers

KIND, DEAD = 29, 2  # where a trace header says what the trace is; a dead one
LARGEST = np.finfo(np.float32).max


def read_line_of(
    survey: Survey, direction: Direction, number: int, keep_zeros: bool = False
) -> NDArray[np.floating[Any]]:
    """Return the amplitudes (samples, traces) of one line; the other line number ascends from left to right.

    Places without a trace and dead traces are NaN, as in `read_block`. With `keep_zeros`, as in masks, a trace of zeros
    is dead only if its header says so.

    Raises:
        ValueError: the survey has no line of this number.
    """
    return read_traces(survey.layout, survey.places(direction)[row_of(survey, direction, number)], keep_zeros).T


def row_of(survey: Survey, direction: Direction, number: int) -> int:
    """Return which of the survey's lines has a number, from 0; raise ValueError if none has it."""
    found = np.flatnonzero(survey.lines(direction) == number)
    if not len(found):
        known = describe_lines(survey.lines(direction))
        raise ValueError(f"{survey.path} has no {direction} {number}: its {direction}s are {known}")
    return int(found[0])


def read_block(survey: Survey, first: int, last: int, direction: Direction = "inline") -> NDArray[np.floating[Any]]:
    """Return the amplitudes (lines, traces, samples) of consecutive lines, read in the file's order.

    `first` and `last` count the survey's lines from 0, as a slice does. The amplitudes are 32-bit floats, or 64-bit
    ones if they need their range. NaN means that there is no amplitude: no trace at this place, or a dead one, whose
    header says so or whose samples are all zero.
    """
    return read_traces(survey.layout, survey.places(direction)[first:last])


def read_traces(layout: Layout, wanted: NDArray[np.int64], keep_zeros: bool = False) -> NDArray[np.floating[Any]]:
    """Return the amplitudes (..., samples) of the traces of these numbers (...); -1 stands for no trace."""
    order = np.argsort(wanted, axis=None, kind="stable")
    numbers = wanted.ravel()[order]
    found: NDArray[np.floating[Any]] = np.full((wanted.size, layout.n_samples), np.nan, np.float32)
    there = int(np.searchsorted(numbers, 0))
    for part, traces, rows in layout.some(numbers[there:]):
        amplitudes = read_amplitudes_of(traces[rows], layout, keep_zeros)
        if found.dtype == np.float32 and not fit_32_bits(amplitudes):
            found = found.astype(np.float64)
        found[order[there:][part]] = amplitudes
    return found.reshape(*wanted.shape, layout.n_samples)


def read_amplitudes_of(traces: NDArray[Any], layout: Layout, keep_zeros: bool) -> NDArray[np.floating[Any]]:
    """Return the amplitudes (N samples) of traces; NaN if they are dead, see `read_line_of`."""
    samples = traces["samples"]
    amplitudes = from_ibm(samples) if layout.code == IBM_FLOAT else samples.astype(np.result_type(samples, np.float32))
    dead = header_numbers(traces, layout.order, KIND, "i2") == DEAD
    amplitudes[dead if keep_zeros else dead | ~amplitudes.any(axis=1)] = np.nan
    return amplitudes


def fit_32_bits(amplitudes: NDArray[np.floating[Any]]) -> bool:
    """Return whether 32-bit floats have the range of these numbers; infinity and NaN have a place there."""
    return amplitudes.dtype == np.float32 or not (np.isfinite(amplitudes) & (np.abs(amplitudes) > LARGEST)).any()


def places_of(path: Path, survey: Survey) -> tuple[Layout, NDArray[np.int64]]:
    """Return the layout of a file with traces at places of a survey, and which one lies at each place; -1 if none.

    The file may have a part of the survey's traces, even a single line; the first of several at a place counts. Padding
    is left out: traces whose line numbers are both 0, and those on lines that the survey lacks between its first and
    last one, if they are fewer than the others.

    Raises:
        ValueError: it has another number of samples, or other traces at no line of the survey. The message does not
            name the file.
    """
    layout = read_layout(path)
    numbers = layout.numbers(dict.fromkeys(survey.words, "i4"))
    rows, columns = (
        np.searchsorted(lines, numbers[word]).clip(0, len(lines) - 1)
        for lines, word in zip((survey.inlines, survey.crosslines), survey.words, strict=True)
    )
    inlines, crosslines = (numbers[word] for word in survey.words)
    found = (survey.inlines[rows] == inlines) & (survey.crosslines[columns] == crosslines)
    what = None if layout.n_samples == survey.n_samples else f"{layout.n_samples} samples, expected {survey.n_samples}"
    within = (survey.inlines[0] <= inlines) & (inlines <= survey.inlines[-1])
    within &= (survey.crosslines[0] <= crosslines) & (crosslines <= survey.crosslines[-1])
    odd = ~found & ((inlines != 0) | (crosslines != 0)) & ~(within & (2 * found.sum() > within.sum()))
    if odd.any():
        first = int(odd.argmax())
        place = f"inline {inlines[first]}, crossline {crosslines[first]}"
        what = f"trace {first + 1} at {place}, which the survey does not have"
    if what is not None:
        raise ValueError(f"has another geometry than {survey.path}: {what}")
    places = rows * len(survey.crosslines) + columns
    own = np.flatnonzero(found)
    return layout, first_at(places[own], own, survey.trace_of.size).reshape(survey.trace_of.shape)
