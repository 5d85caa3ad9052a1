"""A training step on masks that are only partly known, with every option that sees masks."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import options
from helpers.jobs import make_job

from salt import build
from salt.data.load import load_data
from salt.data.loader import TrainTiles, collate
from salt.machine.device import seed_all
from salt.models.inputs import to_float
from salt.training.setup import make_fold, make_state
from salt.training.step import train_step

WORDS = ["encoder.name=tu-test_resnet", "augment=none"]
CHOICES = [f"{group}={name}" for group in ("loss", "augment", "deep-supervision") for name in options(group)]
CHOICES += ["deep-supervision=multiscale deep_supervision.compare=masks"]


def known_parts(n, size):
    """Of each tile another part: columns, random pixels, and one tile that is whole."""
    known = np.random.default_rng(5).random((n, *size)) < 0.6
    known[::2, :, : size[1] // 3] = False
    known[3] = True
    return known


def step(config, change):
    """Loss, norm and weights after a step on the first tiles; `change` alters their masks."""
    data = load_data(config)
    known = known_parts(len(data.train.ids), data.train.images.shape[1:])
    train = dataclasses.replace(data.train, masks=change(data.train.masks, known), known=known)
    job = make_job(config, data=dataclasses.replace(data, train=train))
    seed_all(0)
    state, fold = make_state(job, 0, 10), make_fold(job, 0)
    dataset = TrainTiles(job.data.train, build.build_augment(job.config), (0, 0), job.config.data.size)
    batch = collate([dataset[(0, i, 0)] for i in range(4)])
    job.network.model.train()
    seed_all(1)
    outcome = train_step(fold, state, batch)
    return outcome, [p.detach().clone() for p in job.network.model.parameters()], batch


@pytest.mark.parametrize("choice", CHOICES)
def test_what_lies_under_unknown_pixels_changes_nothing(tiny, choice):
    config = tiny(*WORDS, *choice.split())
    found = step(config, lambda masks, known: masks)
    other = step(config, lambda masks, known: np.where(known, masks, 1 - masks).astype(np.uint8))
    assert torch.isfinite(found[0]).all() and found[0][1] > 0
    assert torch.equal(found[0], other[0]) and all(map(torch.equal, found[1], other[1]))
    if choice.startswith("loss"):  # and known pixels do change it
        changed = step(config, lambda masks, known: np.where(known, 1 - masks, masks).astype(np.uint8))
        assert not torch.equal(found[0], changed[0])


def test_the_loss_is_that_of_the_known_pixels(tiny):
    config = tiny(*WORDS, "loss=bce")
    outcome, _, batch = step(config, lambda masks, known: masks)
    job = make_job(config)
    seed_all(0)
    make_state(job, 0, 10)
    model = job.network.model.train()
    logits = model(to_float(batch.images), batch.depths.float()).logits
    seen = batch.masks < 2
    expected = F.binary_cross_entropy_with_logits(logits[seen], batch.masks[seen].float())
    torch.testing.assert_close(outcome[0], expected.detach())
