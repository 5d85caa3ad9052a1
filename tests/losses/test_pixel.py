"""Losses that are a mean over pixels, against their formulas."""

import math

import numpy as np
import pytest
import torch
from test_losses import example

from salt.losses.pixel import BCE, OHEM, BootstrappedCE, Focal


def test_bce_by_formula():
    logits, masks = example()
    p = 1 / (1 + np.exp(-logits.detach().numpy().astype(np.float64)))
    expected = -(masks.numpy() * np.log(p) + (1 - masks.numpy()) * np.log(1 - p)).mean()
    assert BCE()(logits, masks).item() == pytest.approx(expected, rel=1e-6)


def pixel_losses(logits, masks):
    """-log p of every pixel's true class (N P), in float64."""
    z, y = (t.detach().double().flatten(1).numpy() for t in (logits, masks))
    return np.array(
        [[math.log1p(math.exp(-a if b else a)) for a, b in zip(*row, strict=True)] for row in zip(z, y, strict=True)]
    )


def test_bootstrapped_ce_is_the_mean_of_each_image_s_hardest_pixels():
    logits, masks = example(n=3, size=7)
    logits = logits * torch.tensor([0.1, 1, 5]).view(3, 1, 1, 1)  # else a choice over the batch would look the same
    for fraction, k in ((0.25, 12), (0.001, 1), (0.5, 24), (1.0, 49)):
        means = [sum(sorted(row, reverse=True)[:k]) / k for row in pixel_losses(logits, masks)]
        assert BootstrappedCE(fraction)(logits, masks).item() == pytest.approx(sum(means) / 3, rel=1e-5)


def ohem(logits, masks, threshold, n_min):
    """Mean loss of the pixels in the order of their probability, until both conditions end."""
    kept = []
    for loss in sorted(pixel_losses(logits, masks).flatten(), reverse=True):
        if math.exp(-loss) > threshold and len(kept) >= n_min:
            break
        kept.append(loss)
    return sum(kept) / len(kept), len(kept)


@pytest.mark.parametrize(
    "threshold, min_kept, n_min",
    [(0.7, 0.0625, 9), (0.1, 0.5, 74), (0.0, 0.25, 37), (0.7, 0.0, 1), (0.0, 0.0, 1), (1, 0, 1)],
)
def test_ohem_keeps_the_hardest_pixels(threshold, min_kept, n_min):
    logits, masks = example(n=3, size=7)
    logits = logits * torch.tensor([0.1, 1, 5]).view(3, 1, 1, 1)
    expected, n_kept = ohem(logits, masks, threshold, n_min)
    by_threshold = sum(math.exp(-loss) <= threshold for loss in pixel_losses(logits, masks).flatten())
    assert n_kept == max(by_threshold, n_min)
    assert OHEM(threshold, min_kept)(logits, masks).item() == pytest.approx(expected, rel=1e-5)


def test_ohem_ranks_pixels_whose_probability_rounds_to_one():
    logits = torch.tensor([30.0, 25.0, 40.0, 20.0]).view(1, 1, 2, 2).requires_grad_()
    value = OHEM(0.7, min_kept=0.25)(logits, torch.ones(1, 1, 2, 2))
    value.backward()
    assert value.item() == pytest.approx(math.log1p(math.exp(-20)), rel=1e-5)
    assert logits.grad.flatten().nonzero().tolist() == [[3]]


def test_ohem_keeps_a_probability_on_the_threshold():
    logits = torch.tensor([-1.0, 0.0]).view(1, 1, 1, 2).requires_grad_()
    OHEM(0.5, min_kept=0)(logits, torch.ones(1, 1, 1, 2)).backward()
    assert (logits.grad != 0).all()


def test_ohem_of_all_pixels_is_bce():
    logits, masks = example()
    assert OHEM(0, min_kept=1)(logits, masks).item() == pytest.approx(BCE()(logits, masks).item(), rel=1e-6)


def test_ohem_keeps_all_that_are_as_hard_as_the_last():
    logits = torch.tensor([2.0, 2.0, 2.0, 9.0]).view(1, 1, 2, 2).requires_grad_()
    OHEM(0.7, min_kept=0.25)(logits, torch.ones(1, 1, 2, 2)).backward()
    assert logits.grad.flatten().nonzero().flatten().tolist() == [0, 1, 2]


def focal(logit, salt, gamma, alpha):
    """One pixel's focal loss; 1 - p is taken from the other class, as p may round to 1."""
    p, rest = (1 / (1 + math.exp(-z)) for z in ((logit, -logit) if salt else (-logit, logit)))
    weight = 1 if alpha is None else alpha if salt else 1 - alpha
    return -weight * rest**gamma * math.log(p)


@pytest.mark.parametrize("alpha", [None, 0.25, 0.8])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_focal_by_formula(gamma, alpha):
    logits, masks = example(n=3)
    pairs = zip((4 * logits.detach()).double().flatten().tolist(), masks.flatten().tolist(), strict=True)
    expected = np.mean([focal(z, y, gamma, alpha) for z, y in pairs])
    assert Focal(gamma, alpha)(4 * logits, masks).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 1e-3, 0.5, 1.0, 2.0, 50.0])
@pytest.mark.parametrize("salt", [0, 1])
@pytest.mark.parametrize("logit", [-1e30, -200.0, -90.0, 0.0, 90.0, 200.0, 1e30])
def test_focal_stays_finite_for_extreme_logits(logit, salt, gamma):
    logits = torch.full((1, 1, 1, 1), logit, requires_grad=True)
    value = Focal(gamma, alpha=None)(logits, torch.full((1, 1, 1, 1), float(salt)))
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(logits.grad).all()
    if abs(logit) <= 200:
        assert value.item() == pytest.approx(focal(logit, salt, gamma, None), rel=1e-4, abs=1e-30)
