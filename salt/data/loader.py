"""Batches of training tiles, seeded by (seed, fold, epoch, sample)."""

import copy
import math
import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from salt.data.augment import Augment, crop_transforms
from salt.data.tiles import Tiles
from salt.machine.distributed import ONE_PROCESS, Group
from salt.machine.interrupt import SIGNALS
from salt.runs.stacks import Size

# The platform's own way to start a process: inside joblib's processes torch would take joblib's, and fail.
CONTEXT: Any = copy.copy(multiprocessing.get_context(multiprocessing.get_all_start_methods()[0]))


class Worker(CONTEXT.Process):  # type: ignore[misc]  # the type depends on the platform
    """A worker process that torch and Python end by SIGKILL, since it ignores SIGTERM (see `set_up_worker`)."""

    def start(self) -> None:
        super().start()
        self._popen.terminate = self._popen.kill  # Python calls it at the interpreter's end


CONTEXT.Process = Worker


@dataclass(frozen=True)
class Batch:
    """Images and masks (N 1 H W, uint8), survey depths (N, feet) and the tiles' positions (N) in the training set.

    Masks are 0 or 1, or NOT_KNOWN.
    """

    images: Tensor
    masks: Tensor
    depths: Tensor
    index: Tensor

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory; DataLoader calls it."""
        return Batch(self.images.pin_memory(), self.masks.pin_memory(), self.depths.pin_memory(), self.index)


NOT_KNOWN = 2  # in the masks of a batch: so augmentation moves what is known with the salt
Sample = tuple[Tensor, Tensor, float, int]  # image and mask (1 H W, uint8), depth, position
Key = tuple[int, int, int]  # of a sample: epoch, number of the tile, and its earlier appearances in the epoch


class TrainTiles(Dataset[Sample]):
    """Augmented tiles (h w) by `Key`; a larger image gives as many random crops in an epoch as tiles cover it."""

    def __init__(self, tiles: Tiles, augment: Augment, seed: tuple[int, int], size: Size, passes: int = 1):
        assert tiles.masks is not None
        self.images, self.masks, self.depths, self.known = tiles.images, tiles.masks, tiles.depths, tiles.known
        self.augment, self.seed = augment, seed
        self.positions = tiles.crops(size, passes)
        self.size = size
        self.crop, self.crop_smaller = (Augment(crop_transforms(size, smaller)) for smaller in (False, True))
        # the sums over a line are as long as it is wide; a crop takes a small part of it
        self.sums = [] if self.known is None else [known.sum(axis=0).cumsum() for known in self.known]

    def __getitem__(self, key: Key) -> Sample:
        epoch, number, repeat = key
        again = (0, repeat) if repeat else ()  # new draws each time
        i = int(self.positions[number])
        image, mask = self.images[i], self.masks[i]
        cropped = image.shape != self.size
        if self.known is not None:
            known = self.known[i]
            if cropped:
                part = around_known(known, self.sums[i], self.size, np.random.default_rng((*self.seed, *key)))
                image, mask, known = image[part], mask[part], known[part]
            mask = np.where(known, mask, np.uint8(NOT_KNOWN))
        if cropped:
            is_smaller = any(side < least for side, least in zip(image.shape, self.size, strict=True))
            crop = self.crop_smaller if is_smaller else self.crop
            image, mask = crop(image, mask, (*self.seed, epoch, number, 1, *again))  # 1: its own draws
        image, mask = self.augment(image, mask, (*self.seed, epoch, number, *again))
        return torch.from_numpy(image)[None], torch.from_numpy(mask)[None], float(self.depths[i]), i


def around_known(
    known: NDArray[np.bool_], sums: NDArray[np.int64], size: Size, rng: np.random.Generator
) -> tuple[slice, slice]:
    """Return a random part of an image (H W), at most as large as `size`, around a random pixel that is known.

    `sums` (W) counts the known pixels up to each column, with its own.
    """
    x = int(np.searchsorted(sums, rng.integers(sums[-1]), side="right"))
    y = int(rng.choice(np.flatnonzero(known[:, x])))
    starts = []
    for at, side, length in zip((y, x), size, known.shape, strict=True):
        first, last = max(at - side + 1, 0), max(min(at, length - side), 0)
        starts.append(int(rng.integers(first, last + 1)))
    return slice(starts[0], starts[0] + size[0]), slice(starts[1], starts[1] + size[1])


@dataclass(frozen=True)
class Draws:
    """The tiles (numbers) that the epochs of a fold draw from.

    An epoch has each of `positions` once. Of those without salt, `empty`, it draws only the share `empty_share`. The
    last `n_pseudo` tiles of a batch come from `pseudo`: all in turn, repeated if an epoch needs more.
    """

    positions: NDArray[np.int64]
    empty: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    empty_share: float = 1.0
    pseudo: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    n_pseudo: int = 0


class EpochBatches(Sampler[list[Key]]):
    """Shuffled full batches of keys; the rest of an epoch is dropped.

    The loop sets `epoch`, and `first`, the batch to start with. Each process of several gets its share of a batch.

    Raises:
        ValueError: the processes cannot share a batch evenly, or an epoch has fewer tiles than a batch.
    """

    def __init__(self, draws: Draws, batch_size: int, seed: tuple[int, int], group: Group = ONE_PROCESS):
        if batch_size % group.world_size:
            n = group.world_size
            raise ValueError(f"trainer.batch_size={batch_size}, expected a multiple of the {n} processes")
        assert 0 <= draws.n_pseudo < batch_size and draws.n_pseudo % group.world_size == 0
        self.draws, self.n_labelled, self.seed, self.group = draws, batch_size - draws.n_pseudo, seed, group
        self.epoch, self.first = 0, 0
        self.n_left_out = round((1 - draws.empty_share) * len(draws.empty))
        if not len(self):
            n_tiles = len(draws.positions) - self.n_left_out
            raise ValueError(f"trainer.batch_size={batch_size} is more than the {n_tiles} training tiles of an epoch")

    def __len__(self) -> int:
        return (len(self.draws.positions) - self.n_left_out) // self.n_labelled

    @property
    def repeats(self) -> int:
        """Return how often an epoch has each tile of `draws.pseudo` at most."""
        n = len(self.draws.pseudo)
        return math.ceil(len(self) * self.draws.n_pseudo / n) if n else 0

    def __iter__(self) -> Iterator[list[Key]]:
        rng, draws = np.random.default_rng((*self.seed, self.epoch)), self.draws
        kept = draws.positions
        if self.n_left_out:
            kept = np.setdiff1d(kept, rng.choice(draws.empty, self.n_left_out, replace=False))
        keys = [(self.epoch, i, 0) for i in rng.permutation(kept).tolist()]
        assert len(draws.pseudo) or not draws.n_pseudo  # the plan counts steps without pseudo-labelled tiles
        pseudo = rng.permutation(draws.pseudo).tolist()
        pseudo_keys = [(self.epoch, i, repeat) for repeat in range(self.repeats) for i in pseudo]
        for step in range(self.first, len(self)):
            pairs = (keys, self.n_labelled), (pseudo_keys, draws.n_pseudo)
            parts = [part[step * n : (step + 1) * n] for part, n in pairs]
            yield [key for part in parts for key in part[self.group.rank :: self.group.world_size]]


def collate(samples: list[Sample]) -> Batch:
    """Stack samples to a batch."""
    images, masks, depths, index = zip(*samples, strict=True)
    return Batch(torch.stack(images), torch.stack(masks), torch.tensor(depths), torch.tensor(index))


def set_up_worker(_: int) -> None:
    """Forbid OpenCV's threads in a worker process, and ignore signals: training needs it until its state is saved."""
    cv2.setNumThreads(0)
    os.setpgid(0, 0)  # its own group
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def train_loader(dataset: TrainTiles, batches: EpochBatches, workers: int, pin_memory: bool) -> "DataLoader[Batch]":
    """Return a loader of the sampler's batches; 0 workers make the tiles in this process."""
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # torch types the samples, collate turns them into batches
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # else iterators would draw from the global generator, which dropout uses
        persistent_workers=workers > 0,
        worker_init_fn=set_up_worker,
        multiprocessing_context=CONTEXT if workers else None,
    )
