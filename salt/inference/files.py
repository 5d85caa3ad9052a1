"""Seismic images in files: read as amplitudes, and predictions written in the same format."""

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from salt.data import image
from salt.paths import id_of, is_utf8
from salt.runs.files import LONGER, write_atomic
from salt.survey.line import SEGY_SUFFIXES, read_line, sample_interval, write_like

OUTLINE = (0, 140, 255)  # orange, in OpenCV's order of colours
INPUT_SUFFIXES = (*image.EXTENSIONS, *SEGY_SUFFIXES)


def read_amplitudes(path: Path) -> NDArray[Any]:
    """Return the amplitudes (H W) of an image file or a 2-D SEG-Y line: samples down, traces to the right.

    Raises:
        ValueError: it cannot be read; the message does not name the file.
    """
    suffix = path.suffix.lower()
    if suffix not in INPUT_SUFFIXES:
        raise ValueError(f"has an unknown extension, expected one of {', '.join(INPUT_SUFFIXES)}")
    try:
        return read_line(path) if suffix in SEGY_SUFFIXES else image.decode(path.name, path.read_bytes(), smallest=1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None


def interval_in(path: Path) -> float | None:
    """Return the sample interval of a SEG-Y file that `read_amplitudes` reads, in ms; None if unknown, or an image."""
    return sample_interval(path) if path.suffix.lower() in SEGY_SUFFIXES else None


def result_paths(path: Path, folder: Path, spread: bool = False) -> dict[str, Path]:
    """Return where the results of a file are written: PNGs for a JPEG, else in its own format."""
    suffix = ".png" if path.suffix.lower() in (".jpg", ".jpeg") else path.suffix.lower()
    kinds = ["probability", "mask", *(["spread"] if spread else [])]
    paths = {kind: folder / f"{path.stem}_{kind}{suffix}" for kind in kinds}
    return paths | {"overlay": folder / f"{path.stem}_overlay.png"}


def check_result_names(path: Path, folder: Path) -> None:
    """Check that the results of a file can have its name.

    Raises:
        ValueError: the name cannot be written into a table, or is too long; the message does not name the file.
    """
    if not is_utf8(id_of(path)):
        raise ValueError("its name is not UTF-8; rename it")
    if "\r" in path.name:
        raise ValueError("its name holds a carriage return; rename it")
    length = max(len(os.fsencode(result.name)) for result in result_paths(path, folder).values()) + LONGER
    if length > (limit := os.pathconf(folder, "PC_NAME_MAX")):
        raise ValueError(f"its name is {length - limit} bytes too long for the names of the results; shorten it")


def write_prediction(
    path: Path,
    folder: Path,
    grey: NDArray[Any],
    p: NDArray[Any],
    mask: NDArray[Any],
    spread: NDArray[Any] | None = None,
) -> None:
    """Write probability `p`, mask, if given the spread and, last, overlay of the file `path`, each atomically."""
    results = result_paths(path, folder, spread is not None)
    floats = {"probability": p} | ({} if spread is None else {"spread": spread})
    suffix = results["mask"].suffix
    if suffix in SEGY_SUFFIXES:
        for kind, values in (floats | {"mask": mask.astype(np.float32)}).items():
            write_like(path, results[kind], values)
    else:
        for kind, values in floats.items():  # PNG holds no floats: 65535 means 1
            scaled = (values * 65535).round().astype(np.uint16) if suffix == ".png" else values
            save_array(results[kind], scaled)
        save_array(results["mask"], mask.astype(np.uint8) * 255)
    save_array(results["overlay"], draw_outline(grey, mask))


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array as NPY, PNG or TIFF."""

    def write(temporary: Path) -> None:
        if path.suffix == ".npy":
            with temporary.open("wb") as file:
                np.save(file, array)
        else:
            temporary.write_bytes(cv2.imencode(path.suffix, array)[1].tobytes())

    write_atomic(path, write)


def draw_outline(grey: NDArray[Any], mask: NDArray[Any]) -> NDArray[Any]:
    """Return the grey image (H W) with the outline of the mask (H W) in colour, as (H W 3)."""
    picture = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, OUTLINE, 1)
    return np.asarray(picture)
