"""How a SEG-Y file is laid out: byte order, sample format, and where its traces lie.

Byte numbers count from 1, as in the standard: SEG Technical Standards Committee, SEG-Y revision 1 (2002) and 2 (2017).
Headers are often wrong in one place, so a layout is believed only if it explains the size of the file and every trace.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEADERS, TRACE_HEADER = 3600, 240  # bytes: the text and the binary header; the header of a trace
STANZA = 3200  # bytes of an extended text header, or of data behind the traces
IBM_FLOAT, IEEE_FLOAT = 1, 5
TYPES = {1: "u4", 2: "i4", 3: "i2", 5: "f4", 6: "f8", 8: "i1", 9: "i8", 10: "u4", 11: "u2", 12: "u8", 16: "u1"}
NAMES = "1 (IBM float), 2, 3, 8, 9 (integers), 5, 6 (IEEE floats), or 10, 11, 12, 16 (unsigned integers)"
END_TEXT = "((SEG: EndText))"
SHIFTED = 1 << 16  # times a small number is what that number becomes if the two halves of its four bytes are swapped

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


def trace_type(order: str, code: int, n_samples: int) -> np.dtype[Any]:
    """Return the type of one trace."""
    return np.dtype([("header", "u1", TRACE_HEADER), ("samples", order + TYPES[code], n_samples)])


def words(traces: NDArray[Any], order: str, byte: int, kind: str = "i4") -> NDArray[np.int64]:
    """Return the number that starts at a byte of each trace header, as (N)."""
    last = byte - 1 + np.dtype(kind).itemsize
    return np.ascontiguousarray(traces["header"][:, byte - 1 : last]).view(order + kind)[:, 0].astype(np.int64)


def word(content: Bytes, order: str, byte: int, kind: str = "H") -> int:
    """Return the number that starts at a byte of the file, of one of the kinds of the module struct."""
    return int(struct.unpack_from(order + kind, content.data, byte - 1)[0])


def find_layout(content: Bytes) -> Layout:
    """Return the layout that explains the whole content of a file.

    Raises:
        ValueError: there is none; the message says what contradicts what.
    """
    if len(content) < HEADERS:
        raise ValueError(f"has {len(content)} bytes, fewer than the {HEADERS} of SEG-Y's headers")
    order, code = sample_format(content)
    size = np.dtype(TYPES[code]).itemsize
    end = len(content) - trailer(content, order)
    guesses = [(start, n) for start in starts(content, order) for n in lengths(content, order, start)]
    for start, n in guesses:
        n_traces, rest = divmod(end - start, TRACE_HEADER + n * size)
        layout = Layout(order, code, start, n, n_traces)
        if n_traces > 0 and not rest and agrees(layout, content):
            check_words(layout, content)
            return layout
    raise ValueError(find_fault(content[:end], order, size, guesses))


def sample_format(content: Bytes) -> tuple[str, int]:
    """Return the byte order, which the code of the sample format reveals, and that code.

    Raises:
        ValueError: the code is unknown in both byte orders.
    """
    for order in (">", "<"):
        if (code := word(content, order, 3225)) in TYPES:
            return order, code
    raise ValueError(
        f"has the sample format code {word(content, '>', 3225, 'h')} in bytes 3225-3226, expected {NAMES}, in either "
        "byte order"
    )


def revision(content: Bytes) -> int:
    """Return the major revision of the standard; little-endian files write its two bytes in either order."""
    return int(content[3500:3502].max())


def trailer(content: Bytes, order: str) -> int:
    """Return how many bytes behind the traces a file declares; revision 2 alone can."""
    return STANZA * max(word(content, order, 3529, "i"), 0) if revision(content) == 2 else 0


def starts(content: Bytes, order: str) -> Iterator[int]:
    """Yield where the first trace may begin: as revision 2 says, after the extended text headers, or without any."""
    if revision(content) == 2 and (declared := word(content, order, 3521, "Q")):
        yield declared
    number = word(content, order, 3505, "h")
    if number > 0:
        yield HEADERS + STANZA * number
    elif number == -1:  # as many as there are
        for begin in range(HEADERS, len(content) - STANZA + 1, STANZA):
            text = content[begin : begin + 100].tobytes()
            if any(END_TEXT.encode(code) in text for code in ("ascii", "cp037")):
                yield begin + STANZA
                break
    yield HEADERS  # before revision 1 the word means nothing


def lengths(content: Bytes, order: str, start: int) -> Iterator[int]:
    """Yield how many samples a trace may have: as the binary header and as the first trace header say."""
    known = [word(content, order, 3269, "I")] if revision(content) == 2 else []
    known.append(word(content, order, 3221))
    if start + TRACE_HEADER <= len(content):
        known.append(word(content, order, start + 115))
    yield from (n for n in dict.fromkeys(known) if n)


def agrees(layout: Layout, content: Bytes) -> bool:
    """Return whether the trace headers name one number of samples, where they name any.

    It may be another than the traces have, as in files that were cut without a change of these words: if the words are
    all the same, the traces begin where the layout says.
    """
    counts = np.unique(words(layout.traces(content), layout.order, 115, "u2"))
    return len(counts) == 1 or set(counts.tolist()) <= {0, layout.n_samples}


def check_words(layout: Layout, content: Bytes) -> None:
    """Refuse byte orders other than big and little, in which the format code looks like one of these.

    Raises:
        ValueError: the trace numbers show that the two halves of each four bytes are swapped.
    """
    numbers = words(layout.traces(content), layout.order, 1)
    if numbers.any() and not (numbers % SHIFTED).any():
        raise ValueError("has the halves of its four-byte words swapped, expected big- or little-endian words")


def find_fault(content: Bytes, order: str, size: int, guesses: list[tuple[int, int]]) -> str:
    """Return why no layout explains a file; `guesses` are the starts and numbers of samples that were tried."""
    start = next(starts(content, order))
    if len(content) <= start:
        return f"has headers, but no traces: it ends at byte {len(content)}"
    if not guesses:
        return "says that a trace has 0 samples, in the binary header (bytes 3221-3222) and in the first trace header"
    for start, _ in guesses:
        found = walk(content, order, size, start)
        if len(set(found)) > 1:
            return f"has traces of {min(found)} to {max(found)} samples, expected one length for all"
    start, n = guesses[0]
    others = [other for begin, other in guesses[1:] if begin == start]
    length = TRACE_HEADER + n * size
    n_traces, rest = divmod(len(content) - start, length)
    if not rest:
        counts = content[start:].reshape(n_traces, length)[:, 114:116].copy().view(order + "u2")
        low, high = counts.min(), counts.max()
        return f"says that a trace has {n} samples in the binary header, {low} to {high} in the trace headers"
    if others:
        first = word(content, order, start + 115)
        return (
            f"says that a trace has {n} samples in the binary header, {first} in the first trace; its size fits neither"
        )
    if not n_traces:
        return f"is truncated: its first trace has {n} samples, {len(content) - start} bytes are left for it"
    return (
        f"ends with {rest} bytes more than its {n_traces} traces of {n} samples: it is truncated, or something follows "
        f"the last trace; head -c {len(content) - rest} FILE > NEW keeps the whole traces"
    )


def walk(content: Bytes, order: str, size: int, start: int) -> list[int]:
    """Return the number of samples of each trace if the trace headers alone explain the file, else nothing."""
    found = []
    while start + TRACE_HEADER <= len(content):
        found.append(word(content, order, start + 115))
        start += TRACE_HEADER + found[-1] * size
    return found if start == len(content) else []
