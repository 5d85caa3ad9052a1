"""Every loss option, and each loss against its formula written out."""

import copy
import functools
import math

import numpy as np
import pytest
import torch
from conftest import options, raw_config
from hydra.utils import get_object

from salt.components import build_part
from salt.losses.combine import LinearChange, StepChange, WeightedSum, set_progress
from salt.losses.lovasz import LovaszHinge, LovaszSymmetric
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
    return build_part("loss", node(request.param))


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


@pytest.mark.battery
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


def other_values(value):
    """Values to try instead."""
    if value is None:
        return [0.5]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1]
    if isinstance(value, float):
        return [value * 0.5, value * 0.9, value * 1.1, value + 0.5]
    return [{"relu": "elu_plus_one", "elu_plus_one": "relu"}[value]]


def variant(part, path, value):
    """The loss with the first other value that is in range."""
    for other in other_values(value):
        try:
            if other != value:
                return build_part("loss", changed(part, path, other))
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
    before = values_of(build_part("loss", node(option)))
    for path, value in settings_of(node(option)):
        after = values_of(variant(node(option), path, value))
        assert after != pytest.approx(before, rel=1e-4), f"{option}: {path}={value} has no effect"


@pytest.mark.parametrize("option", [o for o in options("loss") if "losses" not in node(o) and "first" not in node(o)])
def test_a_loss_without_settings_is_that_of_its_yaml(option):
    assert values_of(get_object(node(option)["_target_"])()) == values_of(build_part("loss", node(option)))


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
