"""FC-DenseNet, "the one hundred layers tiramisu": a U of dense blocks with its own encoder."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from salt.models.stages import Upsample, build_gates

# FC-DenseNet N of the paper: growth rate, layers of the dense blocks on the way down, layers at the bottom.
VARIANTS = {56: (12, (4, 4, 4, 4, 4), 4), 67: (16, (5, 5, 5, 5, 5), 5), 103: (16, (4, 5, 7, 10, 12), 15)}
N_FIRST = 48  # channels of the first convolution
BIASES = ("random", "zero", "none")


class DenseBlock(nn.Module):
    """Layers BN-ReLU-3x3-dropout of `growth` channels, each of which sees the input and all layers before it.

    Shape: (N C H W) to only the new channels (N n_layers*growth H W).
    """

    def __init__(self, in_channels: int, growth: int, n_layers: int, dropout: float):
        super().__init__()
        self.layers = nn.ModuleList(bn_relu_conv(in_channels + i * growth, growth, 3, dropout) for i in range(n_layers))

    def forward(self, x: Tensor) -> Tensor:
        new: list[Tensor] = []
        for layer in self.layers:
            new.append(layer(torch.cat([x, *new], dim=1)))
        return torch.cat(new, dim=1)


class Tiramisu(nn.Module):
    """FC-DenseNet 56, 67 or 103: dense blocks down, at the bottom, and up, on the input itself.

    A stage on the way up: transposed convolution of the block below, skip, dense block, gate. The dense block passes on
    only its new channels, except in the last stage. Odd sizes work, because every stage takes the size of its skip.

    `bias` sets the initial biases of the convolutions: torch's random numbers ("random"), zero ("zero", the
    authors' code), or absent throughout ("none").

    Shape: [input (N C H W)] to 5 maps (N channels[j] H_j W_j), deep first; the last has the size of the input.

    Raises:
        ValueError: there is an encoder, the variant, bias or a gated stage is unknown, or dropout is outside [0, 1).

    Reference: Jégou, Drozdzal, Vazquez, Romero, Bengio 2017, arXiv:1611.09326 (first convolution 48 channels, dropout
    0.2, He initialisation).
    """

    def __init__(
        self,
        encoder_channels: Sequence[int],
        variant: int,
        dropout: float,
        gate: Callable[[int], nn.Module] = nn.Identity,
        gated_stages: Sequence[int] | None = (),
        bias: str = "random",
    ):
        super().__init__()
        if len(encoder_channels) > 1:
            raise ValueError("decoder=tiramisu has its own encoder, expected encoder=none")
        if variant not in VARIANTS:
            raise ValueError(f"variant={variant}, expected one of {', '.join(map(str, VARIANTS))}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout}, expected 0 <= dropout < 1")
        if bias not in BIASES:
            raise ValueError(f"bias={bias!r}, expected one of {', '.join(BIASES)}")
        growth, layers, n_bottom = VARIANTS[variant]
        self.first = nn.Conv2d(encoder_channels[0], N_FIRST, 3, padding=1)
        skips, channels = [], N_FIRST
        self.down, self.transitions = nn.ModuleList(), nn.ModuleList()
        for n_layers in layers:
            self.down.append(DenseBlock(channels, growth, n_layers, dropout))
            channels += n_layers * growth
            skips.append(channels)
            self.transitions.append(nn.Sequential(bn_relu_conv(channels, channels, 1, dropout), nn.MaxPool2d(2)))
        self.bottom = DenseBlock(channels, growth, n_bottom, dropout)
        below = n_bottom * growth
        self.upsample, self.up = nn.ModuleList(), nn.ModuleList()
        self.channels = []
        for n_layers, skip in zip(reversed(layers), reversed(skips), strict=True):
            self.upsample.append(Upsample(below, below))
            self.up.append(DenseBlock(below + skip, growth, n_layers, dropout))
            inputs, below = below + skip, n_layers * growth
            self.channels.append(below)
        self.channels[-1] += inputs
        self.gates = build_gates(gate, gated_stages, self.channels)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
                if bias == "none":
                    module.bias = None
                elif bias == "zero" and module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        x = self.first(features[0])
        skips = []
        for block, transition in zip(self.down, self.transitions, strict=True):
            x = torch.cat([x, block(x)], dim=1)
            skips.append(x)
            x = transition(x)
        x = self.bottom(x)
        outputs = []
        for i, gate in enumerate(self.gates):
            skip = skips.pop()
            x = torch.cat([self.upsample[i](x, skip.shape[-2:]), skip], dim=1)
            new = self.up[i](x)
            x = gate(new if skips else torch.cat([x, new], dim=1))
            outputs.append(x)
        return outputs


def bn_relu_conv(in_channels: int, out_channels: int, size: int, dropout: float) -> nn.Sequential:
    """Return batch norm, ReLU, convolution of odd `size`, dropout: (N C_in H W) to (N C_out H W)."""
    return nn.Sequential(
        nn.BatchNorm2d(in_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(in_channels, out_channels, size, padding=size // 2),
        nn.Dropout(dropout),
    )
