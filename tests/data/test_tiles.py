"""Augmentation and batches: the same for the same seed, different otherwise, whoever makes them."""

import numpy as np
import pytest
import torch
from conftest import options, raw_config

from salt.build import build
from salt.data.tiles import EpochBatches, TrainTiles, train_loader


def tiles(n=10):
    rng = np.random.default_rng(0)
    masks = np.zeros((n, 101, 101), np.uint8)
    masks[:, 30:70, 20:50] = 1
    images = (masks * 200 + rng.integers(0, 30, masks.shape)).astype(np.uint8)
    return images, masks


@pytest.fixture(params=options("augment"))
def augment(request):
    return build("augment", raw_config(f"augment={request.param}")["augment"])


def test_every_option_keeps_shape_type_and_values(augment):
    images, masks = tiles()
    for i in range(10):
        image, mask = augment(images[i], masks[i], (0, 0, 0, i))
        assert image.shape == mask.shape == (101, 101)
        assert image.dtype == mask.dtype == np.uint8
        assert set(np.unique(mask)) <= {0, 1}


def test_every_option_moves_image_and_mask_together(augment):
    images, masks = tiles()
    for i in range(10):
        image, mask = augment(images[i], masks[i], (0, 0, 0, i))
        inside, outside = image[mask == 1], image[mask == 0]
        assert np.median(inside) > 100 > np.median(outside)
        assert ((image > 100) == (mask == 1)).mean() > 0.97


def test_the_seed_alone_decides(augment):
    images, masks = tiles()
    a = [augment(images[0], masks[0], (0, 0, 0, i))[0] for i in range(8)]
    b = [augment(images[0], masks[0], (0, 0, 0, i))[0] for i in reversed(range(8))][::-1]
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    if augment.compose.transforms:
        assert any(not np.array_equal(a[0], x) for x in a)


def test_transforms_draw_independently():
    flips = [{"_target_": f"albumentations.{name}Flip", "p": 0.5} for name in ("Horizontal", "Vertical")]
    both = build("augment", {"_target_": "salt.data.augment.Augment", "transforms": flips})
    image = np.arange(4, dtype=np.uint8).reshape(2, 2)
    seen = {both(image, image, (i,))[0].tobytes() for i in range(40)}
    assert len(seen) == 4


def test_a_misspelt_argument_is_refused():
    node = {
        "_target_": "salt.data.augment.Augment",
        "transforms": [{"_target_": "albumentations.HorizontalFlip", "probability": 1}],
    }
    with (
        pytest.warns(UserWarning, match="probability"),
        pytest.raises(ValueError, match="augment: cannot build"),
    ):
        build("augment", node)


def batches_of(workers, epochs=(0, 1), option="light"):
    images, masks = tiles(12)
    augment = build("augment", raw_config(f"augment={option}")["augment"])
    sampler = EpochBatches(np.arange(2, 12), 4, seed=(0, 1))
    loader = train_loader(TrainTiles(images, masks, augment, (0, 1)), sampler, workers, pin_memory=False)
    result = []
    for epoch in epochs:
        sampler.epoch = epoch
        result += [(batch.index, batch.images, batch.masks) for batch in loader]
    return result


def test_each_position_at_most_once_an_epoch_in_another_order():
    batches = batches_of(0)
    epochs = [
        torch.cat([b[0] for b in batches[:2]]).tolist(),
        torch.cat([b[0] for b in batches[2:]]).tolist(),
    ]
    for epoch in epochs:
        assert len(set(epoch)) == 8 and set(epoch) <= set(range(2, 12))
    assert epochs[0] != epochs[1]


@pytest.mark.slow
def test_worker_processes_make_the_same_batches():
    for a, b in zip(batches_of(0), batches_of(2), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_resuming_at_an_epoch_makes_the_same_batches():
    for a, b in zip(batches_of(0)[2:], batches_of(0, epochs=[1]), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
