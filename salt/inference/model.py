"""A run or a blend as one object that predicts images of any size."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from salt.data.amplitudes import Grey, Scaling, remarks
from salt.data.tiles import Tiles
from salt.data.windows import OVERLAP
from salt.inference.choose import load_engine
from salt.inference.predict import Prediction, Predictor
from salt.inference.settings import PredictionSettings
from salt.inference.watch import Watch
from salt.machine import distributed
from salt.machine.device import choose_runtime
from salt.runs.ensemble import Ensemble
from salt.runs.stacks import as_stack
from salt.scoring.metrics import is_salt

log = logging.getLogger("salt")

Images = NDArray[np.float32]


class Model:
    """The networks of a run or a blend: `salt.load(run)` makes one.

    Its methods take one image (H W) or several (N H W) of any size and real number type, with samples down and traces
    to the right. Several threads may call them at once.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        predictors: Sequence[Predictor],
        settings: PredictionSettings | None = None,
        watch: Watch | None = None,
    ):
        self.ensemble = ensemble
        self.settings = settings or PredictionSettings()
        self.watch = watch  # of images that others give, not of the run's own
        self.predictors = predictors  # one for each run
        self.threshold = float(ensemble.score["threshold"])
        self.scaling = Scaling.of(ensemble.first.config.data)

    @property
    def made_with(self) -> dict[str, str]:
        """Device, precision and engine of its networks."""
        engines = [predictor.engine for predictor in self.predictors]
        kinds = {
            "device": {engine.runtime.device.type for engine in engines},
            "precision": {str(engine.runtime.dtype).removeprefix("torch.") for engine in engines},
            "engine": {engine.name for engine in engines},
        }
        return {name: " and ".join(sorted(found)) for name, found in kinds.items()}

    @overload
    def predict(
        self,
        images: ArrayLike,
        depth: float | None = None,
        progress: bool = False,
        spread: Literal[False] = False,
        axis: int | None = None,
    ) -> Images: ...

    @overload
    def predict(
        self,
        images: ArrayLike,
        depth: float | None = None,
        progress: bool = False,
        *,
        spread: Literal[True],
        axis: int | None = None,
    ) -> tuple[Images, Images]: ...

    def predict(
        self,
        images: ArrayLike,
        depth: float | None = None,
        progress: bool = False,
        spread: bool = False,
        axis: int | None = None,
    ) -> Images | tuple[Images, Images]:
        """Return the probability of salt of each pixel: the mean over folds, snapshots and mirroring.

        Numbers of 8 bits are grey levels; others are amplitudes, which are scaled as in the run's data. The
        probability of a missing amplitude is 0: NaN, masked, or the run's data.nodata. `depth` is the survey depth in
        feet, for a network that sees it. `progress` draws a bar on a terminal. With `spread` the result is a pair: the
        probability, and its standard deviation over the networks.

        `axis` says that the images are one volume (inlines, crosslines, samples): 0 predicts each inline, 1 each
        crossline. One range of amplitudes then scales the volume; the result has its shape.

        Raises:
            ValueError: the images are not real and finite numbers (H W) or (N H W), look like colours (the last side
                is 3 or 4), or the depth is missing; or with `axis` they are no volume.
        """
        parts = images if isinstance(images, list | tuple) else [images]
        array = np.ma.array(images) if any(map(np.ma.isMaskedArray, parts)) else np.asarray(images)
        if axis is not None:
            return self.predict_volume(array, axis, depth, progress, spread)
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
        mean, deviation = self.predict_grey(greys, depth, progress, spread)
        at = ... if array.ndim == 3 else 0
        return mean[at] if deviation is None else (mean[at], deviation[at])

    def predict_volume(
        self, volume: NDArray[Any], axis: int, depth: float | None, progress: bool, spread: bool
    ) -> Images | tuple[Images, Images]:
        """Return the probabilities of a volume (inlines, crosslines, samples), line by line; see `predict`."""
        if volume.ndim != 3 or volume.size == 0 or volume.dtype.kind not in "buif" or axis not in (0, 1):
            raise ValueError(
                f"axis={axis} of a volume of shape {volume.shape} and type {volume.dtype}: expected 0 (inlines) or 1 "
                "(crosslines) of real numbers (inlines, crosslines, samples)"
            )
        scaling = self.scaling.common_to(volume)
        mean, deviation = self.predict_grey(
            [scaling(line.T) for line in volume.swapaxes(0, axis)], depth, progress, spread
        )
        result = mean.transpose(0, 2, 1).swapaxes(0, axis)
        return result if deviation is None else (result, deviation.transpose(0, 2, 1).swapaxes(0, axis))

    def predict_survey(self, path: str | Path, out: str | Path, **options: Any) -> dict[str, Path]:
        """Predict a 3-D survey in a SEG-Y file as `salt-predict` does, and return the files of its results.

        They lie in the folder `out`. `options` are those of the command: `lines="inline=1200:1300"`,
        `directions="inline,crossline"`, `mean="geometric"`, `spread=True`, `as_int8=True`, `part="3/16"`,
        `smallest_body=1000`, `inline_byte` and `crossline_byte`, `depth` and `nodata`. With `part` the files are there
        when all parts are done. The same call continues after an interruption.

        Raises:
            ValueError: the survey cannot be read, an option is wrong, the disk is too small, or `out` holds other
                results of this name.
            OSError: a file cannot be written.
        """
        from salt.inference.survey import open_job, predict_survey
        from salt.inference.survey_options import check_survey_options

        given = check_survey_options(**options)
        settings = self.settings.model_copy(update={"engine": "auto"})  # its engine is compared when it predicts
        job = open_job(self.ensemble, settings, Path(path).expanduser(), Path(out).expanduser(), given)
        predict_survey(job, lambda example, n_windows: self)
        return job.results

    def predict_blocks(self, blocks: Iterable[Tiles], spread: bool = False) -> Iterator[Prediction]:
        """Yield the prediction of one set of tiles after the other; the networks do not wait between them."""
        own, *copies = side_by_side(blocks, 1 + len(self.predictors))
        streams = [p.predict_blocks(copy, spread) for p, copy in zip(self.predictors, copies, strict=True)]
        for tiles, *parts in zip(own, *streams, strict=True):
            yield self.combine(parts, tiles, np.arange(len(tiles.ids)))

    def predict_grey(
        self, greys: Sequence[Grey], depth: float | None = None, progress: bool = False, spread: bool = False
    ) -> Prediction:
        """Return probabilities (N H W) of images that were scaled before; see `predict`.

        Raises:
            ValueError: the depth is missing.
        """
        if depth is None and self.ensemble.sees_depth:
            raise ValueError("this network sees the survey depth: give depth=..., in feet")
        if self.watch is not None:
            self.watch.see(greys)
        depths = np.full(len(greys), np.nan if depth is None else depth)
        levels, missing = (as_stack([getattr(grey, part) for grey in greys]) for part in ("levels", "missing"))
        tiles = Tiles([str(i) for i in range(len(greys))], levels, None, depths, missing)
        return self.predict_tiles(tiles, np.arange(len(greys)), progress, spread)

    def predict_tiles(
        self, tiles: Tiles, positions: NDArray[np.int64], progress: bool = True, spread: bool = False
    ) -> Prediction:
        """Return probabilities (N H W, or N arrays) of the tiles at N positions: the weighted mean over the runs.

        They are 0 where nothing is seen. With several processes only rank 0 gets them.
        """
        parts = [predictor.predict(tiles, positions, progress, spread) for predictor in self.predictors]
        return self.combine(parts, tiles, positions)

    def combine(self, parts: Sequence[Prediction], tiles: Tiles, positions: NDArray[np.int64]) -> Prediction:
        """Return the weighted mean of each run's prediction of the tiles at N positions; 0 where nothing is seen."""
        for member, part in zip(self.ensemble.members, parts, strict=True):
            for stack in part:
                if stack is not None and distributed.is_main():
                    tiles.empty_unseen(stack, positions, member.config.data.constant_tiles)
        weights = [np.float32(member.weight) for member in self.ensemble.members]
        return parts[0] if len(parts) == 1 else mix(parts, weights)

    def mask(self, images: ArrayLike, depth: float | None = None) -> NDArray[np.bool_]:
        """Return the mask of salt: the pixels where `predict` is above `threshold`."""
        return is_salt(self.predict(images, depth), self.threshold)


