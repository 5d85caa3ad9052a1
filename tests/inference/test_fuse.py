"""Batch norms folded into convolutions: the same logits, for every option of the network."""

import pytest
import torch
from conftest import options, raw_config
from torch import nn

from salt.build import build_model
from salt.config import check_config
from salt.inference.fuse import fold_batch_norms
from salt.models.segmenter import Output

GROUPS = ("input", "attention", "center", "decoder", "hypercolumn", "deep-supervision")
LARGE = ("50", "101", "154", "b2", "b4")
SETTINGS = [[f"{group}={option}"] for group in GROUPS for option in options(group)]
SETTINGS += [
    pytest.param([f"encoder={option}", "encoder.weights=null"], marks=[pytest.mark.slow] * option.endswith(LARGE))
    for option in options("encoder")
    if option not in ("any", "none")
]
SETTINGS += [["attention=scse", "center=asp_oc", "hypercolumn=concat", "deep-supervision=nonempty"]]


def with_statistics(model):
    """Give batch norms the statistics of a trained network: none is the identity."""
    torch.manual_seed(0)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.2)
            part.running_var.uniform_(0.5, 2)
            part.weight.data.uniform_(0.5, 1.5)
            part.bias.data.normal_(0, 0.2)
    return model.eval()


def norms(model):
    return sum(isinstance(part, nn.BatchNorm2d) for part in model.modules())


@pytest.mark.parametrize("settings", SETTINGS, ids=" ".join)
@torch.no_grad()
@pytest.mark.battery
def test_logits_stay_the_same(settings):
    small = [] if settings[0].startswith("encoder") else ["encoder=resnet18", "encoder.weights=null"]
    small = [] if settings == ["decoder=tiramisu"] else small  # brings its own encoder
    model = with_statistics(build_model(check_config(raw_config("data=synthetic", *small, *settings))))
    images, depths = torch.rand(2, 1, 101, 101), torch.full((2,), 300.0)
    before, there = model(images, depths).logits, norms(model)
    folded = fold_batch_norms(model, torch.rand(2, 1, 101, 101), depths)
    assert norms(model) == there - folded
    assert "decoder=tiramisu" in settings or folded > 0.8 * there  # Tiramisu has its norms before the convolutions
    torch.testing.assert_close(model(images, depths).logits, before, rtol=1e-4, atol=1e-4)


class Shared(nn.Module):
    """A convolution whose output goes into a batch norm and past it."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1)

    def forward(self, images, depths):
        output = self.convolution(images)
        return Output(self.norm(output) + output, [])


@torch.no_grad()
def test_a_convolution_that_is_used_elsewhere_too_stays():
    model = with_statistics(Shared())
    images, depths = torch.rand(2, 1, 9, 9), torch.zeros(2)
    before = model(images, depths).logits
    assert fold_batch_norms(model, images, depths) == 0 and norms(model) == 1
    assert torch.equal(model(images, depths).logits, before)
