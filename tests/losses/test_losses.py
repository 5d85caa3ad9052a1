"""Every loss option, and each loss against its formula written out."""

import copy
import functools
import itertools
import math
import re

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from conftest import options, raw_config
from hydra.utils import get_object
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from salt.build import build
from salt.losses.combine import LinearChange, StepChange, WeightedSum, set_progress
from salt.losses.lovasz import LovaszHinge, LovaszSymmetric, jaccard_gradient
from salt.losses.pixel import BCE, OHEM, BootstrappedCE, Focal
from salt.losses.region import Dice

PROGRESS = (0.0, 0.5, 0.99)


def example(seed=0, n=2, size=6, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, 1, size, size, generator=generator, dtype=torch.float32).to(dtype)
    masks = (torch.rand(n, 1, size, size, generator=generator) < 0.4).float()
    return logits.requires_grad_(), masks


def easy_example(seed=0):
    """Every pixel is right by a margin, and two images have less salt than the third."""
    noise, masks = example(seed, n=3, size=12)
    masks[0], masks[1, :, 2:] = 0, 0
    return 8 * (2 * masks - 1) + noise.detach(), masks


@functools.cache
def node(option):
    return raw_config(f"loss={option}")["loss"]


@pytest.fixture(params=options("loss"))
def loss(request):
    return build("loss", node(request.param))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", ["mixed", "empty", "full", "one", "one empty"])
def test_every_option_gives_a_finite_loss_and_gradient(loss, dtype, case):
    for progress in PROGRESS:
        set_progress(loss, progress)
        logits, masks = example(dtype=dtype, n=1 if "one" in case else 2, size=101)
        masks = torch.zeros_like(masks) if "empty" in case else torch.ones_like(masks) if case == "full" else masks
        value = loss(logits, masks)
        (1024 * value).backward()  # as a GradScaler would: Dice's gradient on an empty tile is below float16's range
        assert value.shape == () and torch.isfinite(value) and value.dtype == torch.float32
        assert torch.isfinite(logits.grad).all() and logits.grad.abs().sum() > 0


def test_every_option_prefers_the_truth(loss):
    _, masks = example(size=20)
    right, wrong = (20 * (2 * masks - 1)), (20 * (1 - 2 * masks))
    for progress in PROGRESS:
        set_progress(loss, progress)
        assert loss(right, masks) < 0.01 < loss(wrong, masks)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float16, torch.bfloat16, torch.float64])
def test_every_option_takes_masks_of_any_type(loss, dtype):
    logits, masks = example(n=3)
    for progress in PROGRESS:
        set_progress(loss, progress)
        value = loss(logits, masks.to(dtype))
        assert value.dtype == torch.float32 and value.item() == loss(logits, masks).item()


def test_every_option_counts_half_precision_logits_in_float32(loss):
    logits, masks = example(size=101, dtype=torch.float16)
    for progress in PROGRESS:
        set_progress(loss, progress)
        exact = loss(logits.detach().float(), masks).item()
        assert math.isclose(loss(logits, masks.half()).item(), exact, rel_tol=1e-6)


def test_every_option_survives_the_compiler(loss):
    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for progress in PROGRESS:
        set_progress(loss, progress)
        gradients, values = [], []
        for function in (loss, compiled):
            logits, masks = example(n=3)
            values.append(function(logits, masks))
            values[-1].backward()
            gradients.append(logits.grad)
        torch.testing.assert_close(values[1], values[0])
        torch.testing.assert_close(gradients[1], gradients[0])


def settings_of(part, path=()):
    """Path and value of every hyper-parameter below a node of a YAML option."""
    if isinstance(part, dict | list):
        for key, value in part.items() if isinstance(part, dict) else enumerate(part):
            if not str(key).startswith("_"):
                yield from settings_of(value, (*path, key))
    else:
        yield path, part


def changed(part, path, value):
    """A copy of the node with another value at the path."""
    part = copy.deepcopy(part)
    *parents, last = path
    functools.reduce(lambda inner, key: inner[key], parents, part)[last] = value
    return part


