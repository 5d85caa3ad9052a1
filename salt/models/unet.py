"""The U-Net decoder over any encoder's feature maps."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salt.models.stages import build_gates, conv_bn_relu, skip_channels


class UNetDecoder(nn.Module):
    """Stages from deep to shallow: upsample to the skip's size, concatenate, two 3x3 convolutions, gate.

    The last stage has no skip (the input itself is none) and ends at the size of the input. Odd sizes work, because
    every stage takes the size of its skip.

    Shape: 6 maps (N C_i H_i W_i), shallow first, to 5 maps (N channels[j] H_j W_j), deep first.

    Raises:
        ValueError: there is no encoder, channels does not have one entry per stage, or a gated stage does not exist.

    Reference: Ronneberger, Fischer, Brox 2015, arXiv:1505.04597.
    """

    def __init__(
        self,
        encoder_channels: Sequence[int],
        channels: Sequence[int],
        gate: Callable[[int], nn.Module] = nn.Identity,
        gated_stages: Sequence[int] | None = (),
    ):
        super().__init__()
        skips = skip_channels(encoder_channels)
        if len(channels) != len(skips) or min(channels) < 1:
            raise ValueError(f"channels={list(channels)}, expected {len(skips)} positive numbers, deep stage first")
        self.channels = list(channels)
        inputs = [encoder_channels[-1], *channels[:-1]]
        self.stages = nn.ModuleList(
            nn.Sequential(conv_bn_relu(deep + skip, out), conv_bn_relu(out, out))
            for deep, skip, out in zip(inputs, skips, channels, strict=True)
        )
        self.gates = build_gates(gate, gated_stages, self.channels)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        outputs = []
        x = features[-1]
        for i, (stage, gate) in enumerate(zip(self.stages, self.gates, strict=True)):
            skip = features[-2 - i]
            x = F.interpolate(x, size=skip.shape[-2:], mode="nearest")
            if i < len(self.stages) - 1:
                x = torch.cat([x, skip], dim=1)
            x = gate(stage(x))
            outputs.append(x)
        return outputs
