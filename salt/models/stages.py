"""Parts of decoders: skips, gates, upsampling to the size of a skip; and layers that other parts share."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn


def skip_channels(encoder_channels: Sequence[int]) -> list[int]:
    """Return the channels of the skip of each decoder stage, deep first; 0 for the last stage, which has none.

    Raises:
        ValueError: there is no encoder.
    """
    if len(encoder_channels) == 1:
        raise ValueError("this decoder takes an encoder's maps, but encoder=none; expected an encoder (resnet34)")
    return [*encoder_channels[-2:0:-1], 0]


def build_gates(
    gate: Callable[[int], nn.Module], gated_stages: Sequence[int] | None, channels: Sequence[int]
) -> nn.ModuleList:
    """Return a gate for each named stage (1 is the deepest; None: every stage), and an identity for the others.

    Raises:
        ValueError: a stage does not exist.
    """
    there = range(1, len(channels) + 1)
    if gated_stages is None:
        gated_stages = there
    if not set(gated_stages) <= set(there):
        stages = f"stages of 1..{len(channels)} (1 is the deepest)"
        raise ValueError(f"attention.decoder={list(gated_stages)}, expected {stages}")
    return nn.ModuleList(gate(c) if i in gated_stages else nn.Identity() for i, c in zip(there, channels, strict=True))


class Upsample(nn.Module):
    """3x3 transposed convolution to the size of a skip: stride 2, or 1 if the skip is as small as the map.

    Shape: (N C_in H W) to (N C_out height width). If the sizes do not fit, the map is cropped,
    or its last row and column are repeated.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True):
        super().__init__()
        self.conv = nn.ConvTranspose2d(in_channels, out_channels, 3, padding=1, bias=bias)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        ratio = size[0] / x.shape[-2]
        stride = max(1, round(ratio.item() if isinstance(ratio, Tensor) else ratio))  # sizes in a trace are tensors
        x = F.conv_transpose2d(x, self.conv.weight, self.conv.bias, stride=stride, padding=1, output_padding=stride - 1)
        missing = (size[1] - x.shape[-1], size[0] - x.shape[-2])
        if missing == (0, 0):
            return x
        # a negative padding crops
        return F.pad(x, (0, missing[0], 0, missing[1]), mode="replicate" if max(missing) > 0 else "constant")


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
