"""From the decoder's stages (deep first) to one logit per pixel. Chosen by the group `hypercolumn`."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salt.models.stages import conv_bn_relu, conv_relu


class Head(nn.Module):
    """Columns of features per pixel (`width` channels), then their classifier.

    Deep supervision may add `context` channels that describe the whole tile. They are concatenated to every column, and
    a 3x3 convolution with ReLU brings both to `width` channels; without ReLU they could only shift all logits alike.
    """

    classifier: nn.Module  # of columns (N width H W) to logits (N 1 H W), set by the subclass

    def __init__(self, width: int, context: int):
        super().__init__()
        self.width = width
        if context:
            self.fuse = conv_relu(width + context, width)

    def columns(self, stages: Sequence[Tensor]) -> Tensor:
        """Return the features (N width H W) of every pixel, from all stages (N C_j H_j W_j), deep first."""
        raise NotImplementedError

    def classify(self, columns: Tensor) -> Tensor:
        """Return the logits (N 1 H W) of columns (N width H W), with the `classifier`."""
        return self.classifier(columns)

    def forward(self, columns: Tensor, context: Tensor | None) -> Tensor:
        """Return the logits (N 1 H W) of columns (N width H W) and of the tile's context (N K 1 1), if any."""
        if context is not None:
            columns = self.fuse(torch.cat([columns, context.expand(-1, -1, *columns.shape[-2:])], dim=1))
        return self.classify(columns)


class LastStage(Head):
    """A 3x3 convolution on the last decoder stage; a 1x1 one if the stage was fused with the tile's context.

    Shape: list of (N C_j H_j W_j), deep first, to (N 1 H W) of the last.
    """

    def __init__(self, channels: Sequence[int], context: int = 0):
        super().__init__(channels[-1], context)
        size = 1 if context else 3
        self.classifier = nn.Conv2d(self.width, 1, size, padding=size // 2)

    def columns(self, stages: Sequence[Tensor]) -> Tensor:
        return stages[-1]


class Hypercolumn(Head):
    """Upsample all decoder stages to the last bilinearly and concatenate them; 3x3 convolution, ReLU, 1x1 convolution.

    The 3x3 convolution sees every channel of every stage at full size and costs more than many decoders. `project`
    brings each stage to that many channels first, at the stage's own size, by a 1x1 convolution without bias.
    `norm="batch"` normalises after the 3x3 convolution; `norm="none"` gives it a bias instead. Dropout of whole
    channels comes before the 1x1 convolution, or with `dropout_first` on the concatenated stages.

    Shape: list of (N C_j H_j W_j), deep first, to (N 1 H W) of the last.

    Raises:
        ValueError: width or project below 1, dropout outside [0, 1), or an unknown norm.

    Reference: Hariharan, Arbeláez, Girshick, Malik 2015, arXiv:1411.5752.
    """

    def __init__(
        self,
        channels: Sequence[int],
        width: int,
        dropout: float,
        project: int | None = None,
        norm: str = "batch",
        dropout_first: bool = False,
        context: int = 0,
    ):
        super().__init__(width, context)
        if width < 1 or not 0 <= dropout < 1:
            raise ValueError(f"width={width}, dropout={dropout}, expected width >= 1 and 0 <= dropout < 1")
        if project is not None and project < 1:
            raise ValueError(f"project={project}, expected null or at least 1")
        if norm not in ("batch", "none"):
            raise ValueError(f"norm={norm!r}, expected batch or none")
        self.projections = nn.ModuleList(
            nn.Identity() if project is None else nn.Conv2d(c, project, 1, bias=False) for c in channels
        )
        inputs = sum(channels) if project is None else project * len(channels)
        self.dropout = nn.Dropout2d(dropout if dropout_first else 0.0)
        self.features = conv_bn_relu(inputs, width) if norm == "batch" else conv_relu(inputs, width)
        self.classifier = nn.Sequential(nn.Dropout2d(0.0 if dropout_first else dropout), nn.Conv2d(width, 1, 1))

    def columns(self, stages: Sequence[Tensor]) -> Tensor:
        size = stages[-1].shape[-2:]
        projected = [projection(stage) for projection, stage in zip(self.projections, stages, strict=True)]
        columns = [F.interpolate(s, size=size, mode="bilinear", align_corners=False) for s in projected[:-1]]
        return self.features(self.dropout(torch.cat([*columns, projected[-1]], dim=1)))
