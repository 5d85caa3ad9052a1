"""SEG-Y files of one line: their traces as an image, and an image in the place of their samples."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salt.inference.segy_layout import IBM_FLOAT, IEEE_FLOAT, Bytes, find_layout, trace_type, words
from salt.runs.files import write_atomic

SUFFIXES = (".sgy", ".segy")
BLOCK = 1000  # traces converted at once
CDP, OFFSET = 21, 37  # where these numbers begin in a trace header
SURVEY, SHOTS = "3-D survey", "set of shots"
GRIDS = (  # two numbers that name the place of a trace where they fill a grid, and the bytes where they begin
    (SURVEY, "inlines", 189, "crosslines", 193),
    (SURVEY, "field records", 9, "CDPs", CDP),  # before revision 1
    (SHOTS, "field records", 9, "channels", 13),
)
REMEDY = {
    SURVEY: "cut it into lines, such as with segyio: file.iline[number], and save each as NPY",
    SHOTS: "stack them first",
}
MORE_THAN_A_PATH = 1.3  # times as many places as a path through the grid has


def read(path: Path) -> NDArray[np.floating[Any]]:
    """Return the amplitudes (samples, traces) of a 2-D line as 32-bit floats, or 64-bit where 32 do not hold them.

    Raises:
        ValueError: it is no sound SEG-Y file, or not one line.
        OSError: it cannot be read.
    """
    content = load(path)
    layout = find_layout(content)
    traces = layout.traces(content)
    check_line(traces, layout.order)
    samples = traces["samples"]
    kind = np.float64 if layout.code == IBM_FLOAT else np.result_type(samples.dtype, np.float32)
    amplitudes = np.empty(samples.shape, kind)
    for start in range(0, len(samples), BLOCK):
        block = samples[start : start + BLOCK]
        amplitudes[start : start + BLOCK] = from_ibm(block) if layout.code == IBM_FLOAT else block
    if layout.code == IBM_FLOAT and np.abs(amplitudes).max() <= np.finfo(np.float32).max:
        amplitudes = amplitudes.astype(np.float32)
    return amplitudes.T


def load(path: Path) -> Bytes:
    """Return the bytes of a file, which stay on the disk until they are used."""
    return np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)


def from_ibm(numbers: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Return the values of IBM's floats: a sign, 7 bits of a power of 16 and 24 bits of a fraction."""
    power = 4 * ((numbers >> 24 & 0x7F).astype(np.int32) - 64) - 24
    values = np.ldexp((numbers & 0xFFFFFF).astype(np.float64), power)
    return np.where(numbers >> 31, -values, values)


def check_line(traces: NDArray[Any], order: str) -> None:
    """Check by the places of the traces that they are one line.

    Raises:
        ValueError: they fill a grid, as those of a 3-D survey do, or are gathers before the stack.
    """
    cdps, offsets = words(traces, order, CDP), words(traces, order, OFFSET)
    n_cdps = count(cdps)
    if n_cdps > 1 and 2 * n_cdps <= len(cdps) and 4 * count(cdps, offsets) > 3 * len(cdps):
        raise ValueError(f"is a set of {n_cdps} gathers of several offsets, expected one line; {REMEDY[SHOTS]}")
    for kind, first, byte, second, other in GRIDS:
        numbers = words(traces, order, byte), words(traces, order, other)
        if fill_grid(*numbers, offsets):
            size = f"{count(numbers[0])} {first} and {count(numbers[1])} {second}"
            raise ValueError(f"is a {kind} of {size}, expected one line; {REMEDY[kind]}")


def fill_grid(first: NDArray[np.int64], second: NDArray[np.int64], offsets: NDArray[np.int64]) -> bool:
    """Return whether two numbers of each trace (N) fill most of the grid that they span.

    A line is a path through the grid, also if it is bent, or the numbers are something else. That most traces are at
    one place more than once, with one offset, is no sign of a survey either.
    """
    n_first, n_second = count(first), count(second)
    n_places = count(first, second)
    return (
        min(n_first, n_second) > 1
        and 2 * n_places > n_first * n_second
        and n_places >= MORE_THAN_A_PATH * (n_first + n_second - 1)
        and 2 * count(first, second, offsets) > len(first)
    )


def count(*numbers: NDArray[np.int64]) -> int:
    """Return how many different numbers, or tuples of numbers, there are."""
    rows = np.stack(numbers)[:, np.lexsort(numbers)]
    return 1 + int((rows[:, 1:] != rows[:, :-1]).any(axis=0).sum())


def write_like(path: Path, to: Path, image: NDArray[Any]) -> None:
    """Write an image (samples, traces) as 32-bit floats in place of the samples of the file `path`.

    The format code changes too. All other bytes stay: text, binary and trace headers, and what follows the traces.
    """
    content = load(path)
    layout = find_layout(content)
    traces = layout.traces(content)
    changed = np.empty(len(traces), trace_type(layout.order, IEEE_FLOAT, layout.n_samples))
    changed["header"] = traces["header"]
    changed["samples"] = image.T
    before, after = content[: layout.start].copy(), content[layout.start + traces.nbytes :]
    before[3224:3226] = np.array([IEEE_FLOAT], layout.order + "u2").view(np.uint8)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            for part in (before, changed, after):
                part.tofile(file)

    write_atomic(to, write)
