"""Does every part of a context block learn from the weights that it starts with? Zeros before a ReLU never do."""

import pytest
import torch
from conftest import options, raw_config
from helpers.centers import maps

from salt.components import build_part


@pytest.mark.parametrize(
    ("option", "changes"),
    [
        *((option, {}) for option in options("center")),
        ("base_oc", {"shared": False}),
        ("pyramid_oc", {"shared": False}),
        ("fpa", {"relu": "sums"}),
    ],
)
def test_every_part_learns_from_its_own_start(option, changes):
    node = raw_config(f"center={option}")["center"] | changes
    torch.manual_seed(0)
    center = build_part("center", node | ({"width": 16} if "width" in node else {}), channels=8).train()
    idle = dict(center.named_parameters())
    for seed in range(10):
        if not idle:
            break
        (center(maps(8, 12, 12, seed=seed, dtype=torch.float32)) - 1).square().mean().backward()
        idle = {name: weight for name, weight in idle.items() if not weight.grad.any()}
        with torch.no_grad():
            for weight in center.parameters():
                weight.sub_(0.1 * weight.grad)
                weight.grad = None
    assert not idle
