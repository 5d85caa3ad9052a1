"""SEG-Y files of one line: their traces as an image, and an image in the place of their traces."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salt.runs.files import write_atomic

SUFFIXES = (".sgy", ".segy")
IEEE_FLOAT = 5  # the standard's code of a sample format


def library() -> Any:
    """The package segyio.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import segyio
    except ImportError:
        raise ValueError("SEG-Y needs the package segyio: pip install 'salt-segmentation[segy]'") from None
    return segyio


def read(path: Path) -> NDArray[np.float32]:
    """The amplitudes (samples, traces) of a 2-D line.

    Raises:
        ValueError: it cannot be read, is a 3-D survey, or holds what is no number.
    """
    segyio = library()
    try:
        with segyio.open(str(path), ignore_geometry=True) as file:
            check_line(file, segyio)
            traces = np.asarray(file.trace.raw[:], dtype=np.float32)
    except (OSError, RuntimeError, OverflowError) as error:
        raise ValueError(f"does not read as SEG-Y: {error}") from None
    if not np.isfinite(traces).all():
        raise ValueError(f"has {np.count_nonzero(~np.isfinite(traces))} samples that are no finite numbers")
    return traces.T


def check_line(file: Any, segyio: Any) -> None:
    """Make sure that a file holds one line.

    Raises:
        ValueError: inline and crossline numbers both vary.
    """
    numbers = []
    for field in (segyio.TraceField.INLINE_3D, segyio.TraceField.CROSSLINE_3D):
        numbers.append(np.unique(file.attributes(field)[:]))
    if min(len(found) for found in numbers) > 1:
        inlines, crosslines = (f"{len(found)}" for found in numbers)
        raise ValueError(
            f"is a 3-D survey of {inlines} inlines and {crosslines} crosslines, expected one line; cut it into lines, "
            "such as with segyio: file.iline[number], and save each as NPY"
        )


def write_like(path: Path, to: Path, image: NDArray[Any]) -> None:
    """Write an image (samples, traces) as SEG-Y with all headers of the line in `path`, in 32-bit floats."""
    segyio = library()

    def write(temporary: Path) -> None:
        with segyio.open(str(path), ignore_geometry=True) as source:
            spec = segyio.spec()
            spec.samples, spec.tracecount, spec.format = source.samples, source.tracecount, IEEE_FLOAT
            spec.ext_headers = source.ext_headers
            with segyio.create(str(temporary), spec) as file:
                for i in range(1 + source.ext_headers):
                    with suppress(UnicodeError):
                        file.text[i] = source.text[i]
                file.bin = source.bin
                file.bin.update({segyio.BinField.Format: IEEE_FLOAT})
                file.header = source.header
                file.trace = np.ascontiguousarray(image.T, dtype=np.float32)

    write_atomic(to, write)
