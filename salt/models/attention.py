"""Gates that weigh the channels or positions of a feature map (N C H W)."""

import torch
from torch import Tensor, nn

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "elu": nn.ELU}


class CSE(nn.Module):
    """Scale each channel: global average pool, C to C/r, activation, C/r to C, sigmoid.

    A small C/r is risky: if ReLU sets all hidden units of a batch to 0, only the last bias learns.

    Shape: (N C H W) to the same.

    Raises:
        ValueError: the reduction leaves no channel, or the activation is unknown.

    Reference: Hu, Shen, Sun 2018, arXiv:1709.01507; as "cSE" in Roy, Navab, Wachinger 2018, arXiv:1803.02579.
    """

    def __init__(self, channels: int, reduction: int = 2, activation: str = "relu"):
        super().__init__()
        if not 1 <= reduction <= channels:
            raise ValueError(f"reduction={reduction} leaves no channel of {channels}")
        if activation not in _ACTIVATIONS:
            raise ValueError(f"activation={activation!r}, expected one of {', '.join(_ACTIVATIONS)}")
        squeeze, expand = nn.Conv2d(channels, channels // reduction, 1), nn.Conv2d(channels // reduction, channels, 1)
        self.gate = nn.Sequential(squeeze, _ACTIVATIONS[activation](), expand)

    def weights(self, x: Tensor) -> Tensor:
        """Return the weights (N C 1 1) of the channels, from 0 to 1."""
        return torch.sigmoid(self.gate(x.mean(dim=(2, 3), keepdim=True)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weights(x)


class SSE(nn.Module):
    """Position gate: 1x1 convolution C to 1, sigmoid, scale the positions.

    Shape: (N C H W) to the same.

    Reference: Roy, Navab, Wachinger 2018, arXiv:1803.02579.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.gate = nn.Conv2d(channels, 1, 1)

    def weights(self, x: Tensor) -> Tensor:
        """Return the weights (N 1 H W) of the positions, from 0 to 1."""
        return torch.sigmoid(self.gate(x))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weights(x)


class SCSE(nn.Module):
    """Both gates side by side: cSE(x) + sSE(x), or the larger of the two for each value, as in the authors' code.

    Shape: (N C H W) to the same.

    Raises:
        ValueError: as `CSE`, or combine is neither of the two.

    Reference: Roy, Navab, Wachinger 2018, arXiv:1803.02579.
    """

    def __init__(self, channels: int, reduction: int = 2, activation: str = "relu", combine: str = "sum"):
        super().__init__()
        if combine not in ("sum", "max"):
            raise ValueError(f"combine={combine!r}, expected sum or max")
        self.combine = combine
        self.cse, self.sse = CSE(channels, reduction, activation), SSE(channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.combine == "max":
            return torch.maximum(self.cse(x), self.sse(x))
        weights = self.cse.weights(x) + self.sse.weights(x)  # (N C H W): the sum of both maps in half of the passes
        if x.is_contiguous(memory_format=torch.channels_last):
            weights = weights.contiguous(memory_format=torch.channels_last)  # torch does not choose it by itself
        return x * weights
