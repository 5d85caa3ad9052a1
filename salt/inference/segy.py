"""SEG-Y files of one line: their traces as an image, and an image in the place of their samples.

Byte numbers count from 1, as in the standard: SEG Technical Standards Committee, SEG-Y revision 1 (2002) and 2 (2017).
Headers are often wrong in one place, so a layout must explain the size of the file and every trace.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salt.runs.files import write_atomic

SEGY_SUFFIXES = (".sgy", ".segy")
CONVERTED = 1000  # traces converted at once
HEADERS, TRACE_HEADER = 3600, 240  # bytes: the text and the binary header; the header of a trace
STANZA = 3200  # bytes of an extended text header, or of data after the traces
END_TEXT = "((SEG: EndText))"
IBM_FLOAT, IEEE_FLOAT = 1, 5
TYPES = {1: "u4", 2: "i4", 3: "i2", 5: "f4", 6: "f8", 8: "i1", 9: "i8", 10: "u4", 11: "u2", 12: "u8", 16: "u1"}
CODES = "1 (IBM float), 2, 3, 8, 9 (integers), 5, 6 (IEEE floats), or 10, 11, 12, 16 (unsigned integers)"
N_SAMPLES, CDP, OFFSET = 115, 21, 37  # where these numbers begin in a trace header
SURVEY, SHOTS = "3-D survey", "set of shots"
GRIDS = (  # two numbers that give the place of a trace if they fill a grid, and the bytes where they begin
    (SURVEY, "inlines", 189, "crosslines", 193),
    (SURVEY, "field records", 9, "CDPs", CDP),  # before revision 1
    (SHOTS, "field records", 9, "channels", 13),
)
REMEDY = {
    SURVEY: "cut it into lines, such as with segyio: file.iline[number], and save each as NPY",
    SHOTS: "stack them first",
}
MORE_THAN_A_PATH = 1.3  # times as many places as a path through the grid has

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Layout:
    """Where the traces of a file lie, and how their samples are stored."""

    order: str  # "<" or ">", as in NumPy's types
    code: int  # of the sample format, a key of TYPES
    start: int  # bytes before the first trace
    n_samples: int  # of each trace
    n_traces: int

    def traces(self, content: Bytes) -> NDArray[Any]:
        """Return a view of all traces, with the fields header (240 bytes) and samples."""
        kind = trace_type(self.order, self.code, self.n_samples)
        return content[self.start : self.start + self.n_traces * kind.itemsize].view(kind)


def read_line(path: Path) -> NDArray[np.floating[Any]]:
    """Return the amplitudes (samples, traces) of a 2-D line as 32-bit floats, or 64-bit ones if they need them.

    Raises:
        ValueError: the file is no sound SEG-Y, or not one line.
        OSError: it cannot be read.
    """
    content = map_bytes(path)
    layout = find_layout(content)
    traces = layout.traces(content)
    check_line(traces, layout.order)
    samples: NDArray[Any] = traces["samples"]
    if layout.code != IBM_FLOAT:
        return samples.astype(np.result_type(samples.dtype, np.float32)).T
    parts = np.array_split(samples, math.ceil(len(samples) / CONVERTED))
    amplitudes = np.concatenate([from_ibm(part) for part in parts])
    fits = np.abs(amplitudes).max() <= np.finfo(np.float32).max
    return (amplitudes.astype(np.float32) if fits else amplitudes).T


def write_like(path: Path, to: Path, image: NDArray[Any]) -> None:
    """Write the file `path` with an image (samples, traces) as 32-bit floats instead of its samples.

    The format code changes too. All other bytes stay: text, binary and trace headers, and what follows the traces.
    """
    content = map_bytes(path)
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


def map_bytes(path: Path) -> Bytes:
    """Map the bytes of a file, which stay on the disk until they are used."""
    return np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)


def from_ibm(numbers: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Convert IBM's floats: a sign, 7 bits of a power of 16 and 24 bits of a fraction."""
    power = 4 * ((numbers >> 24 & 0x7F).astype(np.int32) - 64) - 24
    values = np.ldexp((numbers & 0xFFFFFF).astype(np.float64), power)
    return np.where(numbers >> 31, -values, values)


def check_line(traces: NDArray[Any], order: str) -> None:
    """Check by the places of the traces that they are one line.

    Raises:
        ValueError: they fill a grid, as those of a 3-D survey do, or are gathers before the stack.
    """
    cdps, offsets = header_numbers(traces, order, CDP), header_numbers(traces, order, OFFSET)
    n_cdps = count_different(cdps)
    if n_cdps > 1 and 2 * n_cdps <= len(cdps) and 4 * count_different(cdps, offsets) > 3 * len(cdps):
        raise ValueError(f"is a set of {n_cdps} gathers of several offsets, expected one line; {REMEDY[SHOTS]}")
    for kind, first, byte, second, other in GRIDS:
        numbers = header_numbers(traces, order, byte), header_numbers(traces, order, other)
        if fill_grid(*numbers, offsets):
            size = f"{count_different(numbers[0])} {first} and {count_different(numbers[1])} {second}"
            raise ValueError(f"is a {kind} of {size}, expected one line; {REMEDY[kind]}")


