"""The one building block that several parts share."""

from torch import nn


def conv_bn_relu(in_channels: int, out_channels: int, size: int = 3) -> nn.Sequential:
    """Convolution of odd `size` that keeps height and width, batch norm, ReLU: (N C_in H W) to (N C_out H W)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, size, padding=size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
