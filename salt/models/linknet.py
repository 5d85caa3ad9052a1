"""The LinkNet decoder: narrow blocks whose skips are added."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from salt.models.stages import Upsample, build_gates, conv_bn_relu, skip_channels


class Block(nn.Module):
    """1x1 convolution m to m/4, 3x3 transposed convolution to the skip's size, 1x1 convolution m/4 to n.

    Each has batch norm and ReLU.

    Shape: (N m H W) to (N n height width).
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        narrow = max(1, in_channels // 4)
        self.squeeze = conv_bn_relu(in_channels, narrow, size=1)
        self.upsample = Upsample(narrow, narrow, bias=False)
        self.norm = nn.BatchNorm2d(narrow)
        self.widen = conv_bn_relu(narrow, out_channels, size=1)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        x = F.relu(self.norm(self.upsample(self.squeeze(x), size)))
        return self.widen(x)


class LinkNetDecoder(nn.Module):
    """Stages from deep to shallow: a block that ends at the skip's size and channels, plus the skip, then a gate.

    A stage without a skip (the last one, or where the encoder has no channels at that stride) has `width` channels.

    Shape: 6 maps (N C_i H_i W_i), shallow first, to 5 maps (N channels[j] H_j W_j), deep first.

    Raises:
        ValueError: there is no encoder, width is below 1, or a gated stage does not exist.

    Reference: Chaurasia, Culurciello 2017, "LinkNet", arXiv:1707.03718.
    """

    def __init__(
        self,
        encoder_channels: Sequence[int],
        width: int,
        gate: Callable[[int], nn.Module] = nn.Identity,
        gated_stages: Sequence[int] | None = (),
    ):
        super().__init__()
        skips = skip_channels(encoder_channels)
        if width < 1:
            raise ValueError(f"width={width}, expected >= 1")
        self.skips, self.channels = skips, [skip or width for skip in skips]
        inputs = [encoder_channels[-1], *self.channels[:-1]]
        self.stages = nn.ModuleList(Block(m, n) for m, n in zip(inputs, self.channels, strict=True))
        self.gates = build_gates(gate, gated_stages, self.channels)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        outputs = []
        x = features[-1]
        for i, (stage, gate) in enumerate(zip(self.stages, self.gates, strict=True)):
            skip = features[-2 - i]
            x = stage(x, skip.shape[-2:])
            if self.skips[i]:
                x = x + skip
            x = gate(x)
            outputs.append(x)
        return outputs
