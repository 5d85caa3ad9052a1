"""Seismic images in files: read as amplitudes, and what a network says of them written in the same format."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from salt.data import image
from salt.data.names import id_of, is_utf8
from salt.inference import segy
from salt.runs.files import write_atomic

OUTLINE = (0, 140, 255)  # orange, in OpenCV's order of colours
FORMATS = (*image.EXTENSIONS, *segy.SUFFIXES)
SPARE = 20  # bytes by which the name of a temporary file is longer

Array = NDArray[Any]


def read(path: Path) -> Array:
    """Return the amplitudes (H W) of an image file or a 2-D SEG-Y line: samples down, traces to the right.

    Raises:
        ValueError: it cannot be read; the message does not name the file.
    """
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"has an unknown extension, expected one of {', '.join(FORMATS)}")
    try:
        if path.suffix.lower() in segy.SUFFIXES:
            return segy.read(path)
        return image.decode(path.name, path.read_bytes(), smallest=1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None


def outputs(path: Path, folder: Path) -> dict[str, Path]:
    """Where probability, mask and overlay of a file are written. What is read from a JPEG is written as PNG."""
    suffix = ".png" if path.suffix.lower() in (".jpg", ".jpeg") else path.suffix.lower()
    return {
        "probability": folder / f"{path.stem}_probability{suffix}",
        "mask": folder / f"{path.stem}_mask{suffix}",
        "overlay": folder / f"{path.stem}_overlay.png",
    }


def check_name(path: Path, folder: Path) -> None:
    """Check that the results of a file can have its name.

    Raises:
        ValueError: the name cannot be written into a table, or is too long; the message does not name the file.
    """
    if not is_utf8(id_of(path)):
        raise ValueError("its name is not UTF-8; rename it")
    if "\r" in path.name:
        raise ValueError("its name holds a carriage return; rename it")
    length = max(len(os.fsencode(place.name)) for place in outputs(path, folder).values()) + SPARE
    if length > (limit := os.pathconf(folder, "PC_NAME_MAX")):
        raise ValueError(f"its name is {length - limit} bytes too long for the names of the results; shorten it")


def write(path: Path, folder: Path, grey: Array, probability: Array, mask: Array) -> None:
    """Write what a network says of the file `path`, atomically; the overlay comes last."""
    places = outputs(path, folder)
    if path.suffix.lower() in segy.SUFFIXES:
        segy.write_like(path, places["probability"], probability)
        segy.write_like(path, places["mask"], mask.astype(np.float32))
    else:
        save = saver(places["mask"].suffix)
        write_atomic(
            places["probability"], lambda temporary: save(temporary, as_stored(probability, places["mask"].suffix))
        )
        write_atomic(places["mask"], lambda temporary: save(temporary, mask.astype(np.uint8) * 255))
    write_atomic(places["overlay"], lambda temporary: save_image(temporary, overlay(grey, mask), ".png"))


def as_stored(probability: Array, suffix: str) -> Array:
    """Probabilities as a format holds them: PNG has no floats, there 65535 stands for 1."""
    return (probability * 65535).round().astype(np.uint16) if suffix == ".png" else probability.astype(np.float32)


def saver(suffix: str) -> Callable[[Path, Array], None]:
    """A function that writes an array into a file of this format."""
    if suffix == ".npy":
        return save_npy
    return lambda path, array: save_image(path, array, suffix)


def save_npy(path: Path, array: Array) -> None:
    """Write an array in NumPy's format."""
    with path.open("wb") as file:
        np.save(file, array)


def save_image(path: Path, array: Array, suffix: str) -> None:
    """Write a PNG or TIFF, whatever the file's name ends in."""
    path.write_bytes(cv2.imencode(suffix, array)[1].tobytes())


def overlay(grey: Array, mask: Array) -> Array:
    """The grey image (H W) with the outline of the mask (H W) in colour, as (H W 3)."""
    picture = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, OUTLINE, 1)
    return np.asarray(picture)