def fill_grid(first: NDArray[np.int64], second: NDArray[np.int64], offsets: NDArray[np.int64]) -> bool:
    """Return whether two numbers of each trace (N) fill most of the grid that they span.

    A line is a path through the grid, even if it is bent or the numbers mean something else. Numbers that put most
    traces at one place with one offset more than once are no sign of a survey either.
    """
    n_first, n_second, n_places = count_different(first), count_different(second), count_different(first, second)
    return (
        min(n_first, n_second) > 1
        and 2 * n_places > n_first * n_second
        and n_places >= MORE_THAN_A_PATH * (n_first + n_second - 1)
        and 2 * count_different(first, second, offsets) > len(first)
    )


def count_different(*numbers: NDArray[np.int64]) -> int:
    """Count the different numbers, or tuples of numbers."""
    rows = np.stack(numbers)[:, np.lexsort(numbers)]
    return 1 + int((rows[:, 1:] != rows[:, :-1]).any(axis=0).sum())


def trace_type(order: str, code: int, n_samples: int) -> np.dtype[Any]:
    """Return the type of one trace."""
    return np.dtype([("header", "u1", TRACE_HEADER), ("samples", order + TYPES[code], n_samples)])


def header_numbers(traces: NDArray[Any], order: str, byte: int, kind: str = "i4") -> NDArray[np.int64]:
    """Return the number (N) that starts at a byte of each trace header."""
    last = byte - 1 + np.dtype(kind).itemsize
    return np.ascontiguousarray(traces["header"][:, byte - 1 : last]).view(order + kind)[:, 0].astype(np.int64)


def number_at(content: Bytes, order: str, byte: int, kind: str = "H") -> int:
    """Return the number that starts at a byte of the file; `kind` is a code of the module struct."""
    return int(struct.unpack_from(order + kind, content.data, byte - 1)[0])


def find_layout(content: Bytes) -> Layout:
    """Return the layout that explains the whole content of a file.

    Raises:
        ValueError: no layout does; the message says what contradicts what.
    """
    if len(content) < HEADERS:
        raise ValueError(f"has {len(content)} bytes, fewer than the {HEADERS} of SEG-Y's headers")
    order = next((order for order in "><" if number_at(content, order, 3225) in TYPES), None)
    if order is None:
        code = number_at(content, ">", 3225, "h")
        raise ValueError(
            f"has the sample format code {code} in bytes 3225-3226, expected {CODES}, in either byte order"
        )
    code = number_at(content, order, 3225)
    size = np.dtype(TYPES[code]).itemsize
    # revision 2 may declare data after the traces
    declared = STANZA * max(number_at(content, order, 3529, "i"), 0) if revision(content) == 2 else 0
    end = len(content) - declared
    guesses = [(start, n) for start in starts(content, order) for n in lengths(content, order, start)]
    for start, n in guesses:
        n_traces, rest = divmod(end - start, TRACE_HEADER + n * size)
        layout = Layout(order, code, start, n, n_traces)
        if n_traces > 0 and not rest and agrees(layout, content):
            return layout
    if end <= (start := next(starts(content, order))):
        raise ValueError(f"has headers, but no traces: it ends at byte {end}")
    if not guesses:
        raise ValueError("says that a trace has 0 samples, in the binary header and in the first trace header")
    start, n = guesses[0]
    n_traces, rest = divmod(end - start, TRACE_HEADER + n * size)
    if not rest:
        raise ValueError(f"says that a trace has {n} samples in the binary header, other numbers in the trace headers")
    numbers = " or ".join(str(n) for begin, n in guesses if begin == start)
    raise ValueError(
        f"ends with {rest} bytes more than {n_traces} traces of {n} samples (its headers say {numbers}): "
        "it is truncated, has traces of several lengths, or something follows the last trace; if so, "
        f"head -c {end - rest} FILE > NEW keeps the whole traces"
    )


def revision(content: Bytes) -> int:
    """Return the major revision of the standard; little-endian files write its two bytes in either order."""
    return int(content[3500:3502].max())


def starts(content: Bytes, order: str) -> Iterator[int]:
    """Yield where the first trace may begin: as revision 2 says, after the extended text headers, or without any."""
    if revision(content) == 2 and (declared := number_at(content, order, 3521, "Q")):
        yield declared
    number = number_at(content, order, 3505, "h")
    if number > 0:
        yield HEADERS + STANZA * number
    elif number == -1:  # as many as there are
        for begin in range(HEADERS, len(content) - STANZA + 1, STANZA):
            text = content[begin : begin + 100].tobytes()
            if any(END_TEXT.encode(code) in text for code in ("ascii", "cp037")):
                yield begin + STANZA
                break
    yield HEADERS  # before revision 1 the number means nothing


def lengths(content: Bytes, order: str, start: int) -> Iterator[int]:
    """Yield how many samples a trace may have, as the binary header and the first trace header say."""
    known = [number_at(content, order, 3269, "I")] if revision(content) == 2 else []
    known.append(number_at(content, order, 3221))
    if start + TRACE_HEADER <= len(content):
        known.append(number_at(content, order, start + N_SAMPLES))
    yield from (n for n in dict.fromkeys(known) if n)


def agrees(layout: Layout, content: Bytes) -> bool:
    """Return whether all trace headers that give a number of samples give the same.

    It may differ from the real one, as in files that were cut without a change of the headers: if all are the same, the
    traces begin where the layout says.
    """
    counts = np.unique(header_numbers(layout.traces(content), layout.order, N_SAMPLES, "u2"))
    return len(counts) == 1 or set(counts.tolist()) <= {0, layout.n_samples}