def other_values(part, path, value):
    """Values to try instead; of a string the choices that its refusal names."""
    if value is None:
        return [0.5]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1]
    if isinstance(value, float):
        return [value * 0.5, value * 0.9, value * 1.1, value + 0.5]
    with pytest.raises(ValueError, match=r"no-such-choice.*, expected ") as refusal:
        build("loss", changed(part, path, "no-such-choice"))
    choices = re.split(", | or ", str(refusal.value).rpartition("expected ")[2].removeprefix("one of "))
    assert value in choices
    return [choice for choice in choices if choice != value]


def variant(part, path, value):
    """The loss with the first other value that is in range."""
    for other in other_values(part, path, value):
        try:
            if other != value:
                return build("loss", changed(part, path, other))
        except ValueError:
            continue
    raise AssertionError(f"{path}={value}: no other value is accepted")


def values_of(loss):
    """Loss of a difficult and an easy batch at many moments of a run."""
    values = []
    for progress in np.arange(0, 1, 0.05):
        set_progress(loss, float(progress))
        values += [loss(*batch).item() for batch in (example(n=3, size=12), easy_example())]
    return values


@pytest.mark.parametrize("option", options("loss"))
def test_every_setting_of_every_option_changes_the_loss(option):
    before = values_of(build("loss", node(option)))
    for path, value in settings_of(node(option)):
        after = values_of(variant(node(option), path, value))
        assert after != pytest.approx(before, rel=1e-4), f"{option}: {path}={value} has no effect"


@pytest.mark.parametrize("option", [o for o in options("loss") if "losses" not in node(o) and "first" not in node(o)])
def test_a_loss_without_settings_is_that_of_its_yaml(option):
    assert values_of(get_object(node(option)["_target_"])()) == values_of(build("loss", node(option)))


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


@pytest.mark.parametrize("per_image", [True, False])
def test_dice_by_formula(per_image):
    logits, masks = example(n=3)
    p, y = logits.detach().sigmoid(), masks
    regions = [(p[i], y[i]) for i in range(3)] if per_image else [(p, y)]
    expected = sum(1 - (2 * (a * b).sum() + 2) / (a.sum() + b.sum() + 2) for a, b in regions) / len(regions)
    assert Dice(per_image, smooth=2.0)(logits, masks).item() == pytest.approx(expected.item(), rel=1e-6)


def test_dice_s_smoothing_is_twice_that_of_segmentation_models_pytorch():
    logits, masks = example(n=3)
    theirs = smp.losses.DiceLoss("binary", smooth=1.0)(logits, masks).item()
    assert Dice(per_image=False, smooth=2.0)(logits, masks).item() == pytest.approx(theirs, rel=1e-6)
    assert Dice(per_image=False, smooth=1.0)(logits, masks).item() != pytest.approx(theirs, rel=1e-3)


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


def test_weighted_sum_and_step():
    logits, masks = example()
    total = WeightedSum([BCE(), Dice()], [0.5, 2.0])
    assert total(logits, masks).item() == pytest.approx(
        0.5 * BCE()(logits, masks).item() + 2 * Dice()(logits, masks).item()
    )
    assert WeightedSum([BCE(), Dice()], [0, 1])(logits, masks).item() == Dice()(logits, masks).item()
    assert (
        StepChange(BCE(), Forbidden(), at=0.5)(logits, masks).item() == BCE()(logits, masks).item()
    )  # at the beginning
    step = WeightedSum([StepChange(BCE(), LovaszHinge(), at=0.5)], [1.0])
    for progress, expected in ((0.0, BCE()), (0.49, BCE()), (0.5, LovaszHinge()), (0.99, LovaszHinge())):
        set_progress(step, progress)
        assert step(logits, masks).item() == expected(logits, masks).item()


class Forbidden(nn.Module):
    def forward(self, logits, masks):
        raise AssertionError("computed")


