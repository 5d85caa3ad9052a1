"""A result for each trace of a survey, written as a copy of its SEG-Y file."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salt.runs.files import keep_first, write_atomic
from salt.survey.geometry import Direction, Survey
from salt.survey.layout import IEEE_FLOAT, INT8, TRACE_HEADER, TYPES, trace_type
from salt.survey.line import write_copy

PERCENT = 100  # INT8 holds probabilities in percent
WRITTEN = 1000  # traces converted at once


class SurveyWriter:
    """A SEG-Y file like a survey's, whose samples are written block by block, in any order and by any process.

    It has all bytes of the survey's file (text, binary and trace headers, what follows the traces; the same order of
    traces) but for the samples and their format: 32-bit IEEE floats or, for probabilities, 8-bit integers in percent.
    Of a part of a survey (`cut_survey`) it has the traces of this part alone.
    Samples are 0 until they are written. The file is made with its full size, so that no later write needs space on
    the disk; one that exists is continued.
    """

    def __init__(self, survey: Survey, path: Path, as_int8: bool = False) -> None:
        """Open the file, or make it if there is none.

        Raises:
            ValueError: there is a file of another size, which belongs to another survey or format.
            OSError: it cannot be written.
        """
        self.survey, self.path = survey, path
        self.code = INT8 if as_int8 else IEEE_FLOAT
        self.kind = np.dtype(survey.layout.order + TYPES[self.code])
        if not path.exists():
            write_atomic(path, self.make, put=keep_first)
        if (size := path.stat().st_size) != (expected := required_bytes(survey, as_int8)):
            raise ValueError(
                f"{path} has {size} bytes, expected {expected} for {survey.path}: delete it, or name another"
            )
        self.file = path.open("rb+", buffering=0)

    def make(self, temporary: Path) -> None:
        """Write the file with zeros as samples, window by window."""
        with temporary.open("wb") as file:
            write_copy(self.survey.layout, file, self.code, lambda first, last: 0, self.survey.kept)

    def write_block(self, first: int, values: NDArray[np.floating[Any]], direction: Direction = "inline") -> None:
        """Write the values (lines, traces, samples) of consecutive lines, in the file's order.

        `first` counts the survey's lines from 0. Values at places without a trace are dropped; a second trace of a
        place gets the value of its place. NaN is written as 0.

        Raises:
            OSError: the disk does not take them.
        """
        survey = self.survey
        places = survey.places(direction)[first : first + len(values)]
        assert values.shape == (*places.shape, survey.n_samples), f"{values.shape} for places of {places.shape}"
        line, other = np.divmod(survey.duplicate_places, len(survey.crosslines))
        if direction == "crossline":
            line, other = other, line
        among = (line >= first) & (line < first + len(values))
        own = np.flatnonzero(places >= 0)
        traces = np.concatenate([places.ravel()[own], survey.duplicates[among]])
        rows = np.concatenate([own, ((line - first) * places.shape[1] + other)[among]])
        order = np.argsort(traces)
        flat = values.reshape(-1, survey.n_samples)
        for some in np.array_split(order, range(WRITTEN, len(order), WRITTEN)):
            self.write_traces(traces[some], self.encode(flat[rows[some]]))

    def write_traces(self, traces: NDArray[np.int64], samples: NDArray[Any]) -> None:
        """Write the stored samples (N samples) of these traces (N) between their headers."""
        layout = self.survey.layout
        length = trace_type(layout.order, self.code, layout.n_samples).itemsize
        at = traces if self.survey.kept is None else np.searchsorted(self.survey.kept, traces)
        for number, row in zip(at.tolist(), samples, strict=True):
            # one call for each trace: other processes may write the traces beside it, on other machines too
            if os.pwrite(self.file.fileno(), row, layout.start + number * length + TRACE_HEADER) != row.nbytes:
                raise OSError(f"{self.path} cannot be written: the disk took a part of trace {number + 1}")

    def encode(self, values: NDArray[np.floating[Any]]) -> NDArray[Any]:
        """Return values as the file stores them."""
        known = np.where(np.isnan(values), 0, values)
        return (np.rint(PERCENT * known) if self.code == INT8 else known).astype(self.kind)

    def flush(self) -> None:
        """Wait until all that was written is on the disk."""
        os.fsync(self.file.fileno())

    def close(self) -> None:
        """Flush and close the file."""
        self.flush()
        self.file.close()

    def __enter__(self) -> "SurveyWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def required_bytes(survey: Survey, as_int8: bool = False) -> int:
    """Return the size of a copy of the survey's file with 32-bit floats or 8-bit integers."""
    layout = survey.layout
    n_traces = layout.n_traces if survey.kept is None else len(survey.kept)
    length = trace_type(layout.order, INT8 if as_int8 else IEEE_FLOAT, layout.n_samples).itemsize
    return layout.start + n_traces * length + layout.path.stat().st_size - layout.end