def side_by_side(items: Iterable[Tiles], n: int) -> list[Iterator[Tiles]]:
    """Return n iterators over the same items, as `itertools.tee` does, which keeps up to 56 that all have passed."""
    source, waiting = iter(items), [deque[Tiles]() for _ in range(n)]

    def one(own: deque[Tiles]) -> Iterator[Tiles]:
        while True:
            if not own:
                try:
                    item = next(source)
                except StopIteration:
                    return
                for queue in waiting:
                    queue.append(item)
            yield own.popleft()

    return [one(own) for own in waiting]


def mix(parts: Sequence[Prediction], weights: Sequence[np.float32]) -> Prediction:
    """Return the prediction of several runs, whose weights sum to 1: the variance is within and between them."""
    first, *others = [weight * part.mean for weight, part in zip(weights, parts, strict=True)]
    mean = sum(others, first)
    squares = [
        weight * (part.spread**2 + (part.mean - mean) ** 2)
        for weight, part in zip(weights, parts, strict=True)
        if part.spread is not None
    ]
    return Prediction(mean, sum(squares) ** 0.5 if squares else None)


def load_networks(ensemble: Ensemble, settings: PredictionSettings, example: NDArray[np.uint8] | None = None) -> Model:
    """Return a model with all networks in memory; an engine is tried on the example (N h w)."""
    watch, predictors = Watch(ensemble.first.directory.path), []
    for member in ensemble.members:
        config = settings.apply_to(member.config)
        engine = load_engine(config, member.files, choose_runtime(config.trainer), settings.compile, example)
        predictors.append(Predictor(engine, "predict", settings.overlap or OVERLAP))
    return Model(ensemble, predictors, settings, watch)
