"""A finished run as one object that predicts images of any size."""

import copy
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from salt.build import build_network, compiled
from salt.data.amplitudes import Grey, Scaling, remarks
from salt.data.tiles import Tiles
from salt.data.windows import Windows
from salt.inference.predict import predict
from salt.inference.settings import PredictionSettings
from salt.machine.device import choose_runtime
from salt.runs.rundir import RunDir, weight_files
from salt.runs.stacks import Stack, as_stack
from salt.runs.weights import load_weights
from salt.scoring.metrics import is_salt

log = logging.getLogger("salt")


class Model:
    """The networks of a run's finished folds: `salt.load(run)` makes one.

    Its methods take one image (H W) or several of one size (N H W), of any size and real type of number, with samples
    down and traces to the right. They may be called from several threads at once.
    """

    def __init__(self, run: str | Path, settings: PredictionSettings):
        directory = RunDir(Path(run).expanduser())
        self.config = settings.applied(directory.read_config())
        score = directory.read_score(self.config.data.n_folds)
        self.threshold = float(score["threshold"])
        self.scaling = Scaling.of(self.config.data)
        self.runtime = choose_runtime(self.config.trainer)
        network = build_network(self.config, self.runtime)
        self.networks = []  # one for each file of weights, which stay as they are: so threads do not disturb each other
        for row in score["folds"]:
            for file in weight_files(directory.fold(row["fold"])):
                load_weights(network.model, file)
                own = copy.deepcopy(network.model).eval()
                self.networks.append(compiled(own, self.config))

    def predict(self, images: ArrayLike, depth: float | None = None, progress: bool = False) -> NDArray[np.float32]:
        """Probability of salt for each pixel, in the shape of the images: the mean over folds, snapshots and mirroring.

        Numbers of 8 bits are grey levels; others are amplitudes, which are scaled as in the run's data (each image by
        its own percentiles, or all by the survey's range). Where an amplitude is missing (NaN, masked in a masked
        array, or the run's data.nodata) the probability is 0. `depth` is the survey depth in feet, for a network
        that sees it. `progress` draws a bar on a terminal.

        Raises:
            ValueError: the images are not arrays of real numbers (H W) or (N H W), hold infinite ones, are in colours
                (the last side is 3 or 4), or the depth is missing.
        """
        parts = images if isinstance(images, list | tuple) else [images]
        array = np.ma.array(images) if any(map(np.ma.isMaskedArray, parts)) else np.asarray(images)
        if array.ndim == 3 and array.shape[2] in (3, 4):
            raise ValueError(
                f"an array of the shape {array.shape} looks like one image in colours, expected grey (H W)"
            )
        if array.size == 0:
            raise ValueError(f"an array of the shape {array.shape} holds no pixel")
        if array.ndim not in (2, 3) or array.dtype.kind not in "buif":
            raise ValueError(
                f"an array of the shape {array.shape} and the type {array.dtype}, expected real numbers in two "
                "dimensions (H W) or three (N H W)"
            )
        greys = [self.scaling(image) for image in (array if array.ndim == 3 else array[None])]
        for number, grey in enumerate(greys):
            for line in remarks(grey):
                log.warning("image %d: %s", number, line)
        probabilities = self.predict_grey(greys, depth, progress)
        return probabilities if array.ndim == 3 else probabilities[0]

    def predict_grey(self, greys: Sequence[Grey], depth: float | None = None, progress: bool = False) -> Stack:
        """Return probabilities (N H W) of images that are scaled already, see `predict`.

        Raises:
            ValueError: the depth is missing.
        """
        if depth is None and self.config.input.channels == "depth_z":
            raise ValueError("this network sees the depth in the survey: give depth=..., in feet")
        depths = np.full(len(greys), np.nan if depth is None else depth)
        stacks = [as_stack([getattr(grey, part) for grey in greys]) for part in ("levels", "missing")]
        tiles = Tiles([str(i) for i in range(len(greys))], stacks[0], None, depths, stacks[1])
        positions = np.arange(len(greys))
        probabilities = self.predict_tiles(tiles, positions, progress)
        tiles.empty_unseen(probabilities, positions, self.config.data.constant_tiles)
        return probabilities

    def predict_tiles(self, tiles: Tiles, positions: NDArray[np.int64], progress: bool = True) -> Stack:
        """Probabilities (N H W, or N arrays) of the tiles of a data set at N positions."""
        runtime = self.runtime
        if not self.config.trainer.compile:  # else each size would be compiled
            n_windows = len(Windows(tiles.images, positions, self.config.data.size))
            size = min(runtime.predict_batch_size, max(n_windows, 1))  # what a batch lacks is filled with copies
            runtime = replace(runtime, predict_batch_size=size)
        total = np.zeros((), dtype=np.float32)
        for i, network in enumerate(self.networks):
            title = f"network {i + 1} of {len(self.networks)}"
            total = total + predict(network, tiles, positions, runtime, self.config.trainer.tta, title, progress)
        return total / np.float32(len(self.networks))

    def mask(self, images: ArrayLike, depth: float | None = None) -> NDArray[np.bool_]:
        """Where there is salt: where `predict` is above `threshold`, of the run."""
        return is_salt(self.predict(images, depth), self.threshold)
