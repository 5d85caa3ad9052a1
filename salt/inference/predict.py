"""Probabilities of whole images: windows are cut, predicted in batches, and put together."""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain, islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from salt.data.tiles import Tiles
from salt.data.windows import OVERLAP, Windows
from salt.inference.engine import Engine
from salt.machine import distributed
from salt.machine.device import raise_out_of_memory
from salt.machine.lanes import in_lanes
from salt.runs.stacks import Stack, empty_stack


class Prediction(NamedTuple):
    """Mean and, if asked for, standard deviation over networks of the probabilities (N H W; or N arrays)."""

    mean: Stack
    spread: Stack | None


@dataclass(frozen=True)
class Predictor:
    """Predicts images of any size with an engine. `title` names the work in the bar and in messages."""

    engine: Engine
    title: str
    overlap: float = OVERLAP

    def predict(
        self, tiles: Tiles, positions: NDArray[np.int64], progress: bool = True, spread: bool = False
    ) -> Prediction:
        """Return the probabilities of the tiles at N positions.

        Larger images are predicted in windows that overlap. With several processes each predicts its share, and only
        rank 0 gets the probabilities.

        Raises:
            ValueError: the device has too little memory, or a probability is NaN.
        """
        share = positions[distributed.rank() :: distributed.world_size()]
        windows = Windows(tiles.images, share, self.engine.size, self.overlap)
        mean, deviation = join_windows(windows, self.predict_windows(tiles, windows, progress, spread), spread)
        whole = gather_probabilities(mean, tiles, positions)
        return Prediction(whole, None if deviation is None else gather_probabilities(deviation, tiles, positions))

    def predict_blocks(self, blocks: Iterable[Tiles], spread: bool = False) -> Iterator[Prediction]:
        """Yield the probabilities of one set of tiles after the other, in this process.

        The lanes do not wait at the end of a set. No batch holds windows of two sets, so the bytes of a set do not
        depend on the others.

        Raises:
            ValueError: the device has too little memory, or a probability is NaN.
        """
        size = self.engine.runtime.predict_batch_size
        begun: deque[Windows] = deque()

        def batches() -> Iterator[tuple[Tiles, Windows, int]]:
            for tiles in blocks:
                windows = Windows(tiles.images, np.arange(len(tiles.ids)), self.engine.size, self.overlap)
                begun.append(windows)
                for start in range(0, len(windows), size):
                    yield tiles, windows, start

        with self.explain_memory():
            values = in_lanes(lambda b: self.predict_batch(*b, spread), batches(), self.engine.runtime.lanes)
            for first in values:
                windows = begun.popleft()
                rest = islice(values, math.ceil(len(windows) / size) - 1)
                yield join_windows(windows, chain([first], rest), spread)

    def predict_windows(
        self, tiles: Tiles, windows: Windows, progress: bool, spread: bool
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the probabilities (C M h w) of all windows, batch by batch (see `predict_batch`)."""
        starts = range(0, len(windows), self.engine.runtime.predict_batch_size)
        hidden = distributed.tqdm_disable() if progress else True
        with (
            self.explain_memory(),
            tqdm(total=len(windows), desc=self.title, unit="tile", disable=hidden, leave=False) as bar,
        ):
            for values in in_lanes(
                lambda start: self.predict_batch(tiles, windows, start, spread), starts, self.engine.runtime.lanes
            ):
                yield values
                bar.update(values.shape[1])

    def predict_batch(self, tiles: Tiles, windows: Windows, start: int, spread: bool) -> NDArray[np.float32]:
        """Return the probabilities (C M h w) of a batch: their mean, and with `spread` those of all networks too."""
        images, at = windows.cut(start, min(start + self.engine.runtime.predict_batch_size, len(windows)))
        values = self.engine(images, tiles.depths[at].astype(np.float32))
        if not np.isfinite(values).all():
            raise ValueError(
                f"{self.title}: the network gives probabilities that are NaN; trainer.precision=fp32 may help"
            )
        mean = values.mean(axis=0, keepdims=True)
        return np.concatenate([mean, values]) if spread else mean

    def explain_memory(self) -> AbstractContextManager[None]:
        """Within this context, raise ValueError if the GPU's memory does not suffice."""
        return raise_out_of_memory(
            f"with batches of {self.engine.runtime.predict_batch_size} tiles ({self.title})",
            "Lower trainer.predict_batch_size; the same command resumes (commands that predict: --batch-size).",
        )


def join_windows(windows: Windows, parts: Iterable[NDArray[np.float32]], spread: bool) -> Prediction:
    """Return the probabilities of the images of some windows, from the values (C M h w) of these, batch by batch."""
    sizes = [windows.images[i].shape for i in windows.positions]
    mean = empty_stack(sizes, np.float32)
    deviation = empty_stack(sizes, np.float32) if spread else None
    for i, rows, values in windows.join(parts):
        mean[i][rows] = values[0]
        if deviation is not None:
            deviation[i][rows] = values[1:].std(axis=0)
    return Prediction(mean, deviation)


def gather_probabilities(share: Stack, tiles: Tiles, positions: NDArray[np.int64]) -> Stack:
    """Return the probabilities of all processes on rank 0, in the order of the positions; nothing on the others."""
    if distributed.world_size() == 1:
        return share
    parts = distributed.gather(share)
    probabilities = empty_stack([tiles.images[i].shape for i in positions] if parts else [], np.float32)
    for rank, part in enumerate(parts):
        for i, image in enumerate(part):
            probabilities[rank + i * distributed.world_size()] = image
    return probabilities
