"""Kaggle's run-length encoding: 1-indexed, column-major, "start length" pairs in ascending order."""

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

CHUNK = 256  # masks at a time: their edges stay in the cache
IN_TABLE = 2**18  # pixels; for larger masks a table of all numbers would take longer than it saves


class RunLengthError(ValueError):
    """An invalid run-length string: its `row` in the batch and the `reason`."""

    def __init__(self, row: int, reason: str):
        super().__init__(f"row {row}: {reason}")
        self.row, self.reason = row, reason


def encode(mask: NDArray[np.generic]) -> str:
    """Encode one mask (H W, non-zero is salt) as Kaggle's run-length string; an empty mask gives ""."""
    return encode_all(mask[None])[0]


def decode(rle: str, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode a run-length string to a mask of `shape` (H W) with values 0 and 1.

    Raises:
        ValueError: a token is no number, a pair is incomplete, or a run is empty, out of bounds or out of order.
    """
    try:
        return decode_all([rle], shape)[0]
    except RunLengthError as error:
        raise ValueError(error.reason) from None


def encode_all(masks: NDArray[np.generic]) -> list[str]:
    """Encode masks (N H W, or N arrays of several sizes; non-zero is salt) as N run-length strings."""
    if masks.dtype == object:
        return [encode(mask) for mask in masks]
    return [text for i in range(0, len(masks), CHUNK) for text in encode_chunk(masks[i : i + CHUNK] != 0)]


def decode_all(rles: Sequence[str], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode N run-length strings to masks (N H W, `shape` is H W) with values 0 and 1.

    Raises:
        RunLengthError: a string is invalid (see `decode`).
    """
    masks = np.empty((len(rles), *shape), dtype=np.uint8)
    for i in range(0, len(rles), CHUNK):
        masks[i : i + CHUNK] = decode_chunk(rles[i : i + CHUNK], shape, first_row=i)
    return masks


def decode_sizes(rles: Sequence[str], sizes: Sequence[tuple[int, int]]) -> Iterable[NDArray[np.uint8]]:
    """Decode N run-length strings to masks (H W) of N sizes; raise RunLengthError as `decode_all`."""
    if len(set(sizes)) == 1:
        return decode_all(rles, sizes[0])
    return [decode_chunk([text], size, row)[0] for row, (text, size) in enumerate(zip(rles, sizes, strict=True))]


def decode_chunk(rles: Sequence[str], shape: tuple[int, int], first_row: int) -> NDArray[np.uint8]:
    """Decode run-length strings to masks (N H W); errors count rows from `first_row`."""
    try:
        return paint_runs(*parse_runs(rles, shape[0] * shape[1]), len(rles), shape)
    except RunLengthError as error:
        raise RunLengthError(first_row + error.row, error.reason) from None


def encode_chunk(salt: NDArray[np.bool_]) -> list[str]:
    """Encode masks (N H W): find pixels that differ from the one before, and sort them into column-major order."""
    n, height, width = salt.shape
    size = height * width
    edge = np.empty_like(salt)
    np.not_equal(salt[:, 1:], salt[:, :-1], out=edge[:, 1:])
    np.not_equal(salt[:, 0, 1:], salt[:, -1, :-1], out=edge[:, 0, 1:])  # a run continues at the next column's top
    edge[:, 0, 0] = salt[:, 0, 0]

    at = np.flatnonzero(edge)
    tile, pixel = at // size, at % size
    closing = np.flatnonzero(salt[:, -1, -1]) * (size + 1) + size  # runs that end at the last pixel
    edges = np.sort(np.append(tile * (size + 1) + pixel % width * height + pixel // width, closing))
    starts, ends = edges[::2], edges[1::2]
    numbers = np.stack([starts % (size + 1) + 1, ends - starts], axis=1).ravel()
    texts = numbers_as_text(size + 1)[numbers].tolist() if size < IN_TABLE else [str(i) for i in numbers.tolist()]
    stops = 2 * np.searchsorted(starts, np.arange(n + 1) * (size + 1))
    return [" ".join(texts[a:b]) for a, b in zip(stops[:-1].tolist(), stops[1:].tolist(), strict=True)]


@lru_cache(maxsize=2)
def numbers_as_text(n: int) -> NDArray[np.object_]:
    """Return the numbers 0 ... n-1 as text; looking one up is three times as fast as `str`."""
    return np.array([str(i) for i in range(n)], dtype=object)


def parse_runs(rles: Sequence[str], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return row, first pixel and the pixel after the last (each R, from 0, column-major) of the runs in N strings."""
    numbers, counts = parse_numbers(rles)
    if (counts % 2).any():
        row = int((counts % 2).argmax())
        raise RunLengthError(row, f"run-length string has a start without a length: {rles[row][:60]!r}")
    starts, lengths = numbers.reshape(-1, 2).T
    ends = starts + np.minimum(lengths, size + 1) - 1  # cut, so that the sum cannot overflow
    rows = np.repeat(np.arange(len(rles)), counts // 2)
    before = np.append(0, ends)[:-1] * (rows == np.append(-1, rows)[:-1])  # end of the row's previous run
    outside = (starts < 1) | (lengths < 1) | (starts > size) | (ends > size)
    wrong = outside | (starts <= before)
    if wrong.any():
        i = int(wrong.argmax())
        run = f"run '{starts[i]} {lengths[i]}'"
        place = f"is outside 1..{size}" if outside[i] else f"does not come after the run that ends at {before[i]}"
        raise RunLengthError(int(rows[i]), f"{run} {place}")
    return rows, starts - 1, ends


def parse_numbers(rles: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return all numbers in N strings, and how many each has (N); raise RunLengthError if a token is no number."""
    if " ".join(rles).encode().translate(None, b"0123456789 "):  # tabs are allowed
        rles = [" ".join(rle.split()) for rle in rles]
        for row, rle in enumerate(rles):
            if not all(token.isascii() and token.isdigit() for token in rle.split()):
                raise RunLengthError(row, f"run-length string has a token that is no positive number: {rle[:60]!r}")
    numbers = np.fromstring(" ".join(rles), dtype=np.int64, sep=" ")
    counts = np.array([rle.count(" ") + 1 if rle else 0 for rle in rles])
    if counts.sum() > len(numbers):  # double spaces, or spaces at an end
        counts = np.array([len(rle.split()) for rle in rles])
    return numbers[: counts.sum()], counts  # NumPy reads one 0 from blank text


def paint_runs(
    rows: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64], n: int, shape: tuple[int, int]
) -> NDArray[np.uint8]:
    """Paint runs into n masks (N H W): mark where salt starts and ends, then xor down all columns at once."""
    height, width = shape
    marks = np.zeros((height, n, width + 1), dtype=np.uint8)  # an extra column for the end of the last run
    columns = [rows * (width + 1) + at // height for at in (starts, ends)]
    for column, at in zip(columns, (starts, ends), strict=True):
        marks.reshape(-1)[at % height * (n * (width + 1)) + column] ^= 1
    continued = np.bincount(np.concatenate(columns), minlength=n * (width + 1)).cumsum() % 2  # at the next column's top
    marks[0].reshape(-1)[1:] ^= continued[:-1].astype(np.uint8)
    for y in range(1, height):
        marks[y] ^= marks[y - 1]
    return marks[:, :, :width].transpose(1, 0, 2)
