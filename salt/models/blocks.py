"""Blocks of layers that several parts share."""

from torch import nn


def conv_bn_relu(in_channels: int, out_channels: int, size: int = 3, dilation: int = 1) -> nn.Sequential:
    """Return a convolution of odd `size`, batch norm, ReLU: (N C_in H W) to (N C_out H W)."""
    padding = dilation * (size // 2)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, size, padding=padding, dilation=dilation, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def conv_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return a 3x3 convolution and ReLU: (N C_in H W) to (N C_out H W)."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.ReLU(inplace=True))
