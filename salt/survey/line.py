"""SEG-Y files of one line: their traces as an image, and an image in the place of their samples."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from salt.runs.files import write_atomic
from salt.survey.layout import (
    IBM_FLOAT,
    IEEE_FLOAT,
    HeaderNumbers,
    Layout,
    find_layout,
    from_ibm,
    read_interval,
    trace_type,
)

SEGY_SUFFIXES = (".sgy", ".segy")
CONVERTED = 1000  # traces converted at once
CDP, OFFSET = 21, 37  # where these numbers begin in a trace header
NUMBERED = ((189, 193), (9, CDP))  # bytes of inline and crossline in files of one line: revision 1, before it
SURVEY, SHOTS = "3-D survey", "set of shots"
GRIDS = (  # two numbers that give the place of a trace if they fill a grid, and the bytes where they begin
    (SURVEY, "inlines", 189, "crosslines", 193),
    (SURVEY, "field records", 9, "CDPs", CDP),  # before revision 1
    (SHOTS, "field records", 9, "channels", 13),
)
STACK = "stack them first"
REMEDY = {
    SURVEY: "data=segy trains on the lines of a survey (docs/survey.md)",
    SHOTS: STACK,
}
FILLED = 1 / 3  # of the grid that the numbers of a survey span, at least; the rest are holes and an irregular edge
MORE_THAN_A_PATH = 1.3  # times as many places as a path through the grid has


def read_line(path: Path) -> NDArray[np.floating[Any]]:
    """Return the amplitudes (samples, traces) of a 2-D line as 32-bit floats, or 64-bit ones if they need them.

    Raises:
        ValueError: the file is no sound SEG-Y, or not one line.
        OSError: it cannot be read.
    """
    layout = find_layout(path)
    check_line(layout.numbers(dict.fromkeys((CDP, OFFSET, *(byte for grid in GRIDS for byte in grid[2::2])), "i4")))
    samples: NDArray[Any] = layout.traces()["samples"]
    if layout.code != IBM_FLOAT:
        return samples.astype(np.result_type(samples.dtype, np.float32)).T
    parts = np.array_split(samples, math.ceil(len(samples) / CONVERTED))
    amplitudes = np.concatenate([from_ibm(part) for part in parts])
    fits = np.abs(amplitudes).max() <= np.finfo(np.float32).max
    return (amplitudes.astype(np.float32) if fits else amplitudes).T


def numbers_of_line(path: Path) -> tuple[str, int, NDArray[np.int64]] | None:
    """Return which line of a survey a file is, by its headers, and the number of the other direction at each trace.

    That is: inline or crossline, its number, and the crosslines or inlines (traces). Return None if in no usual words
    one number, which is not 0, stands beside different ones.

    Raises:
        ValueError: the file is no sound SEG-Y.
        OSError: it cannot be read.
    """
    numbers = find_layout(path).numbers(dict.fromkeys((byte for pair in NUMBERED for byte in pair), "i4"))
    for inline, crossline in NUMBERED:
        for direction, own, other in (("inline", inline, crossline), ("crossline", crossline, inline)):
            first, others = int(numbers[own][0]), numbers[other]
            if first and (numbers[own] == first).all() and 2 * count_different(others) > len(others) > 1:
                return direction, first, others.astype(np.int64)
    return None


def sample_interval(path: Path) -> float | None:
    """Return the interval between the samples of a sound file, in ms, or m; None if no header states it."""
    return read_interval(find_layout(path))


def write_like(path: Path, to: Path, image: NDArray[Any]) -> None:
    """Write the file `path` with an image (samples, traces) as 32-bit floats instead of its samples.

    The format code changes too. All other bytes stay: text, binary and trace headers, and what follows the traces.
    """
    layout = find_layout(path)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            write_copy(layout, file, IEEE_FLOAT, lambda first, last: image[:, first:last].T)

    write_atomic(to, write)


def write_copy(
    layout: Layout,
    file: BinaryIO,
    code: int,
    samples: Callable[[int, int], NDArray[Any] | int],
    kept: NDArray[np.int64] | None = None,
) -> None:
    """Write the file of a layout with other samples of the format `code`; `samples(first, last)` has those of traces.

    Write all traces, or the ones of these ascending numbers, whose samples are then a number. The format code changes.
    All other bytes stay: text, binary and trace headers, and what follows the traces.
    Memory holds one window of the file at a time.
    """
    with layout.path.open("rb") as source:
        head = bytearray(source.read(layout.start))
        head[3224:3226] = np.array(code, layout.order + "u2").tobytes()
        file.write(head)
        for first, traces in layout.windows():
            if kept is not None:
                traces = traces[kept[slice(*np.searchsorted(kept, [first, first + len(traces)]))] - first]
            changed = np.empty(len(traces), trace_type(layout.order, code, layout.n_samples))
            changed["header"] = traces["header"]
            changed["samples"] = samples(first, first + len(traces))
            file.write(changed.data)
        source.seek(layout.end)
        shutil.copyfileobj(source, file)


def check_line(numbers: dict[int, HeaderNumbers]) -> None:
    """Check by the places of the traces that they are one line; `numbers` (N each) has the words of their headers.

    Raises:
        ValueError: they fill a grid, as those of a 3-D survey do, or are gathers before the stack.
    """
    offsets = numbers[OFFSET]
    if n_gathers := count_gathers(numbers[CDP], offsets):
        raise ValueError(f"is a set of {n_gathers} gathers of several offsets, expected one line; {STACK}")
    for kind, first, byte, second, other in GRIDS:
        if fill_grid(numbers[byte], numbers[other], offsets):
            size = f"{count_different(numbers[byte])} {first} and {count_different(numbers[other])} {second}"
            raise ValueError(f"is a {kind} of {size}, expected one line; {REMEDY[kind]}")


def count_gathers(cdps: HeaderNumbers, offsets: HeaderNumbers) -> int:
    """Return how many gathers of several offsets the traces (N) form; 0 if they are none."""
    n_cdps = count_different(cdps)
    are_gathers = n_cdps > 1 and 2 * n_cdps <= len(cdps) and 4 * count_different(cdps, offsets) > 3 * len(cdps)
    return n_cdps if are_gathers else 0


def fill_grid(first: HeaderNumbers, second: HeaderNumbers, offsets: HeaderNumbers) -> bool:
    """Return whether two numbers of each trace (N) fill a fair part of the grid that they span.

    A line is a path through the grid, even if it is bent or the numbers mean something else. Numbers that put most
    traces at one place with one offset more than once are no sign of a survey either.
    """
    n_first, n_second, n_places = count_different(first), count_different(second), count_different(first, second)
    return (
        min(n_first, n_second) > 1
        and n_places > FILLED * n_first * n_second
        and n_places >= MORE_THAN_A_PATH * (n_first + n_second - 1)
        and 2 * count_different(first, second, offsets) > len(first)
    )


def count_different(*numbers: NDArray[np.integer[Any]]) -> int:
    """Count the different numbers, or tuples of numbers."""
    order, changes = np.lexsort(numbers), np.zeros(len(numbers[0]) - 1, np.bool_)
    for column in numbers:
        ordered = column[order]
        changes |= ordered[1:] != ordered[:-1]
    return 1 + int(changes.sum())
