"""Which tiles the epochs of a fold draw from, and in which batches."""

import logging

import numpy as np

from salt.config import RunConfig
from salt.data.loader import Draws, EpochBatches
from salt.data.tiles import Tiles
from salt.data.unlabelled import join_tiles
from salt.job import Job
from salt.machine import distributed

log = logging.getLogger(__name__)

OFTEN = 10  # times that an epoch has a tile without a mask


def training_tiles(job: Job, number: int) -> Tiles:
    """Return the tiles with masks of all folds, then those with pseudo-labels for this fold."""
    if job.data.unlabelled is None:
        return job.data.train
    added = job.data.unlabelled.for_training(number, job.config.semi_supervised.least)
    log.info(
        "fold %d: %d of %d tiles without a mask take part, %d in each batch",
        number,
        len(added.ids),
        len(job.data.unlabelled.tiles.ids),
        n_pseudo(job.config),
    )
    return join_tiles(job.data.train, added)


def epoch_batches(job: Job, number: int, tiles: Tiles) -> EpochBatches:
    """Return the batches of an epoch, without the held-out tiles; `tiles` are all of a fold, or those with a mask."""
    config = job.config
    images = tiles.crops(config.data.size)
    n = int(np.searchsorted(images, len(job.folds)))  # crops of images with a mask, which come first
    training = np.flatnonzero(job.folds[images[:n]] != number)
    draws = Draws(
        positions=training,
        empty=training[tiles.coverage[images[training]] == 0],
        empty_share=config.trainer.empty_share,
        pseudo=np.arange(n, len(images)),
        n_pseudo=n_pseudo(config),
    )
    batches = EpochBatches(draws, config.trainer.batch_size, (config.seed, number), distributed.group())
    if batches.repeats > OFTEN:
        log.warning(
            "fold %d: an epoch has each of the %d tiles without a mask up to %d times; more of them, or a lower "
            "semi_supervised.share or least, would be better",
            number,
            len(draws.pseudo),
            batches.repeats,
        )
    return batches


def n_pseudo(config: RunConfig) -> int:
    """Return how many tiles of a batch have no mask: at least one and not all, unless the share is 0."""
    share, size = config.semi_supervised.share, config.trainer.batch_size
    return min(max(round(share * size), 1), size - 1) if share else 0
