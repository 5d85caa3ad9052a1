"""Which words of the trace headers hold the line numbers of a 3-D survey."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salt.survey.layout import TRACE_HEADER, HeaderNumbers, Layout
from salt.survey.line import CDP, OFFSET, STACK, count_different, count_gathers, fill_grid
from salt.words import plural

WordPair = tuple[int, int]

DELAY = 109  # where this word of two bytes begins in a trace header
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
LAST_WORD = TRACE_HEADER - 3  # where a last word of four bytes begins
SHARED = 0.1  # of the traces, at least, lie at the place of another one if a file holds gathers
MOST_PLACES = 100  # for each trace, in the grid that named words span

log = logging.getLogger(__name__)


def check_bytes(inline_byte: int | None, crossline_byte: int | None) -> WordPair | None:
    """Return the named bytes of inline and crossline, None if they are not named."""
    if inline_byte is None and crossline_byte is None:
        return None
    if inline_byte is None or crossline_byte is None:
        raise ValueError("data.inline_byte and data.crossline_byte: name both, or none")
    for key, byte in (("data.inline_byte", inline_byte), ("data.crossline_byte", crossline_byte)):
        if not 1 <= byte <= LAST_WORD:
            raise ValueError(f"{key}={byte}: expected where a word begins in a trace header, 1 to {LAST_WORD}")
    return inline_byte, crossline_byte


def pairs_from(likely: WordPair | None) -> list[WordPair]:
    """Return the bytes of inline and crossline in the order in which they are tried."""
    return list(dict.fromkeys(([] if likely is None else [likely]) + list(PAIRS)))


def read_words(layout: Layout, pairs: Sequence[WordPair]) -> dict[int, HeaderNumbers]:
    """Read all words of the trace headers that tell the geometry, in one pass through the file."""
    usual = {DELAY: "i2"} | dict.fromkeys((OFFSET, CDP), "i4")
    return layout.numbers(usual | {byte: "i4" for pair in pairs for byte in pair})


def find_pair(layout: Layout, likely: WordPair | None) -> tuple[dict[int, HeaderNumbers], WordPair] | None:
    """Return the numbers of trace headers, and the first pair of bytes where they place the traces on a grid.

    Return None if there is none. The rarer pairs are read only if the first ones are none: memory holds few numbers.

    Raises:
        ValueError: the traces are gathers, of a survey or a line.
    """
    pairs = pairs_from(likely)
    usual = pairs.index(PAIRS[0]) + 1
    for some in (pairs[:usual], pairs[usual:]):
        if some:
            numbers = read_words(layout, some)
            if (pair := fitting_pair(layout.path, numbers, some)) is not None:
                return numbers, pair
    return None


def fitting_pair(path: Path, numbers: dict[int, HeaderNumbers], pairs: Sequence[WordPair]) -> WordPair | None:
    """Return the first of the pairs whose numbers place the traces on a grid; None if there is none."""
    offsets = numbers[OFFSET]
    for pair in pairs:
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


def find_numbered(numbers: dict[int, HeaderNumbers], pair: WordPair) -> NDArray[np.int64]:
    """Return the traces that have line numbers: all, unless several others pad the file and have zeros there."""
    numbered = np.flatnonzero((numbers[pair[0]] != 0) | (numbers[pair[1]] != 0))
    n_traces = len(numbers[pair[0]])
    return numbered if n_traces < 2 * len(numbered) < 2 * (n_traces - 1) else np.arange(n_traces)


def check_pair(path: Path, numbers: dict[int, HeaderNumbers], pair: WordPair) -> WordPair:
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


def check_stacked(path: Path, numbers: dict[int, HeaderNumbers], pair: WordPair) -> None:
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
