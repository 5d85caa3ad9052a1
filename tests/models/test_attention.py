"""Are the gates' hidden units alive? A ReLU that is 0 for each tile of a batch makes a gate that learns nothing."""

import pytest
import torch
from conftest import options
from helpers.networks import SMALL_TILES, SMALL_UNET, batch, built

from salt.models.attention import CSE

SEEDS = 30
RECIPE = ["data=synthetic", "encoder=efficientnet_lite0", "encoder.weights=null", "input=reflect_pad_104"]


def alive(gate, x):
    """How many hidden units of a channel gate are above 0 for some tile of maps (N C H W)."""
    hidden = gate.gate[:2](x.mean(dim=(2, 3), keepdim=True))
    return int((hidden > 0).any(dim=0).sum())


@torch.no_grad()
def gated_maps(decoder, reduction):
    """The maps (N C H W) before each channel gate of a network with random weights, by the gate's name."""
    base = [*SMALL_TILES, "attention.encoder=[]"] if decoder == "tiramisu" else RECIPE
    overrides = [*base, f"decoder={decoder}", "attention=scse", f"attention.reduction={reduction}"]
    _, model = built([o for o in overrides if o != SMALL_UNET])
    seen = {}
    for name, part in model.named_modules():
        if isinstance(part, CSE):
            part.gate.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0]}))
    model.train()(*batch(model, 8)[:2])
    return seen


@pytest.mark.parametrize("option", ["cse", "scse"])
def test_the_default_leaves_hidden_units_for_16_channels(option):
    _, model = built([*RECIPE, "decoder=unet_small", f"attention={option}"])
    widths = {m.gate[2].out_channels: m.gate[0].out_channels for m in model.modules() if isinstance(m, CSE)}
    assert widths[16] == 8 and all(hidden == channels // 2 for channels, hidden in widths.items())


@pytest.mark.parametrize("decoder", options("decoder"))
@torch.no_grad()
def test_no_gate_is_dead_at_the_start(decoder):
    for name, x in gated_maps(decoder, 2).items():
        counts = []
        for seed in range(SEEDS):
            torch.manual_seed(seed)
            counts.append(alive(CSE(x.shape[1]), x))
        assert min(counts) >= 1, f"{name}: {counts} of {x.shape[1] // 2}"
