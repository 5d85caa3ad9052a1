"""Arrays on disk, mapped into memory: for data larger than the memory, and for quick starts without decoding."""

import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salt.runs.files import locked, write_json

log = logging.getLogger(__name__)

Array = NDArray[np.uint8]
Shapes = Mapping[str, tuple[int, ...]]  # of the arrays, by name
Allocate = Callable[[str, tuple[int, ...]], Array]  # returns an array to fill, by its name and shape

BUILD_SECONDS = 3600.0  # to wait for another process that builds the same cache


def cached_arrays(
    folder: Path, source: str, shapes: Shapes, make: Callable[[Allocate], dict[str, Array]]
) -> dict[str, Array]:
    """Return the arrays that `make` fills, from `folder` if it has those of `source`; raise ValueError or OSError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"data.cache: {folder} cannot be used as a folder: {error.strerror}") from None
    if not os.access(folder, os.W_OK):  # such as data attached to a notebook: it never changes and needs no lock
        found = read_cache(folder, source, shapes)
        if found is None:
            raise ValueError(f"data.cache: {folder} is read-only and does not hold these tiles")
        return found
    with locked(folder, "cache", wait=BUILD_SECONDS):
        found = read_cache(folder, source, shapes)
        if found is not None:
            return found
        (folder / "cache.json").unlink(missing_ok=True)  # first, so that a partial cache is never used
        arrays = make(lambda name, shape: allocate_file(folder / f"{name}.npy", shape))
        digests = {name: hashlib.sha256(array.data).hexdigest() for name, array in arrays.items()}
        write_json(folder / "cache.json", {"source": source, "sha256": digests})
        log.info("%s: decoded tiles are cached here", folder)
        return arrays


def read_cache(folder: Path, source: str, shapes: Shapes) -> dict[str, Array] | None:
    """Return the arrays in a folder, or None if they come from other files or are damaged."""
    try:
        record = json.loads((folder / "cache.json").read_text(encoding="utf-8"))
        if record["source"] != source:
            log.info("%s: the files have changed since they were decoded", folder)
            return None
        # "c": writes stay in this process and never reach the files
        arrays = {name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="c")) for name in shapes}
        damaged = []
        for name, array in arrays.items():
            right = array.dtype == np.uint8 and array.shape == shapes[name]
            if not right or hashlib.sha256(array.data).hexdigest() != record["sha256"][name]:
                damaged.append(name)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        damaged = [str(error)]
    if damaged:
        log.warning("%s is damaged (%s)", folder, ", ".join(damaged))
        return None
    return arrays


def allocate_file(path: Path, shape: tuple[int, ...]) -> Array:
    """Return a new mapped file with its disk space reserved, since later a full disk would kill the process."""
    try:
        path.unlink(missing_ok=True)  # a process that has mapped the old file keeps it
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        if hasattr(os, "posix_fallocate"):  # not on macOS
            with path.open("rb+") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        needs = f"it needs {math.prod(shape)} bytes"
        raise OSError(f"data.cache: {path} cannot be written; {needs}: {error.strerror}") from None
    return np.asarray(array)
