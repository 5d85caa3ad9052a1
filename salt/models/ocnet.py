"""Object context: center blocks in which every position attends to others (N C H W).

Before each block a 3x3 convolution brings the map to `width` channels; its last convolution brings it back to C. After
every norm follows an activation: ReLU, or leaky ReLU of slope 0.01 as in the authors' first code. Convolutions before
a norm have no bias, which the norm would remove.

Reference: Yuan, Wang 2018, "OCNet: Object Context Network for Scene Parsing", arXiv:1809.00916.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salt.models.center import check_dilations, check_dropout, reduced
from salt.models.stages import conv_bn_relu

_ACTIVATIONS: dict[str, type[nn.ReLU] | type[nn.LeakyReLU]] = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU}


class SelfAttention(nn.Module):
    """Context of each position: the mean of all values, weighed by how similar the positions are.

    query = key = a shared 1x1 convolution C to `key` channels, batch norm, activation; value = 1x1 convolution C to
    `value`; weights = softmax(query . key / sqrt(key channels)); then a 1x1 convolution to C that starts at zero. With
    `n_cells` a position attends only inside its cell of a grid, i * n_cells // n for position i of n on each axis.
    Without `shared`, query and key have two such layers each, as in the authors' later code, openseg.pytorch.

    Shape: (N C H W) to the same.
    """

    def __init__(self, channels: int, key: int, value: int, activation: str, n_cells: int = 1, shared: bool = True):
        super().__init__()
        self.n_cells = n_cells
        self.key = unit(channels, key, activation) if shared else two_units(channels, key, activation)
        self.query = None if shared else two_units(channels, key, activation)
        self.value = nn.Conv2d(channels, value, 1)
        self.output = nn.Conv2d(value, channels, 1)
        nn.init.zeros_(self.output.weight)
        assert self.output.bias is not None
        nn.init.zeros_(self.output.bias)

    def forward(self, x: Tensor) -> Tensor:
        key, value = (part.flatten(2).transpose(1, 2) for part in (self.key(x), self.value(x)))  # N HW channels
        query = key if self.query is None else self.query(x).flatten(2).transpose(1, 2)
        mask = same_cell(x.shape[-2], x.shape[-1], self.n_cells, x.device) if self.n_cells > 1 else None
        context = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.output(context.transpose(1, 2).unflatten(2, x.shape[-2:]))


def same_cell(height: int, width: int, n_cells: int, device: torch.device) -> Tensor:
    """Return which positions (HW HW) lie in the same cell of an n_cells x n_cells grid."""
    rows = torch.arange(height, device=device) * n_cells // height
    columns = torch.arange(width, device=device) * n_cells // width
    cell = (rows[:, None] * n_cells + columns).flatten()
    return cell[:, None] == cell[None]


class BaseOC(nn.Module):
    """Context and map, concatenated and fused by a 1x1 convolution. Key and value have width/reduction channels.

    Shape: (N C H W) to the same.

    Raises:
        ValueError: width is below 1, the reduction leaves no channel, the activation is unknown, dropout is not in
            [0, 1).
    """

    def __init__(self, channels: int, width: int, reduction: int, activation: str, dropout: float, shared: bool = True):
        super().__init__()
        self.lift = lift(channels, width, activation)
        hidden = reduced(width, reduction)
        self.context = SelfAttention(width, hidden, hidden, activation, shared=shared)
        self.fuse = fusion(2 * width, channels, activation, dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lift(x)
        return self.fuse(torch.cat([self.context(x), x], dim=1))


class PyramidOC(nn.Module):
    """Contexts inside the cells of several grids and the map widened as much, fused by a 1x1 convolution.

    Keys have width/reduction channels, values all.

    Shape: (N C H W) to the same.

    Raises:
        ValueError: sizes is empty or has one below 1, or as `BaseOC`.
    """

    def __init__(
        self,
        channels: int,
        sizes: Sequence[int],
        width: int,
        reduction: int,
        activation: str,
        dropout: float,
        shared: bool = True,
    ):
        super().__init__()
        if not sizes or min(sizes) < 1:
            raise ValueError(f"sizes={list(sizes)}, expected at least one, each >= 1")
        self.lift = lift(channels, width, activation)
        key = reduced(width, reduction)
        self.contexts = nn.ModuleList(SelfAttention(width, key, width, activation, size, shared) for size in sizes)
        self.widen = unit(width, len(sizes) * width, activation)
        self.fuse = fusion(2 * len(sizes) * width, channels, activation, dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lift(x)
        contexts = [context(x) for context in self.contexts]
        return self.fuse(torch.cat([self.widen(x), *contexts], dim=1))


class AspOC(nn.Module):
    """Five branches of width/reduction channels, fused by a 1x1 convolution: context, 1x1, and three dilated 3x3s.

    The context branch is a 3x3 convolution, max pooling by 2 (which keeps the last row and column of an odd map),
    self-attention with keys of half its channels, bilinear upsampling with aligned corners, and a 1x1 convolution. With
    `activation="relu"` it never learns: it starts at zero, where ReLU passes no gradient.

    Shape: (N C H W) to the same.

    Raises:
        ValueError: dilations is empty or has one below 1, or as `BaseOC`.
    """

    def __init__(
        self,
        channels: int,
        dilations: Sequence[int],
        width: int,
        reduction: int,
        activation: str,
        dropout: float,
        shared: bool = True,
    ):
        super().__init__()
        check_dilations(dilations)
        self.lift = lift(channels, width, activation)
        branch = reduced(width, reduction)
        self.before = unit(width, branch, activation, size=3)
        self.attention = SelfAttention(branch, max(1, branch // 2), branch, activation, shared=shared)
        self.after = unit(branch, branch, activation)
        self.point = unit(width, branch, activation)
        self.dilated = nn.ModuleList(unit(width, branch, activation, size=3, dilation=d) for d in dilations)
        self.fuse = fusion((2 + len(dilations)) * branch, channels, activation, dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lift(x)
        context = self.attention(F.max_pool2d(self.before(x), 2, ceil_mode=True))
        context = F.interpolate(context, size=x.shape[-2:], mode="bilinear", align_corners=True)
        branches = [self.after(context), self.point(x), *(dilated(x) for dilated in self.dilated)]
        return self.fuse(torch.cat(branches, dim=1))


def unit(in_channels: int, out_channels: int, activation: str, size: int = 1, dilation: int = 1) -> nn.Sequential:
    """Return convolution of odd `size`, batch norm, activation: (N C_in H W) to (N C_out H W)."""
    if activation not in _ACTIVATIONS:
        raise ValueError(f"activation={activation!r}, expected {' or '.join(_ACTIVATIONS)}")
    conv, norm, _ = conv_bn_relu(in_channels, out_channels, size, dilation)
    return nn.Sequential(conv, norm, _ACTIVATIONS[activation](inplace=True))


def two_units(in_channels: int, out_channels: int, activation: str) -> nn.Sequential:
    """Return 1x1 convolution, batch norm and activation, twice: (N C_in H W) to (N C_out H W)."""
    return nn.Sequential(unit(in_channels, out_channels, activation), unit(out_channels, out_channels, activation))


def lift(channels: int, width: int, activation: str) -> nn.Sequential:
    """Return the 3x3 convolution before each block: (N C H W) to (N width H W)."""
    if width < 1:
        raise ValueError(f"width={width}, expected >= 1")
    return unit(channels, width, activation, size=3)


def fusion(in_channels: int, out_channels: int, activation: str, dropout: float) -> nn.Sequential:
    """Return 1x1 convolution, batch norm, activation, dropout of channels: (N C_in H W) to (N C_out H W)."""
    check_dropout(dropout)
    return nn.Sequential(*unit(in_channels, out_channels, activation), nn.Dropout2d(dropout))
