"""Many files predicted one after the other: meanwhile the next one is read, and the last one is written."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm.auto import tqdm

from salt.data import rle
from salt.data.amplitudes import Grey, Scaling, remarks
from salt.data.windows import Windows
from salt.inference.files import check_result_names, interval_in, read_amplitudes, write_prediction
from salt.inference.model import Model, load_networks
from salt.inference.predict import Prediction
from salt.inference.settings import PredictionSettings
from salt.machine.lanes import in_lanes
from salt.paths import printable
from salt.runs.ensemble import Ensemble
from salt.runs.stacks import as_stack
from salt.scoring.metrics import is_salt

N_FIRST = 16  # windows of the first image, on which an engine is tried
WORTHWHILE = 500  # windows in all: with fewer, OpenVINO's start takes longer than it saves

PROBLEMS = (ValueError, MemoryError)  # of one file; the others are predicted nevertheless


class FileResult(NamedTuple):
    """A file, its grey levels, and its prediction."""

    path: Path
    grey: Grey
    prediction: Prediction


@dataclass(frozen=True)
class Stream:
    """Predicts files and writes the results into the folder `out`."""

    ensemble: Ensemble
    settings: PredictionSettings
    out: Path
    depth: float | None = None
    nodata: float | None = None
    spread: bool = False

    def run(self, files: Sequence[Path], loaded: Callable[[Model], None]) -> Iterator[str | Exception]:
        """Yield the run lengths of each file's mask, or why there are none; `loaded` gets the model first."""
        return in_lanes(self.write, self.predict(files, loaded), n_lanes=1, waiting=1)

    def predict(self, files: Sequence[Path], loaded: Callable[[Model], None]) -> Iterator[FileResult | Exception]:
        """Yield the prediction of each file, or why there is none."""
        model = None
        for path, grey in zip(files, in_lanes(self.read, files, n_lanes=1, waiting=1), strict=True):
            if isinstance(grey, Exception):
                yield grey
                continue
            if model is None:
                model = self.load(grey, len(files))
                loaded(model)
            try:
                yield FileResult(path, grey, model.predict_grey([grey], self.depth, progress=True, spread=self.spread))
            except PROBLEMS as error:
                yield error

    def read(self, path: Path) -> Grey | Exception:
        """Return the grey levels of a file, or why it cannot be read."""
        config = self.ensemble.first.config.data
        scaling = Scaling(config.amplitudes, config.nodata if self.nodata is None else self.nodata)
        try:
            check_result_names(path, self.out)
            grey = scaling(read_amplitudes(path))._replace(interval=interval_in(path))
        except PROBLEMS as error:
            return error
        for line in remarks(grey, "--nodata"):
            tqdm.write(f"{printable(path)}: {line}", file=sys.stderr)
        return grey

    def load(self, grey: Grey, n_files: int) -> Model:
        """Return the model, by an engine that is tried on the first image and whose start pays for so many."""
        windows = Windows(as_stack([grey.levels]), np.array([0]), self.ensemble.first.config.data.size)
        settings = self.settings
        if settings.engine == "auto" and len(windows) * n_files < WORTHWHILE:
            settings = settings.model_copy(update={"engine": "torch"})
        return load_networks(self.ensemble, settings, windows.cut(0, min(len(windows), N_FIRST))[0])

    def write(self, predicted: FileResult | Exception) -> str | Exception:
        """Write the results of a file; return the run lengths of its mask, or why there are none."""
        if isinstance(predicted, Exception):
            return predicted
        path, grey, (mean, spread) = predicted
        mask = is_salt(mean[0], float(self.ensemble.score["threshold"]))
        try:
            write_prediction(path, self.out, grey.levels, mean[0], mask, None if spread is None else spread[0])
        except PROBLEMS as error:
            return error
        return rle.encode(mask)
