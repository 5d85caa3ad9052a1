"""What a step does with tiles that have no mask, against plain formulas."""

import math
from types import SimpleNamespace

import albumentations as A
import numpy as np
import pytest
import torch
from torch import nn

from salt import build
from salt.data.augment import Augment
from salt.data.loader import EpochBatches, TrainTiles
from salt.data.mix import NoMix
from salt.data.tiles import Tiles
from salt.inference.pseudo import confidence
from salt.machine.device import choose_runtime
from salt.models.segmenter import Output
from salt.training import setup
from salt.training.averaging import EMA
from salt.training.semi import MeanTeacher, PseudoLabels, Supervised
from salt.training.step import loss_of_batch


class Brightness(nn.Module):
    """Logits that are the grey values, and a memory of how it was called."""

    def forward(self, images, depths):
        self.was_training = self.training
        return Output(images * 1.0, [])


def test_the_teachers_probabilities_are_mixed_as_the_tiles_are():
    teacher, images = Brightness().train(), torch.rand(6, 1, 20, 30)
    np.random.seed(0)
    torch.manual_seed(0)
    mixed = MeanTeacher(share=0.5, weight=1.0, warmup=0.0).taught(teacher, images, torch.zeros(6))
    ((weight, target),) = mixed.targets
    assert weight == 1 and not teacher.was_training and not target.requires_grad
    assert (mixed.images != images).any()
    torch.testing.assert_close(target, mixed.images.sigmoid())  # pixel by pixel what the teacher says of the pixel


@pytest.mark.parametrize(("progress", "ramp"), [(0.0, math.exp(-5)), (0.1, math.exp(-5 / 4)), (0.2, 1.0), (0.9, 1.0)])
def test_the_consistency_is_a_weighted_mean_square_that_rises(progress, ramp):
    logits, target = torch.randn(4, 1, 5, 6, requires_grad=True), torch.rand(4, 1, 5, 6)
    value = MeanTeacher(share=0.5, weight=3.0, warmup=0.2).consistency(logits, target, progress)
    expected = 3 * ramp * np.mean((1 / (1 + np.exp(-logits.detach().numpy())) - target.numpy()) ** 2)
    assert value.item() == pytest.approx(expected, rel=1e-5)
    value.backward()
    assert torch.isfinite(logits.grad).all()


def test_without_warmup_the_weight_is_whole_from_the_start():
    value = MeanTeacher(share=0.5, weight=2.0, warmup=0.0).consistency(
        torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2), 0
    )
    assert value.item() == pytest.approx(0.5)


@pytest.mark.parametrize(("make", "share"), [(Supervised, 0.3), (lambda share: PseudoLabels(share, 0.9), 0.0)])
def test_a_share_that_does_not_fit_is_refused(make, share):
    with pytest.raises(ValueError, match=f"share={share}"):
        make(share)


def test_batches_have_tiles_with_masks_first_and_all_others_in_turn():
    labelled, more = np.arange(20), np.arange(100, 107)
    batches = EpochBatches(labelled, 6, (0, 1), more=more, n_more=2)
    epoch = [[i for _, i, _ in batch] for batch in batches]
    assert len(batches) == len(epoch) == 5
    assert all(len(b) == 6 and set(b[:4]) <= set(labelled) and set(b[4:]) <= set(more) for b in epoch)
    assert sorted(i for b in epoch for i in b[:4]) == labelled.tolist()  # each once
    drawn = [i for b in epoch for i in b[4:]]
    assert sorted(drawn[:7]) == more.tolist() and drawn[7:] == drawn[:3]  # all of them before one comes again
    plain = EpochBatches(labelled, 4, (0, 1))
    assert [[i for _, i, _ in b] for b in plain] == [b[:4] for b in epoch]
    batches.epoch, batches.first = 1, 2
    assert [[i for _, i, _ in b] for b in batches] != epoch[2:] and len(list(batches)) == 3


