"""Dice, against its formula."""

import pytest
import segmentation_models_pytorch as smp
from test_losses import example

from salt.losses.region import Dice


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
