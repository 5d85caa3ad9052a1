"""Small networks, batches and feature maps for the tests of models."""

import torch
from conftest import TINY, raw_config

from salt import build
from salt.config import check_config

BASE = [o for o in TINY if not o.startswith(("data", "input", "decoder"))]
WITHOUT_ENCODER = [o for o in BASE if not o.startswith("encoder")]
SMALL_TILES = [*WITHOUT_ENCODER, "data.tile=[48,40]", "input.size=64"]  # at full resolution Tiramisu takes long
SMALL_UNET = "decoder.channels=[24,20,18,16,16]"


def overrides_of(group, option):
    """The small base network with one option chosen in one group."""
    if group == "decoder":
        return [*(SMALL_TILES if option == "tiramisu" else BASE), f"decoder={option}"]
    return [*BASE, SMALL_UNET, f"{group}={option}"]


def built(overrides, seed=0):
    torch.manual_seed(seed)
    config = check_config(raw_config(*overrides))
    return config, build.build_model(config)


def batch(model, n=2):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(n, 1, *model.tile, generator=generator)
    masks = torch.zeros(n, 1, *model.tile)
    masks[0, :, 40:] = 1
    return images, torch.linspace(100, 900, n), masks


def shake(model, seed=0):
    """Add noise to the weights: some blocks begin at zero, and behind zeros there is no gradient and no difference.

    Batch norm keeps the statistics of the last batch alone: with those of the start values would grow from layer to
    layer in eval, until a sigmoid is 1 whatever it sees.
    """
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0


def maps(channels=8, size=5, n=2, seed=0):
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(seed))
