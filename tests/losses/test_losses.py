"""Every loss option, and each loss against its formula written out."""

import itertools
import math

import numpy as np
import pytest
import torch
from conftest import options, raw_config
from hypothesis import given, settings
from hypothesis import strategies as st

from salt.build import build
from salt.losses.combine import Step, WeightedSum, set_progress
from salt.losses.lovasz import LovaszHinge, jaccard_gradient
from salt.losses.pixel import BCE
from salt.losses.region import Dice


def example(seed=0, n=2, size=6, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, 1, size, size, generator=generator, dtype=torch.float32).to(dtype)
    masks = (torch.rand(n, 1, size, size, generator=generator) < 0.4).float()
    return logits.requires_grad_(), masks


@pytest.fixture(params=options("loss"))
def loss(request):
    return build("loss", raw_config(f"loss={request.param}")["loss"])


@pytest.mark.parametrize("progress", [0.0, 0.99])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", ["mixed", "empty", "full"])
def test_every_option_gives_a_finite_loss_and_gradient(loss, dtype, case, progress):
    set_progress(loss, progress)
    logits, masks = example(dtype=dtype, n=1 if case == "full" else 2, size=101)
    masks = {"mixed": masks, "empty": torch.zeros_like(masks), "full": torch.ones_like(masks)}[case]
    value = loss(logits, masks)
    value.backward()
    assert value.shape == () and torch.isfinite(value) and value.dtype == torch.float32
    assert torch.isfinite(logits.grad).all() and logits.grad.abs().sum() > 0


def test_every_option_prefers_the_truth(loss):
    _, masks = example(size=20)
    right, wrong = (20 * (2 * masks - 1)), (20 * (1 - 2 * masks))
    assert loss(right, masks) < 0.01 < loss(wrong, masks)


def test_bce_by_formula():
    logits, masks = example()
    p = 1 / (1 + np.exp(-logits.detach().numpy().astype(np.float64)))
    expected = -(masks.numpy() * np.log(p) + (1 - masks.numpy()) * np.log(1 - p)).mean()
    assert BCE()(logits, masks).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("per_image", [True, False])
def test_dice_by_formula(per_image):
    logits, masks = example(n=3)
    p, y = logits.detach().sigmoid(), masks
    regions = [(p[i], y[i]) for i in range(3)] if per_image else [(p, y)]
    expected = sum(1 - (2 * (a * b).sum() + 2) / (a.sum() + b.sum() + 2) for a, b in regions) / len(regions)
    assert Dice(per_image, smooth=2.0)(logits, masks).item() == pytest.approx(expected.item(), rel=1e-6)


def jaccard_loss(wrong: np.ndarray, labels: np.ndarray) -> float:
    """1 - IoU when the pixels `wrong` are misclassified."""
    prediction = labels ^ wrong
    union = (labels | prediction).sum()
    return 1 - (labels & prediction).sum() / union if union else 0.0


def lovasz_extension(errors: np.ndarray, labels: np.ndarray) -> float:
    """Sum over the sorted errors of error * (growth of the set function), straight from its definition."""
    order = np.argsort(-errors, kind="stable")
    total, wrong = 0.0, np.zeros_like(labels)
    for pixel in order:
        before = jaccard_loss(wrong, labels)
        wrong[pixel] = True
        total += errors[pixel] * (jaccard_loss(wrong, labels) - before)
    return total


@pytest.mark.parametrize("phi", ["relu", "elu_plus_one"])
@pytest.mark.parametrize("seed", range(4))
def test_lovasz_is_the_extension_of_the_jaccard_set_function(phi, seed):
    logits, masks = example(seed, n=3, size=5)
    masks[0] = 0
    expected = []
    for logit, mask in zip(logits.detach().flatten(1).double().numpy(), masks.flatten(1).numpy(), strict=True):
        error = 1 - logit * (2 * mask - 1)
        cost = np.maximum(error, 0) if phi == "relu" else np.where(error > 0, error + 1, np.exp(error))
        expected.append(lovasz_extension(cost, mask.astype(bool)))
    assert LovaszHinge(phi)(logits, masks).item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_lovasz_on_zero_one_errors_is_the_jaccard_loss():
    for labels in itertools.product([0, 1], repeat=4):
        for wrong in itertools.product([0, 1], repeat=4):
            y, w = np.array(labels, bool), np.array(wrong, bool)
            logits = torch.tensor(np.where(y == w, 0.0, 2.0) - 1.0)  # right by exactly 1 (no error) where y != w ...
            signs = torch.tensor(2.0 * y - 1)
            logits = torch.where(torch.tensor(w), torch.zeros(4), signs.float())  # error 1 where wrong, 0 where right
            value = LovaszHinge("relu")(logits.view(1, 1, 2, 2), torch.tensor(y).float().view(1, 1, 2, 2))
            assert value.item() == pytest.approx(jaccard_loss(w, y), abs=1e-6)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 1), min_size=1, max_size=60))
def test_jaccard_gradient_sums_to_one_and_is_not_negative(labels):
    gradient = jaccard_gradient(torch.tensor([labels]))
    assert gradient.sum().item() == pytest.approx(1, abs=1e-5)
    assert gradient.min() >= -1e-6


@settings(max_examples=50)
@given(st.integers(0, 2**31), st.integers(0, 2**31))
def test_lovasz_does_not_depend_on_the_order_of_pixels(seed, shuffle):
    logits, masks = example(seed, n=2, size=5)
    order = torch.randperm(25, generator=torch.Generator().manual_seed(shuffle))
    moved = [t.flatten(1)[:, order].view(2, 1, 5, 5) for t in (logits.detach(), masks)]
    assert LovaszHinge()(*moved).item() == pytest.approx(LovaszHinge()(logits, masks).item(), rel=1e-5)


def test_half_precision_logits_are_counted_in_float32():
    logits, masks = example(size=101, dtype=torch.float16)
    exact = LovaszHinge()(logits.detach().float(), masks).item()
    assert math.isclose(LovaszHinge()(logits, masks.half()).item(), exact, rel_tol=1e-6)


def test_weighted_sum_and_step():
    logits, masks = example()
    total = WeightedSum([BCE(), Dice()], [0.5, 2.0])
    assert total(logits, masks).item() == pytest.approx(
        0.5 * BCE()(logits, masks).item() + 2 * Dice()(logits, masks).item()
    )
    step = WeightedSum([Step(BCE(), LovaszHinge(), at=0.5)], [1.0])
    for progress, expected in ((0.0, BCE()), (0.49, BCE()), (0.5, LovaszHinge()), (0.99, LovaszHinge())):
        set_progress(step, progress)
        assert step(logits, masks).item() == expected(logits, masks).item()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Dice(smooth=0),
        lambda: LovaszHinge("gelu"),
        lambda: WeightedSum([BCE()], [1, 2]),
        lambda: WeightedSum([BCE()], [-1]),
        lambda: Step(BCE(), BCE(), at=1.0),
    ],
)
def test_refused(make):
    with pytest.raises(ValueError, match="expected"):
        make()
