"""Context blocks between encoder and decoder; each keeps the shape of the deepest feature map (N C H W)."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from salt.models.blocks import conv_bn_relu


class Conv(nn.Sequential):
    """Two 3x3 convolutions with batch norm and ReLU, the U-Net's bottleneck.

    Shape: (N C H W) to the same.

    Reference: Ronneberger, Fischer, Brox 2015, arXiv:1505.04597.
    """

    def __init__(self, channels: int):
        super().__init__(conv_bn_relu(channels, channels), conv_bn_relu(channels, channels))


class DBlock(nn.Module):
    """A cascade of dilated 3x3 convolutions with ReLU; the output is the input plus the map after every stage.

    Shape: (N C H W) to the same.

    Raises:
        ValueError: dilations is empty or has one below 1.

    Reference: Zhou, Zhang, Wu 2018, "D-LinkNet", CVPR workshops (dilations 1, 2, 4, 8; no batch norm, zero bias).
    """

    def __init__(self, channels: int, dilations: Sequence[int] = (1, 2, 4)):
        super().__init__()
        if not dilations or min(dilations) < 1:
            raise ValueError(f"dilations={list(dilations)}, expected at least one, each >= 1")
        self.stages = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=d, dilation=d) for d in dilations)
        for stage in self.stages:
            assert isinstance(stage, nn.Conv2d) and stage.bias is not None
            nn.init.zeros_(stage.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map with context."""
        total = x
        for stage in self.stages:
            x = F.relu(stage(x))
            total = total + x
        return total