def test_linear_hands_over():
    logits, masks = example()
    bce, lovasz_hinge = BCE()(logits, masks).item(), LovaszHinge()(logits, masks).item()
    loss = LinearChange(BCE(), LovaszHinge(), start=0.2, end=0.6)
    for progress, weight in ((0, 0), (0.1, 0), (0.2, 0), (0.3, 0.25), (0.4, 0.5), (0.5, 0.75), (0.6, 1), (0.99, 1)):
        set_progress(loss, progress)
        assert loss(logits, masks).item() == pytest.approx((1 - weight) * bce + weight * lovasz_hinge, rel=1e-6)


@pytest.mark.parametrize(
    "loss, progress",
    [
        (LinearChange(BCE(), Forbidden(), start=0.2, end=0.6), 0.2),
        (LinearChange(Forbidden(), BCE(), start=0.2, end=0.6), 0.6),
        (LinearChange(Forbidden(), BCE(), start=0.0, end=0.1), 0.99),
        (StepChange(BCE(), Forbidden(), at=0.4), 0.39),
        (StepChange(Forbidden(), BCE(), at=0.4), 0.4),
    ],
)
def test_a_loss_of_weight_zero_is_not_computed(loss, progress):
    logits, masks = example()
    set_progress(loss, progress)
    assert loss(logits, masks).item() == BCE()(logits, masks).item()


def test_progress_reaches_every_loss_that_changes():
    inner = LinearChange(BCE(), Dice(), start=0.0, end=1.0)
    outer = StepChange(WeightedSum([inner, StepChange(BCE(), Dice(), at=0.5)], [1.0, 1.0]), inner, at=0.9)
    set_progress(nn.ModuleDict({"any": outer}), 0.25)
    changing = [module for module in outer.modules() if isinstance(module, StepChange | LinearChange)]
    assert len(changing) == 3 and all(module.progress == 0.25 for module in changing)
    logits, masks = example()
    expected = (0.75 + 1) * BCE()(logits, masks).item() + 0.25 * Dice()(logits, masks).item()
    assert outer(logits, masks).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: BootstrappedCE(0), "fraction=0, expected"),
        (lambda: BootstrappedCE(1.5), "fraction=1.5, expected"),
        (lambda: OHEM(threshold=70), "threshold=70, expected"),
        (lambda: OHEM(threshold=1.01), "threshold=1.01, expected"),
        (lambda: OHEM(min_kept=1.01), "min_kept=1.01, expected"),
        (lambda: Focal(gamma=-1), "gamma=-1, expected"),
        (lambda: Focal(gamma=math.nan), "gamma=nan, expected"),
        (lambda: Focal(alpha=1), "alpha=1, expected"),
        (lambda: Focal(alpha=0), "alpha=0, expected"),
        (lambda: Dice(smooth=0), "smooth=0, expected"),
        (lambda: LovaszHinge("gelu"), "^phi='gelu', expected relu or elu_plus_one$"),
        (lambda: LovaszSymmetric("gelu"), "^phi='gelu', expected relu or elu_plus_one$"),
        (lambda: WeightedSum([BCE()], [1, 2]), r"weights=\[1, 2\], expected"),
        (lambda: WeightedSum([BCE()], [-1]), r"weights=\[-1\], expected"),
        (lambda: StepChange(BCE(), BCE(), at=1.0), "at=1.0, expected"),
        (lambda: StepChange(BCE(), BCE(), at=0.0), "at=0.0, expected"),
        (lambda: LinearChange(BCE(), BCE(), start=0.6, end=0.2), "start=0.6, end=0.2, expected"),
        (lambda: LinearChange(BCE(), BCE(), start=0.5, end=0.5), "start=0.5, end=0.5, expected"),
        (lambda: LinearChange(BCE(), BCE(), start=-0.1, end=0.5), "start=-0.1, end=0.5, expected"),
        (lambda: LinearChange(BCE(), BCE(), start=0.5, end=1.1), "start=0.5, end=1.1, expected"),
    ],
)
def test_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
