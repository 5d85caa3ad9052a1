"""Batches with tiles of two kinds: with masks, and with pseudo-labels."""

import albumentations as A
import numpy as np
import torch

from salt.data.augment import Augment
from salt.data.loader import Draws, EpochBatches, TrainTiles
from salt.data.tiles import Tiles
from salt.machine.distributed import Group


def test_batches_have_tiles_with_masks_first_and_all_others_in_turn():
    labelled, more = np.arange(20), np.arange(100, 107)
    batches = EpochBatches(Draws(labelled, pseudo=more, n_pseudo=2), 6, (0, 1))
    epoch = [[i for _, i, _ in batch] for batch in batches]
    assert len(batches) == len(epoch) == 5
    assert all(len(b) == 6 and set(b[:4]) <= set(labelled) and set(b[4:]) <= set(more) for b in epoch)
    assert sorted(i for b in epoch for i in b[:4]) == labelled.tolist()  # each once
    drawn = [i for b in epoch for i in b[4:]]
    assert sorted(drawn[:7]) == more.tolist() and drawn[7:] == drawn[:3]  # all of them before one comes again
    plain = EpochBatches(Draws(labelled), 4, (0, 1))
    assert [[i for _, i, _ in b] for b in plain] == [b[:4] for b in epoch]
    batches.epoch, batches.first = 1, 2
    assert [[i for _, i, _ in b] for b in batches] != epoch[2:] and len(list(batches)) == 3


def test_a_repeated_tile_is_augmented_differently():
    images, masks = np.random.default_rng(0).integers(0, 255, (2, 5, 40, 40)).astype(np.uint8)
    tiles = Tiles(list("abcde"), images, masks % 2 * 255, np.zeros(5))
    batches = EpochBatches(Draws(np.arange(4), pseudo=np.arange(4, 5), n_pseudo=1), 2, (0, 1))
    keys = [key for batch in batches for key in batch if key[1] == 4]
    assert keys == [(0, 4, 0), (0, 4, 1), (0, 4, 2), (0, 4, 3)] and batches.repeats == 4
    for size in ((40, 40), (20, 20)):
        shown = TrainTiles(tiles, Augment([A.RandomBrightnessContrast(p=1)]), (0, 1), size)
        assert len({shown[key][0].numpy().tobytes() for key in keys}) == 4
        assert torch.equal(shown[keys[1]][0], shown[keys[1]][0])


def test_processes_share_both_parts_of_a_batch():
    labelled, more = np.arange(20), np.arange(100, 107)
    alone = list(EpochBatches(Draws(labelled, pseudo=more, n_pseudo=2), 6, (0, 1)))
    shares = [
        list(EpochBatches(Draws(labelled, pseudo=more, n_pseudo=2), 6, (0, 1), Group(rank, 2))) for rank in (0, 1)
    ]
    for whole, *parts in zip(alone, *shares, strict=True):
        assert [sum(i >= 100 for _, i, _ in part) for part in parts] == [1, 1]
        assert sorted(parts[0] + parts[1]) == sorted(whole)
