"""The Lovász hinge, against the Lovász extension of the Jaccard set function."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_losses import example

from salt.losses.lovasz import LovaszHinge, LovaszSymmetric, jaccard_gradient


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


def lovasz(logits, masks, phi, per_image=True):
    """Lovász hinge, image by image, or of one image with the pixels of all."""
    rows = [t.detach().double().numpy().reshape(len(t) if per_image else 1, -1) for t in (logits, masks)]
    values = []
    for logit, mask in zip(*rows, strict=True):
        error = 1 - logit * (2 * mask - 1)
        cost = np.maximum(error, 0) if phi == "relu" else np.where(error > 0, error + 1, np.exp(error))
        values.append(lovasz_extension(cost, mask.astype(bool)))
    return np.mean(values)


@pytest.mark.parametrize("per_image", [True, False])
@pytest.mark.parametrize("phi", ["relu", "elu_plus_one"])
@pytest.mark.parametrize("seed", range(4))
def test_lovasz_is_the_extension_of_the_jaccard_set_function(phi, per_image, seed):
    logits, masks = example(seed, n=3, size=5)
    masks[0] = 0
    plain = lovasz(logits, masks, phi, per_image)
    background = lovasz(-logits, 1 - masks, phi, per_image)
    assert LovaszHinge(phi, per_image)(logits, masks).item() == pytest.approx(plain, rel=1e-5)
    symmetric = LovaszSymmetric(phi, per_image)(logits, masks).item()
    assert symmetric == pytest.approx((plain + background) / 2, rel=1e-5)


def test_symmetric_lovasz_reaches_every_wrong_pixel_of_an_empty_image():
    logits, masks = example(n=1)
    logits.data.abs_()  # all are wrong
    for loss, n_reached in ((LovaszHinge("relu"), 1), (LovaszSymmetric("relu"), 36)):
        (gradient,) = torch.autograd.grad(loss(logits, torch.zeros_like(masks)), logits)
        assert (gradient != 0).sum() == n_reached


def test_lovasz_on_zero_one_errors_is_the_jaccard_loss():
    for labels in itertools.product([0, 1], repeat=4):
        for wrong in itertools.product([0, 1], repeat=4):
            y, w = np.array(labels, bool), np.array(wrong, bool)
            logits = torch.tensor(np.where(w, 0.0, 2.0 * y - 1)).float()  # error 1 where wrong, 0 where right
            value = LovaszHinge("relu")(logits.view(1, 1, 2, 2), torch.tensor(y).float().view(1, 1, 2, 2))
            assert value.item() == pytest.approx(jaccard_loss(w, y), abs=1e-6)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 1), min_size=1, max_size=60))
def test_jaccard_gradient_sums_to_one_and_is_not_negative(labels):
    gradient = jaccard_gradient(torch.tensor([labels]))
    assert gradient.sum().item() == pytest.approx(1, abs=1e-5)
    assert gradient.min() >= -1e-6


@pytest.mark.parametrize("share", [0.001, 0.4, 0.999])
def test_jaccard_gradient_of_a_whole_batch_is_exact_in_single_precision(share):
    n = 8 * 101 * 101  # pixels; neighbours of 1 - intersection / union are equal in float32 here
    labels = torch.rand(1, n, generator=torch.Generator().manual_seed(0)) < share
    intersection = union = int(labels.sum())
    expected = []
    for salt in labels[0].tolist():
        before = (intersection, union)
        intersection, union = intersection - salt, union + 1 - salt
        expected.append((before[0] * union - intersection * before[1]) / (before[1] * union))  # exact but for this /
    gradient = jaccard_gradient(labels)
    assert gradient.dtype == torch.float32
    np.testing.assert_allclose(gradient[0].numpy(), expected, rtol=1e-6, atol=1e-15)


@settings(max_examples=50)
@given(st.integers(0, 2**31), st.integers(0, 2**31))
def test_lovasz_does_not_depend_on_the_order_of_pixels(seed, shuffle):
    logits, masks = example(seed, n=2, size=5)
    order = torch.randperm(25, generator=torch.Generator().manual_seed(shuffle))
    moved = [t.flatten(1)[:, order].view(2, 1, 5, 5) for t in (logits.detach(), masks)]
    assert LovaszHinge()(*moved).item() == pytest.approx(LovaszHinge()(logits, masks).item(), rel=1e-5)
