"""Object context: center blocks in which every position attends to others (N C H W).

Reference: Yuan, Wang 2018, "OCNet: Object Context Network for Scene Parsing", arXiv:1809.00916.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salt.models.blocks import conv_bn_relu
from salt.models.center import check_dilations, check_dropout, reduced


class SelfAttention(nn.Module):
    """Context of each position: the mean of all values, weighed by how similar the positions are.

    query = key = batch norm of a shared 1x1 convolution C to K; value = 1x1 convolution C to K; weights =
    softmax(query . key / sqrt(K)); then a 1x1 convolution K to C that begins at zero. With `n_cells` a
    position attends only inside its cell of an n_cells x n_cells grid, whose cells may be uneven: position i of n is in
    cell i * n_cells // n of its axis.

    Shape: (N C H W) to the same.
    """

    def __init__(self, channels: int, hidden: int, n_cells: int = 1):
        super().__init__()
        self.n_cells = n_cells
        self.key = nn.Sequential(nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden))
        self.value = nn.Conv2d(channels, hidden, 1)
        self.output = nn.Conv2d(hidden, channels, 1)
        nn.init.zeros_(self.output.weight)
        assert self.output.bias is not None
        nn.init.zeros_(self.output.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Context."""
        key, value = (part.flatten(2).transpose(1, 2) for part in (self.key(x), self.value(x)))  # N HW K
        mask = same_cell(x.shape[-2], x.shape[-1], self.n_cells, x.device) if self.n_cells > 1 else None
        context = F.scaled_dot_product_attention(key, key, value, attn_mask=mask)
        result: Tensor = self.output(context.transpose(1, 2).unflatten(2, x.shape[-2:]))
        return result


def same_cell(height: int, width: int, n_cells: int, device: torch.device) -> Tensor:
    """Which positions (HW HW) lie in the same cell of an n_cells x n_cells grid."""
    rows = torch.arange(height, device=device) * n_cells // height
    columns = torch.arange(width, device=device) * n_cells // width
    cell = (rows[:, None] * n_cells + columns).flatten()
    return cell[:, None] == cell[None]


class BaseOC(nn.Module):
    """The context beside the map, fused by a 1x1 convolution.

    Shape: (N C H W) to the same.

    Raises:
        ValueError: the reduction leaves no channel, dropout is not in [0, 1).
    """

    def __init__(self, channels: int, reduction: int, dropout: float):
        super().__init__()
        self.context = SelfAttention(channels, reduced(channels, reduction))
        self.fuse = fusion(2 * channels, channels, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map with context."""
        fused: Tensor = self.fuse(torch.cat([self.context(x), x], dim=1))
        return fused


class PyramidOC(nn.Module):
    """Contexts inside the cells of several grids, beside the map widened as much, fused by a 1x1 convolution.

    Shape: (N C H W) to the same.

    Raises:
        ValueError: sizes is empty or has one below 1, the reduction leaves no channel, dropout is not in [0, 1).
    """

    def __init__(self, channels: int, sizes: Sequence[int], reduction: int, dropout: float):
        super().__init__()
        if not sizes or min(sizes) < 1:
            raise ValueError(f"sizes={list(sizes)}, expected at least one, each >= 1")
        hidden = reduced(channels, reduction)
        self.contexts = nn.ModuleList(SelfAttention(channels, hidden, n_cells=size) for size in sizes)
        self.widen = conv_bn_relu(channels, len(sizes) * channels, size=1)
        self.fuse = fusion(2 * len(sizes) * channels, channels, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map with context."""
        contexts = [context(x) for context in self.contexts]
        fused: Tensor = self.fuse(torch.cat([self.widen(x), *contexts], dim=1))
        return fused


class AspOC(nn.Module):
    """Five branches of C/reduction channels, fused by a 1x1 convolution: context, 1x1, and three dilated 3x3s.

    The context branch is a 3x3 convolution, self-attention on the map pooled by 2 (brought back bilinearly), and a 1x1
    convolution with batch norm.

    Shape: (N C H W) to the same.

    Raises:
        ValueError: dilations is empty or has one below 1, the reduction leaves no channel, dropout is not in [0, 1).
    """

    def __init__(self, channels: int, dilations: Sequence[int], reduction: int, dropout: float):
        super().__init__()
        check_dilations(dilations)
        width = reduced(channels, reduction)
        self.before = conv_bn_relu(channels, width)
        self.attention = SelfAttention(width, max(1, width // 2))
        self.after = nn.Sequential(nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width))
        self.point = conv_bn_relu(channels, width, size=1)
        self.dilated = nn.ModuleList(conv_bn_relu(channels, width, dilation=d) for d in dilations)
        self.fuse = fusion((2 + len(dilations)) * width, channels, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map with context."""
        context = self.attention(F.max_pool2d(self.before(x), 2, ceil_mode=True))
        context = F.interpolate(context, size=x.shape[-2:], mode="bilinear", align_corners=False)
        branches = [self.after(context), self.point(x), *(dilated(x) for dilated in self.dilated)]
        fused: Tensor = self.fuse(torch.cat(branches, dim=1))
        return fused


def fusion(in_channels: int, out_channels: int, dropout: float) -> nn.Sequential:
    """1x1 convolution, batch norm, dropout of whole channels: (N C_in H W) to (N C_out H W)."""
    check_dropout(dropout)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels), nn.Dropout2d(dropout)
    )
