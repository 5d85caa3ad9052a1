"""N images as one array, in memory and on the disk, also where their sizes differ."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salt.runs.files import BROKEN, write_atomic

Size = tuple[int, int]  # height and width in pixels
Stack = NDArray[Any]  # (N H W); where sizes differ an array (N) of arrays (H W), which is indexed in the same way


def empty_stack(sizes: Sequence[Size], dtype: Any) -> Stack:
    """N images of these sizes, to be filled; where all sizes are the same in one block of memory."""
    if len(set(sizes)) == 1:
        return np.empty((len(sizes), *sizes[0]), dtype=dtype)
    return as_stack([np.empty(size, dtype=dtype) for size in sizes])


def as_stack(images: Sequence[NDArray[Any]]) -> Stack:
    """The images as one array."""
    if len({image.shape for image in images}) == 1:
        return np.stack(images)
    stack = np.empty(len(images), dtype=object)
    for i, image in enumerate(images):
        stack[i] = image
    return stack


def sizes_of(stack: Stack) -> list[Size]:
    """Height and width of each image."""
    return [image.shape for image in stack]


def halves(stack: Stack) -> Stack:
    """The same images in half precision."""
    if stack.dtype != object:
        return stack.astype(np.float16)
    return as_stack([image.astype(np.float16) for image in stack])


def set_to_zero(stack: Stack, which: NDArray[np.bool_]) -> None:
    """Set the images of these numbers (N) to zero."""
    for i in np.flatnonzero(which):
        stack[i][:] = 0


def save_stack(path: Path, ids: NDArray[np.str_], **stacks: Stack) -> None:
    """Write images with their ids as a compressed .npz, atomically and without pickles.

    Where sizes differ, the pixels of all images stand one after the other, and `sizes` (N 2) tells each one's.
    """

    def write(temporary: Path) -> None:
        arrays: dict[str, NDArray[Any]] = {"ids": ids}
        for name, stack in stacks.items():
            if stack.dtype == object:
                arrays["sizes"] = np.array(sizes_of(stack), dtype=np.int64)
                stack = np.concatenate([image.ravel() for image in stack])
            arrays[name] = stack
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    write_atomic(path, write)


def read_probabilities(file: Path) -> tuple[list[str], Stack]:
    """Return ids and probabilities from a file that `save_stack` wrote.

    Raises:
        ValueError: the file is missing or damaged.
    """
    try:
        return load_stack(file.read_bytes(), "probabilities")
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} is missing or damaged: {error}") from None


def load_stack(data: bytes, name: str) -> tuple[list[str], Stack]:
    """Ids and images from the content of a file of `save_stack`.

    Raises:
        ValueError: it is damaged.
    """
    try:
        with np.load(io.BytesIO(data)) as arrays:
            ids, stack = arrays["ids"].tolist(), np.asarray(arrays[name])
            sizes = [tuple(size) for size in arrays["sizes"].tolist()] if "sizes" in arrays else None
    except (KeyError, *BROKEN) as error:
        raise ValueError(str(error)) from None
    if sizes is None:
        return ids, stack
    ends = np.cumsum([math.prod(size) for size in sizes])
    if len(ids) != len(sizes) or stack.size != ends[-1]:
        raise ValueError("its sizes do not fit its pixels")
    parts = np.split(stack, ends[:-1])
    return ids, as_stack([part.reshape(size) for part, size in zip(parts, sizes, strict=True)])
