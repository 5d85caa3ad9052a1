"""Parts of all decoders: skips, gates, and upsampling to the size of a skip."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn


def skip_channels(encoder_channels: Sequence[int]) -> list[int]:
    """Return the channels of the skip of each decoder stage, deep first; 0 for the last stage, which has none.

    Raises:
        ValueError: there is no encoder.
    """
    if len(encoder_channels) == 1:
        raise ValueError(
            "this decoder works on an encoder's maps, but encoder=none; expected an encoder such as resnet34"
        )
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
        raise ValueError(
            f"attention.decoder={list(gated_stages)}, expected stages of 1..{len(channels)} (1 is the deepest)"
        )
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
        """Return the upsampled map."""
        stride = max(1, round(size[0] / x.shape[-2]))
        x = F.conv_transpose2d(x, self.conv.weight, self.conv.bias, stride=stride, padding=1, output_padding=stride - 1)
        missing = (size[1] - x.shape[-1], size[0] - x.shape[-2])
        if missing == (0, 0):
            return x
        # a negative padding crops
        return F.pad(x, (0, missing[0], 0, missing[1]), mode="replicate" if max(missing) > 0 else "constant")
