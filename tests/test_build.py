"""What the types of settings say is checked before anything is built."""

import pytest

from salt.build import build_gate, build_loss, build_model
from salt.training.setup import build_optimizer


@pytest.mark.parametrize(
    ("make", "overrides", "message"),
    [
        (build_loss, ["loss=lovasz", "loss.per_image=no"], "loss: per_image='no', expected"),
        (build_loss, ["loss=bce_dice", "loss.losses.1.per_image=off"], "loss: losses.1.per_image='off', expected"),
        (build_loss, ["loss=bootstrapped_ce", "loss.fraction=true"], "loss: fraction=True, expected"),
        (build_loss, ["loss=bce_dice", "loss.weights=1"], "loss: weights=1, expected"),
        (build_model, ["deep-supervision=nonempty", "deep_supervision.gate=nein"], "deep-supervision: gate='nein'"),
        (build_model, ["hypercolumn=concat", "hypercolumn.width=64.0"], "hypercolumn: width=64.0, expected"),
        (build_model, ["center=dblock", "center.dilations=[1.5]"], r"center: dilations=\[1.5\], expected"),
        (build_model, ["input=resize_128", "input.size=128.5"], "input: size=128.5, expected"),
        (build_model, ["+center.foo=1"], "center: the choice without effect has no settings, found foo"),
        (build_gate, ["attention.decoder=all"], "attention=none has no gate for the stages"),
        (build_gate, ["attention.encoder=[1,2]"], "attention=none has no gate for the stages"),
    ],
)
def test_refused_with_group_and_setting(tiny, make, overrides, message):
    with pytest.raises(ValueError, match=message):
        make(tiny(*[f"{o}" for o in overrides]))


def test_whole_numbers_are_real_numbers_too(tiny):
    import torch

    build_optimizer(tiny("optimizer.weight_decay=0"), torch.nn.Linear(1, 1))
    build_loss(tiny("loss=focal", "loss.gamma=2"))
    build_loss(tiny("loss=focal", "loss.alpha=null"))
