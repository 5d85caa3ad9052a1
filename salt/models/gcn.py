"""The global convolutional network: large separable kernels on every encoder stage, summed top-down."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from salt.models.stages import Upsample, build_gates, skip_channels


class LargeKernel(nn.Module):
    """A k x k receptive field from two separable paths: (k x 1, then 1 x k) + (1 x k, then k x 1), no activation.

    Shape: (N C_in H W) to (N C_out H W).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int):
        super().__init__()
        column, row = (kernel, 1), (1, kernel)
        self.left, self.right = (
            nn.Sequential(separable(in_channels, out_channels, one), separable(out_channels, out_channels, other))
            for one, other in ((column, row), (row, column))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.left(x) + self.right(x)


class BoundaryRefinement(nn.Module):
    """x + conv(relu(conv(x))) with 3x3 convolutions.

    Shape: (N C H W) to the same.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.first, self.second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)))


class GCNDecoder(nn.Module):
    """Each encoder map passes a large kernel and boundary refinement to `width` channels; these are summed top-down.

    Stages from deep to shallow: upsample the sum to the skip's size, add the skip's refined map, refine, gate. A stage
    without a skip (the last one, or if the encoder has no channels there) is only upsampled and refined.

    Shape: 6 maps (N C_i H_i W_i), shallow first, to 5 maps (N width H_j W_j), deep first.

    Raises:
        ValueError: there is no encoder, kernel is not odd, width is below 1, or a gated stage does not exist.

    Reference: Peng, Zhang, Yu, Luo, Sun 2017, "Large Kernel Matters", arXiv:1703.02719 (the paper sums class scores, 21
    channels, and its best kernel is 15 on maps of 16 to 128 pixels; it does not use the map at stride 2).
    """

    def __init__(
        self,
        encoder_channels: Sequence[int],
        width: int,
        kernel: int,
        gate: Callable[[int], nn.Module] = nn.Identity,
        gated_stages: Sequence[int] | None = (),
    ):
        super().__init__()
        skips = skip_channels(encoder_channels)
        if width < 1 or kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"width={width}, kernel={kernel}, expected width >= 1 and an odd kernel")
        self.channels = [width] * len(skips)
        self.deepest = large_kernel_and_refinement(encoder_channels[-1], width, kernel)
        self.lateral = nn.ModuleList(
            large_kernel_and_refinement(skip, width, kernel) if skip else nn.Identity() for skip in skips
        )
        self.upsample = nn.ModuleList(Upsample(width, width) for _ in skips)
        self.refine = nn.ModuleList(BoundaryRefinement(width) for _ in skips)
        self.skips = skips
        self.gates = build_gates(gate, gated_stages, self.channels)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        outputs = []
        x = self.deepest(features[-1])
        for i, gate in enumerate(self.gates):
            skip = features[-2 - i]
            x = self.upsample[i](x, skip.shape[-2:])
            if self.skips[i]:
                x = x + self.lateral[i](skip)
            x = gate(self.refine[i](x))
            outputs.append(x)
        return outputs


def large_kernel_and_refinement(in_channels: int, width: int, kernel: int) -> nn.Sequential:
    """Return the layers for one encoder map: (N C H W) to (N width H W)."""
    return nn.Sequential(LargeKernel(in_channels, width, kernel), BoundaryRefinement(width))


def separable(in_channels: int, out_channels: int, size: tuple[int, int]) -> nn.Conv2d:
    """Return a convolution of one row or column that keeps height and width."""
    return nn.Conv2d(in_channels, out_channels, size, padding=(size[0] // 2, size[1] // 2))
