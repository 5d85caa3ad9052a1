"""N images as one array, in memory and on the disk, even if their sizes differ."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salt.runs.files import BROKEN, write_atomic

Size = tuple[int, int]  # height and width in pixels
Stack = NDArray[Any]  # (N H W); if sizes differ an array (N) of arrays (H W), which is indexed in the same way


def empty_stack(sizes: Sequence[Size], dtype: Any) -> Stack:
    """Return N images of these sizes without content, in one block of memory if all sizes are the same."""
    if len(set(sizes)) == 1:
        return np.empty((len(sizes), *sizes[0]), dtype=dtype)
    return as_stack([np.empty(size, dtype=dtype) for size in sizes])


def as_stack(images: Sequence[NDArray[Any]]) -> Stack:
    """Return the images as one array."""
    if len({image.shape for image in images}) == 1:
        return np.stack(images)
    stack = np.empty(len(images), dtype=object)
    for i, image in enumerate(images):
        stack[i] = image
    return stack


def sizes_of(stack: Stack) -> list[Size]:
    """Return height and width of each image."""
    return [image.shape for image in stack]


def as_float16(stack: Stack) -> Stack:
    """Return the images in half precision."""
    if stack.dtype != object:
        return stack.astype(np.float16)
    return as_stack([image.astype(np.float16) for image in stack])


def set_to_zero(stack: Stack, which: NDArray[np.bool_]) -> None:
    """Set the images at the positions that are true (N) to zero."""
    for i in np.flatnonzero(which):
        stack[i][:] = 0


def save_stack(path: Path, ids: NDArray[np.str_], **stacks: Stack) -> None:
    """Write images with their ids as a compressed .npz, atomically and without pickles.

    If sizes differ, the pixels of all images follow each other, and `sizes` (N 2) holds the size of each.
    """

    def write(temporary: Path) -> None:  # only in the main process: the others have no images
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
    """Return ids and probabilities of `save_stack`; raise OSError if unreadable, ValueError if missing or damaged."""
    if not file.is_file():
        raise ValueError(f"{file} is missing")
    content = io.BytesIO(file.read_bytes())
    try:
        with np.load(content) as arrays:
            ids, stack = arrays["ids"].tolist(), np.asarray(arrays["probabilities"])
            sizes = [tuple(size) for size in arrays["sizes"].tolist()] if "sizes" in arrays else None
        if sizes is None:
            return ids, stack
        ends = np.cumsum([math.prod(size) for size in sizes])
        if len(ids) != len(sizes) or stack.size != ends[-1]:
            raise ValueError("its sizes do not fit its pixels")
    except (KeyError, *BROKEN) as error:
        raise ValueError(f"{file} is damaged: {error}") from None
    parts = np.split(stack, ends[:-1])
    return ids, as_stack([part.reshape(size) for part, size in zip(parts, sizes, strict=True)])
