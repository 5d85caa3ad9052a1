"""A run or a blend as one object that predicts images of any size."""

import copy
import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from salt.build import build_network, compiled
from salt.data.amplitudes import Grey, Scaling, remarks
from salt.data.tiles import Tiles
from salt.inference.predict import Predictor, predict_mean
from salt.inference.settings import PredictionSettings
from salt.machine import distributed
from salt.machine.device import choose_runtime
from salt.runs.ensemble import Ensemble, Member
from salt.runs.stacks import Stack, as_stack
from salt.runs.weights import load_weights
from salt.scoring.metrics import is_salt

log = logging.getLogger("salt")


class Model:
    """The networks of a run or a blend: `salt.load(run)` makes one.

    Its methods take one image (H W) or several (N H W) of any size and real number type, with samples down and traces
    to the right. Several threads may call them at once.
    """

    def __init__(self, ensemble: Ensemble, networks: Sequence[Sequence[Predictor]]):
        self.ensemble = ensemble
        self.networks = networks  # of each member: one for each file of weights
        self.threshold = float(ensemble.score["threshold"])
        self.scaling = Scaling.of(ensemble.first.config.data)

    def predict(self, images: ArrayLike, depth: float | None = None, progress: bool = False) -> NDArray[np.float32]:
        """Return the probability of salt of each pixel: the mean over folds, snapshots and mirroring.

        Numbers of 8 bits are grey levels; others are amplitudes, which are scaled as in the run's data. The
        probability of a missing amplitude is 0: NaN, masked, or the run's data.nodata. `depth` is the survey depth in
        feet, for a network that sees it. `progress` draws a bar on a terminal.

        Raises:
            ValueError: the images are not real and finite numbers (H W) or (N H W), look like colours (the last side
                is 3 or 4), or the depth is missing.
        """
        parts = images if isinstance(images, list | tuple) else [images]
        array = np.ma.array(images) if any(map(np.ma.isMaskedArray, parts)) else np.asarray(images)
        colours = array.ndim == 3 and array.shape[2] in (3, 4)
        if colours or array.size == 0 or array.ndim not in (2, 3) or array.dtype.kind not in "buif":
            raise ValueError(
                f"images have the shape {array.shape} and type {array.dtype}, expected grey images of real numbers, "
                f"(H W) or (N H W){'; these look like colours' if colours else ''}"
            )
        greys = [self.scaling(image) for image in (array if array.ndim == 3 else array[None])]
        for number, grey in enumerate(greys):
            for line in remarks(grey):
                log.warning("image %d: %s", number, line)
        probabilities = self.predict_grey(greys, depth, progress)
        return probabilities if array.ndim == 3 else probabilities[0]

    def predict_grey(self, greys: Sequence[Grey], depth: float | None = None, progress: bool = False) -> Stack:
        """Return probabilities (N H W) of images that were scaled before; see `predict`.

        Raises:
            ValueError: the depth is missing.
        """
        if depth is None and self.ensemble.sees_depth:
            raise ValueError("this network sees the survey depth: give depth=..., in feet")
        depths = np.full(len(greys), np.nan if depth is None else depth)
        levels, missing = (as_stack([getattr(grey, part) for grey in greys]) for part in ("levels", "missing"))
        tiles = Tiles([str(i) for i in range(len(greys))], levels, None, depths, missing)
        return self.predict_tiles(tiles, np.arange(len(greys)), progress)

    def predict_tiles(self, tiles: Tiles, positions: NDArray[np.int64], progress: bool = True) -> Stack:
        """Return probabilities (N H W, or N arrays) of the tiles at N positions: the weighted mean over the members.

        They are 0 where nothing is seen. With several processes only rank 0 gets them.
        """
        parts = []
        for member, networks in zip(self.ensemble.members, self.networks, strict=True):
            part = predict_mean(networks, tiles, positions, progress)
            if distributed.is_main():
                tiles.empty_unseen(part, positions, member.config.data.constant_tiles)
            parts.append(np.float32(member.weight) * part)
        return sum(parts[1:], parts[0])

    def mask(self, images: ArrayLike, depth: float | None = None) -> NDArray[np.bool_]:
        """Return the mask of salt: the pixels where `predict` is above `threshold`."""
        return is_salt(self.predict(images, depth), self.threshold)


def load_networks(ensemble: Ensemble, settings: PredictionSettings) -> Model:
    """Return a model that keeps each network in memory, so that threads can share it."""
    return Model(
        ensemble, [[own_network(one, settings) for one in in_turn(member, settings)] for member in ensemble.members]
    )


def load_in_turn(ensemble: Ensemble, settings: PredictionSettings) -> Model:
    """Return a model that keeps one network of each run in memory, for many tiles at once and one thread."""
    return Model(ensemble, [in_turn(member, settings) for member in ensemble.members])


def in_turn(member: Member, settings: PredictionSettings) -> list[Predictor]:
    """Return one predictor for each file of weights of a run; they share a network."""
    config = settings.apply_to(member.config)
    runtime = choose_runtime(config.trainer)
    return Predictor(build_network(config, runtime), runtime, config.trainer.tta, "predict").in_turn(member.files)


def own_network(shared: Predictor, settings: PredictionSettings) -> Predictor:
    """Return a predictor with its own copy of the network, with the weights of its file."""
    assert shared.file is not None
    load_weights(shared.network.model, shared.file)
    network = compiled(copy.deepcopy(shared.network.model).eval(), settings.compile)
    return replace(shared, network=network, file=None, fill=settings.compile)
