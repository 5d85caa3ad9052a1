"""Context blocks between encoder and decoder; each keeps the shape of the deepest feature map (N C H W).

Those with attention are in ocnet.py.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salt.models.stages import conv_bn_relu


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
        check_dilations(dilations)
        self.stages = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=d, dilation=d) for d in dilations)
        for stage in self.stages:
            assert isinstance(stage, nn.Conv2d) and stage.bias is not None
            nn.init.zeros_(stage.bias)

    def forward(self, x: Tensor) -> Tensor:
        total = x
        for stage in self.stages:
            x = F.relu(stage(x))
            total = total + x
        return total


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: 1x1, dilated 3x3s and the map's mean side by side, fused by a 1x1 convolution.

    The branch of the mean has no batch norm: one value for each channel and tile is too little for statistics.

    Shape: (N C H W) to the same.

    Raises:
        ValueError: dilations is empty or has one below 1, the reduction leaves no channel, dropout is not in [0, 1).

    Reference: Chen, Papandreou, Schroff, Adam 2017, arXiv:1706.05587.
    """

    def __init__(self, channels: int, dilations: Sequence[int], reduction: int, dropout: float):
        super().__init__()
        check_dilations(dilations)
        check_dropout(dropout)
        width = reduced(channels, reduction)
        self.point = conv_bn_relu(channels, width, size=1)
        self.dilated = nn.ModuleList(conv_bn_relu(channels, width, dilation=d) for d in dilations)
        self.mean = nn.Conv2d(channels, width, 1)
        self.fuse = nn.Sequential(conv_bn_relu((2 + len(dilations)) * width, channels, size=1), nn.Dropout2d(dropout))

    def forward(self, x: Tensor) -> Tensor:
        mean = F.relu(self.mean(x.mean(dim=(2, 3), keepdim=True))).expand(-1, -1, *x.shape[-2:])
        return self.fuse(torch.cat([self.point(x), *(d(x) for d in self.dilated), mean], dim=1))


class Halve(nn.Module):
    """Convolution of stride 2, batch norm, ReLU; a map of one position stays as large.

    Stride 1 gives the same there; for stride 2 torch 2.15 gives wrong gradients in bfloat16 on a CPU.

    Shape: (N C_in H W) to (N C_out ceil(H / 2) ceil(W / 2)).
    """

    def __init__(self, in_channels: int, out_channels: int, size: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, size, padding=size // 2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        stride = 2 if min(x.shape[-2:]) > 1 else 1
        return F.relu(self.norm(F.conv2d(x, self.conv.weight, stride=stride, padding=self.conv.padding)))


class FPA(nn.Module):
    """Feature pyramid attention: a pyramid of large convolutions weighs the map, plus the mean of the map.

    Going down, each level halves the map with a convolution of its size and convolves it once more; going up, the
    levels are summed. The sum, at the map's size and channels, is multiplied with a 1x1 convolution of the map.

    `relu="terms"` puts a ReLU on the terms of each sum: the levels and the 1x1 convolution of the map. `relu="sums"`
    puts it on each sum instead, the last one (the output) included.

    Shape: (N C H W) to the same.

    Raises:
        ValueError: sizes is empty or has one that is not odd, the reduction leaves no channel, or relu is unknown.

    Reference: Li, Xiong, An, Wang 2018, "Pyramid Attention Network", arXiv:1805.10180.
    """

    def __init__(self, channels: int, sizes: Sequence[int], reduction: int, relu: str = "terms"):
        super().__init__()
        if not sizes or any(size < 1 or size % 2 == 0 for size in sizes):
            raise ValueError(f"sizes={list(sizes)}, expected at least one, each odd")
        if relu not in ("terms", "sums"):
            raise ValueError(f"relu={relu!r}, expected terms or sums")
        width = reduced(channels, reduction)
        parts = 3 if relu == "terms" else 2  # of convolution, batch norm, ReLU
        inputs = [channels, *[width] * (len(sizes) - 1)]
        self.down = nn.ModuleList(Halve(c, width, k) for c, k in zip(inputs, sizes, strict=True))
        self.level = nn.ModuleList(conv_bn_relu(width, width, k)[:parts] for k in sizes)
        self.weights = conv_bn_relu(width, channels, size=1)
        self.point = conv_bn_relu(channels, channels, size=1)[:parts]
        self.mean = nn.Conv2d(channels, channels, 1)
        self.after_sum = nn.Identity() if relu == "terms" else nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for down in self.down:
            maps.append(down(maps[-1]))
        total = self.after_sum(self.level[-1](maps[-1]))
        for level, y in zip(reversed(self.level[:-1]), reversed(maps[1:-1]), strict=True):
            total = self.after_sum(level(y) + resized(total, y))
        mean = self.mean(x.mean(dim=(2, 3), keepdim=True))
        return self.after_sum(self.point(x) * self.weights(resized(total, x)) + mean)


def resized(x: Tensor, like: Tensor) -> Tensor:
    """Resize a map to the size of another."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def reduced(channels: int, reduction: int) -> int:
    """Return channels / reduction; raise a ValueError if that leaves no channel."""
    if not 1 <= reduction <= channels:
        raise ValueError(f"reduction={reduction} leaves no channel of {channels}, expected 1..{channels}")
    return channels // reduction


def check_dilations(dilations: Sequence[int]) -> None:
    """Raise a ValueError for an empty list or a dilation below 1."""
    if not dilations or min(dilations) < 1:
        raise ValueError(f"dilations={list(dilations)}, expected at least one, each >= 1")


def check_dropout(dropout: float) -> None:
    """Raise a ValueError for a share outside [0, 1)."""
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout={dropout}, expected 0 <= dropout < 1")
