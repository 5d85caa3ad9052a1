"""Kaggle's run-length encoding: 1-indexed, column-major, "start length" pairs in ascending order."""

import numpy as np
from numpy.typing import NDArray


def encode(mask: NDArray[np.generic]) -> str:
    """Encode one mask (H W, non-zero is salt) as Kaggle's run-length string; an empty mask gives ""."""
    flat = np.concatenate([[0], (mask != 0).ravel(order="F").astype(np.int8), [0]])
    starts, ends = np.flatnonzero(np.diff(flat) == 1), np.flatnonzero(np.diff(flat) == -1)
    pairs = np.stack([starts + 1, ends - starts], axis=1)
    return " ".join(map(str, pairs.ravel().tolist()))


def decode(rle: str, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode a run-length string to a mask of `shape` (H W) with values 0 and 1.

    Raises:
        ValueError: a token is no number, a pair is incomplete, a run is empty, out of bounds, or not
            after the end of the run before it.
    """
    tokens = rle.split()
    if not all(token.isascii() and token.isdigit() for token in tokens):
        raise ValueError(f"run-length string has a token that is no positive number: {rle[:60]!r}")
    if len(tokens) % 2:
        raise ValueError(f"run-length string has a start without a length: {rle[:60]!r}")
    pairs = [int(token) for token in tokens]
    flat = np.zeros(shape[0] * shape[1], dtype=np.uint8)
    end = 0
    for start, length in zip(pairs[::2], pairs[1::2], strict=True):
        if length < 1 or start < 1 or start + length - 1 > flat.size:
            raise ValueError(f"run '{start} {length}' is outside 1..{flat.size}")
        if start <= end:
            raise ValueError(f"run '{start} {length}' does not come after the run that ends at {end}")
        end = start + length - 1
        flat[start - 1 : end] = 1
    return flat.reshape(shape, order="F")
