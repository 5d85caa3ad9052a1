"""Sums of losses and changes by epoch."""

import pytest
from test_losses import example
from torch import nn

from salt.losses.combine import LinearChange, StepChange, WeightedSum, set_progress
from salt.losses.lovasz import LovaszHinge
from salt.losses.pixel import BCE
from salt.losses.region import Dice


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
    def forward(self, logits, masks, known=None):
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
