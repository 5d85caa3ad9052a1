"""Arrays kept on the disk and mapped into memory: data larger than the memory, and starts without decoding."""

import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from salt.runs.files import locked, write_json

log = logging.getLogger(__name__)

Array = NDArray[np.uint8]
Shapes = Mapping[str, tuple[int, ...]]  # of the arrays, by name
Allocate = Callable[[str, tuple[int, ...]], Array]  # an array to be filled, by its name and shape

BLOCK = 2**20  # bytes written at once
BUILD_SECONDS = 3600.0  # to wait for another process that builds the same cache


def in_memory(_: str, shape: tuple[int, ...]) -> Array:
    """An array that is not kept."""
    return np.empty(shape, dtype=np.uint8)


def cached_arrays(
    folder: Path, source: str, shapes: Shapes, make: Callable[[Allocate], dict[str, Array]]
) -> dict[str, Array]:
    """The arrays that `make` fills, from `folder` if it holds those of the same `source`, else made and kept there.

    `source` says from which files the arrays come, and changes when they do. The arrays' own SHA-256 is compared.

    Raises:
        ValueError: the folder cannot be made, or is read-only and does not hold these arrays; another process has been
            building the cache for too long; or what `make` raises.
        OSError: the disk is full or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"data.cache: {folder} cannot be used as a folder: {error.strerror}") from None
    if not os.access(folder, os.W_OK):  # such as data attached to a notebook: it never changes, so no lock is needed
        found = find(folder, source, shapes)
        if found is None:
            raise ValueError(f"data.cache: {folder} is read-only and does not hold these tiles")
        return found
    with locked(folder, "cache", wait=BUILD_SECONDS):
        found = find(folder, source, shapes)
        if found is not None:
            return found
        (folder / "cache.json").unlink(missing_ok=True)  # invalidate first, so that a partial cache is never used

        def allocate(name: str, shape: tuple[int, ...]) -> Array:
            return allocate_file(folder / f"{name}.npy", shape)

        arrays = make(allocate)
        digests = {name: hashlib.sha256(array.data).hexdigest() for name, array in arrays.items()}
        write_json(folder / "cache.json", {"source": source, "sha256": digests})
        log.info("%s: decoded tiles are kept here and mapped into memory", folder)
        return arrays


def find(folder: Path, source: str, shapes: Shapes) -> dict[str, Array] | None:
    """The arrays in a folder, or None if they are of other files or damaged."""
    try:
        record = json.loads((folder / "cache.json").read_text(encoding="utf-8"))
        if record["source"] != source:
            log.info("%s: the files have changed since they were decoded", folder)
            return None
        # "c": copies of what is written stay in this process, so that nothing can change the files
        arrays = {name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="c")) for name in shapes}
        damaged = [
            name
            for name, array in arrays.items()
            if array.dtype != np.uint8
            or array.shape != shapes[name]
            or hashlib.sha256(array.data).hexdigest() != record["sha256"][name]
        ]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        damaged = [str(error)]
    if damaged:
        log.warning("%s is damaged (%s)", folder, ", ".join(damaged))
        return None
    return arrays


def allocate_file(path: Path, shape: tuple[int, ...]) -> Array:
    """A new mapped file; its space is taken at once, since a full disk could not be reported later."""
    try:
        path.unlink(missing_ok=True)  # a process that has the old file mapped keeps it
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        with path.open("rb+") as file:
            reserve(file, path.stat().st_size)
    except OSError as error:
        size = math.prod(shape)
        raise OSError(f"data.cache: {path} cannot be written, it is to hold {size} bytes: {error.strerror}") from None
    return np.asarray(array)


def reserve(file: BinaryIO, size: int) -> None:
    """Take the disk space of a file that has its size already but not yet its content.

    Raises:
        OSError: the disk is full.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:  # macOS: what is written takes its space too
        for start in range(0, size, BLOCK):
            block = file.read(BLOCK)
            file.seek(start)
            file.write(block)
        file.flush()
