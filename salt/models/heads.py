"""From the decoder's stages (deep first) to one logit per pixel. Chosen by the group `hypercolumn`."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salt.models.blocks import conv_bn_relu


class LastStage(nn.Module):
    """A 3x3 convolution on the last decoder stage.

    Shape: list of (N C_j H_j W_j), deep first, to (N 1 H W) of the last.
    """

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        self.classifier = nn.Conv2d(channels[-1], 1, 3, padding=1)

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Logits."""
        logits: Tensor = self.classifier(stages[-1])
        return logits


class Hypercolumn(nn.Module):
    """All decoder stages, bilinearly upsampled to the last and concatenated; 3x3 convolution, dropout, 1x1 convolution.

    Shape: list of (N C_j H_j W_j), deep first, to (N 1 H W) of the last.

    Raises:
        ValueError: width < 1 or dropout outside [0, 1).

    Reference: Hariharan, Arbeláez, Girshick, Malik 2015, arXiv:1411.5752.
    """

    def __init__(self, channels: Sequence[int], width: int = 64, dropout: float = 0.1):
        super().__init__()
        if width < 1 or not 0 <= dropout < 1:
            raise ValueError(f"width={width}, dropout={dropout}, expected width >= 1 and 0 <= dropout < 1")
        self.features = conv_bn_relu(sum(channels), width)
        self.classifier = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(width, 1, 1))

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Logits."""
        size = stages[-1].shape[-2:]
        columns = [F.interpolate(s, size=size, mode="bilinear", align_corners=False) for s in stages[:-1]]
        logits: Tensor = self.classifier(self.features(torch.cat([*columns, stages[-1]], dim=1)))
        return logits
