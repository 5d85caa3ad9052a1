"""Where the bytes of a SEG-Y file lie: headers, traces, and the format of their samples.

Byte numbers count from 1, as in the standard: SEG Technical Standards Committee, SEG-Y revision 1 (2002) and 2 (2017).
Headers are often wrong in one place, so a layout must explain the size of the file and every trace.

NumPy reads the samples, not segyio: whatever finds the layout (byte order, headers that contradict each other,
revision 2) needs the bytes, and then the samples are a view of them. The tests compare with segyio.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEADERS, TRACE_HEADER = 3600, 240  # bytes: the text and the binary header; the header of a trace
STANZA = 3200  # bytes of an extended text header, or of data after the traces
END_TEXT = "((SEG: EndText))"
IBM_FLOAT, IEEE_FLOAT, INT8 = 1, 5, 8
TYPES = {1: "u4", 2: "i4", 3: "i2", 5: "f4", 6: "f8", 8: "i1", 9: "i8", 10: "u4", 11: "u2", 12: "u8", 16: "u1"}
CODES = "1 (IBM float), 2, 3, 8, 9 (integers), 5, 6 (IEEE floats), or 10, 11, 12, 16 (unsigned integers)"
N_SAMPLES = 115  # the byte where it begins in a trace header
INTERVAL, BINARY_INTERVAL = 117, 3217  # where the sample interval begins in a trace header; in the file
WINDOW = 1 << 25  # bytes that are mapped at once
LONGEST_HEAD = 1 << 27  # bytes; more than the most extended text headers take

Bytes = NDArray[np.uint8]
HeaderNumbers = NDArray[np.int32]


@dataclass(frozen=True)
class Layout:
    """Where the traces of a file lie, and how their samples are stored."""

    path: Path
    order: str  # "<" or ">", as in NumPy's types
    code: int  # of the sample format, a key of TYPES
    start: int  # bytes before the first trace
    n_samples: int  # of each trace
    n_traces: int

    @property
    def end(self) -> int:
        """Return the number of bytes before what follows the traces."""
        return self.start + self.n_traces * trace_type(self.order, self.code, self.n_samples).itemsize

    @property
    def window(self) -> int:
        """Return how many traces are mapped at once."""
        return max(1, WINDOW // trace_type(self.order, self.code, self.n_samples).itemsize)

    def traces(self, first: int = 0, last: int | None = None) -> NDArray[Any]:
        """Map the traces from `first` to before `last` (all), with the fields header (240 bytes) and samples."""
        kind = trace_type(self.order, self.code, self.n_samples)
        n = (self.n_traces if last is None else min(last, self.n_traces)) - first
        return np.asarray(np.memmap(self.path, kind, "r", self.start + first * kind.itemsize, n))

    def windows(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield the number of the first trace and the traces of one window after the other.

        Each is unmapped when the next one comes: neither the memory nor the address space grows with the file.
        """
        for first in range(0, self.n_traces, self.window):
            yield first, self.traces(first, first + self.window)

    def some(self, wanted: NDArray[np.int64]) -> Iterator[tuple[slice, NDArray[Any], NDArray[np.int64]]]:
        """Yield which of the wanted traces (N, ascending) lie in one window, the window, and their places in it."""
        begin = 0
        while begin < len(wanted):
            first = int(wanted[begin])
            end = int(np.searchsorted(wanted, first + self.window))
            yield slice(begin, end), self.traces(first, int(wanted[end - 1]) + 1), wanted[begin:end] - first
            begin = end

    def numbers(self, words: dict[int, str], wanted: NDArray[np.int64] | None = None) -> dict[int, HeaderNumbers]:
        """Return the numbers (N) that start at these bytes of trace headers; `words` has their types (`i4`).

        They are those of all traces, or of the wanted ones (N, ascending).
        """
        found = {byte: np.empty(self.n_traces if wanted is None else len(wanted), np.int32) for byte in words}
        whole = ((slice(first, first + len(traces)), traces, slice(None)) for first, traces in self.windows())
        for part, traces, rows in whole if wanted is None else self.some(wanted):
            for byte, kind in words.items():
                found[byte][part] = header_numbers(traces, self.order, byte, kind, rows)
        return found


def map_head(path: Path) -> Bytes:
    """Map the first bytes of a file, up to LONGEST_HEAD."""
    size = min(path.stat().st_size, LONGEST_HEAD)
    return np.asarray(np.memmap(path, np.uint8, "r", shape=size)) if size else np.empty(0, np.uint8)


def from_ibm(numbers: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Convert IBM's floats: a sign, 7 bits of a power of 16 and 24 bits of a fraction."""
    power = 4 * ((numbers >> 24 & 0x7F).astype(np.int32) - 64) - 24
    values = np.ldexp((numbers & 0xFFFFFF).astype(np.float64), power)
    return np.where(numbers >> 31, -values, values)


def trace_type(order: str, code: int, n_samples: int) -> np.dtype[Any]:
    """Return the type of one trace."""
    return np.dtype([("header", "u1", TRACE_HEADER), ("samples", order + TYPES[code], n_samples)])


def header_numbers(
    traces: NDArray[Any], order: str, byte: int, kind: str = "i4", rows: slice | NDArray[np.int64] = slice(None)
) -> NDArray[Any]:
    """Return the number (N) that starts at a byte of the header of each trace, or of these rows of them."""
    last = byte - 1 + np.dtype(kind).itemsize
    return np.ascontiguousarray(traces["header"][rows, byte - 1 : last]).view(order + kind)[:, 0]


def number_at(content: Bytes, order: str, byte: int, kind: str = "H") -> int:
    """Return the number that starts at a byte of the file; `kind` is a code of the module struct."""
    return int(struct.unpack_from(order + kind, content.data, byte - 1)[0])


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Within this context, raise a ValueError that names the file if it cannot be read or is no sound SEG-Y."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None


def find_layout(path: Path) -> Layout:
    """Return the layout that explains the whole content of a file.

    Raises:
        ValueError: no layout does; the message says what contradicts what, and does not name the file.
        OSError: it cannot be read.
    """
    content = map_head(path)
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
    end = path.stat().st_size - declared
    guesses = [(start, n) for start in starts(content, order) for n in lengths(content, order, start)]
    for start, n in guesses:
        n_traces, rest = divmod(end - start, TRACE_HEADER + n * size)
        layout = Layout(path, order, code, start, n, n_traces)
        if n_traces > 0 and not rest and agrees(layout):
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


def agrees(layout: Layout) -> bool:
    """Return whether all trace headers that give a number of samples give the same.

    It may differ from the real one, as in files that were cut without a change of the headers: if all are the same, the
    traces begin where the layout says.
    """
    counts = np.unique(layout.numbers({N_SAMPLES: "u2"})[N_SAMPLES])
    return len(counts) == 1 or set(counts.tolist()) <= {0, layout.n_samples}


def read_interval(layout: Layout) -> float | None:
    """Return the sample interval in ms, or m: of the binary header, else of the first trace header."""
    head: NDArray[Any] = np.fromfile(layout.path, np.uint8, layout.start)
    first = header_numbers(layout.traces(0, 1), layout.order, INTERVAL, "u2")[0]
    return (number_at(head, layout.order, BINARY_INTERVAL) or int(first)) / 1000 or None