def test_a_tile_that_an_epoch_has_again_is_augmented_anew():
    images, masks = np.random.default_rng(0).integers(0, 255, (2, 5, 40, 40)).astype(np.uint8)
    tiles = Tiles(list("abcde"), images, masks % 2 * 255, np.zeros(5))
    batches = EpochBatches(np.arange(4), 2, (0, 1), more=np.arange(4, 5), n_more=1)
    keys = [key for batch in batches for key in batch if key[1] == 4]
    assert keys == [(0, 4, 0), (0, 4, 1), (0, 4, 2), (0, 4, 3)] and batches.repeats == 4
    for size in ((40, 40), (20, 20)):
        shown = TrainTiles(tiles, Augment([A.RandomBrightnessContrast(p=1)]), (0, 1), size)
        assert len({shown[key][0].numpy().tobytes() for key in keys}) == 4
        assert torch.equal(shown[keys[1]][0], shown[keys[1]][0])


def test_processes_share_both_parts_of_a_batch():
    labelled, more = np.arange(20), np.arange(100, 107)
    alone = list(EpochBatches(labelled, 6, (0, 1), more=more, n_more=2))
    shares = [list(EpochBatches(labelled, 6, (0, 1), rank, 2, more=more, n_more=2)) for rank in (0, 1)]
    for whole, *parts in zip(alone, *shares, strict=True):
        assert [sum(i >= 100 for _, i, _ in part) for part in parts] == [1, 1]
        assert sorted(parts[0] + parts[1]) == sorted(whole)


def test_confidence_is_the_iou_with_the_probabilities_or_how_low_they_are():
    p = np.array([[[0.9, 0.8], [0.2, 0.1]], [[0.1, 0.3], [0.0, 0.2]], [[1.0, 1.0], [0.0, 0.0]]], dtype=np.float32)
    masks = p > 0.5
    soft = np.minimum(p, masks).sum((1, 2)) / np.maximum(p, masks).sum((1, 2))
    np.testing.assert_allclose(confidence(p, masks), [soft[0], 0.7, 1.0], rtol=1e-6)
    assert confidence(p.astype(np.float16), masks) == pytest.approx([soft[0], 0.7, 1.0], abs=1e-3)


def test_the_loss_of_a_batch_is_that_of_its_tiles_with_masks_and_the_teachers(tiny):
    config = tiny("semi-supervised=mean_teacher", "deep-supervision=multiscale", "semi_supervised.warmup=0.0")
    model, loss = build.build_model(config).train(), build.build_loss(config)
    state = SimpleNamespace(model=model, average=EMA(build.build_model(config), decay=0.9), epoch=0)
    runtime, semi = choose_runtime(config.trainer), setup.build_semi(config)
    fold = SimpleNamespace(
        config=config, runtime=runtime, semi=semi, n_taught=2, mix=NoMix(), loss=loss, train_forward=model
    )
    images, masks, depths = torch.rand(5, 1, 101, 101), (torch.rand(5, 1, 101, 101) < 0.5).float(), torch.zeros(5)

    def draws():
        np.random.seed(0)
        torch.manual_seed(0)

    draws()
    value = loss_of_batch(fold, state, images, masks, depths)
    draws()
    taught = semi.taught(state.average.module, images[3:], depths[3:])
    output = model(torch.cat([images[:3], taught.images]), depths)
    labelled = model.loss(Output(output.logits[:3], [part[:3] for part in output.extra]), masks[:3], loss)
    unlabelled = 10 * (output.logits[3:].sigmoid() - taught.targets[0][1]).square().mean()
    assert unlabelled > 0.1
    torch.testing.assert_close(value, labelled + unlabelled)
    masks[3:] = 1 - masks[3:]  # what stands in for the masks of the others does not matter
    draws()
    assert torch.equal(loss_of_batch(fold, state, images, masks, depths), value)
