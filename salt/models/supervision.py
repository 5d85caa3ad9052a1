"""Deep supervision: extra heads on the decoder's stages, and their share of the loss in training."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salt.models.inputs import Pad

Loss = Callable[[Tensor, Tensor], Tensor]


class NoSupervision(nn.Module):
    """No extra head: only the final logits are trained."""

    def __init__(self, channels: Sequence[int]):
        super().__init__()

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """No logits."""
        return []

    def loss(self, logits: Sequence[Tensor], masks: Tensor, loss: Loss, window: Pad) -> Tensor:
        """Zero."""
        return masks.new_zeros(())


class Multiscale(nn.Module):
    """A 1x1 head on every decoder stage; each one's loss is added with its own weight.

    `compare="logits"` upsamples the logits and takes the tile's window out of them, as for the final logits;
    `compare="masks"` pads the mask like the image and reduces it to the head's size (salt where half
    of the area or more is).

    Shape: list of (N C_j H_j W_j), deep first, to as many logits (N 1 H_j W_j).

    Raises:
        ValueError: weights does not have one entry >= 0 per stage, or compare is unknown.

    Reference: Lee, Xie, Gallagher, Zhang, Tu 2015, "Deeply-Supervised Nets", arXiv:1409.5185.
    """

    def __init__(self, channels: Sequence[int], weights: Sequence[float], compare: str = "logits"):
        super().__init__()
        if len(weights) != len(channels) or min(weights) < 0:
            raise ValueError(f"weights={list(weights)}, expected {len(channels)} numbers >= 0, deep stage first")
        if compare not in ("logits", "masks"):
            raise ValueError(f"compare={compare!r}, expected logits or masks")
        self.weights, self.compare = list(weights), compare
        self.heads = nn.ModuleList(nn.Conv2d(c, 1, 1) for c in channels)

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Logits of every stage."""
        return [head(stage) for head, stage in zip(self.heads, stages, strict=True)]

    def loss(self, logits: Sequence[Tensor], masks: Tensor, loss: Loss, window: Pad) -> Tensor:
        """Weighted sum of the stages' losses against the masks (N 1 H W)."""
        terms = []
        for weight, stage in zip(self.weights, logits, strict=True):
            if self.compare == "logits":
                full = F.interpolate(stage.float(), size=window.size, mode="bilinear", align_corners=False)
                terms.append(weight * loss(window.restore(full), masks))
            else:
                share = F.interpolate(window.prepare(masks), size=stage.shape[-2:], mode="area")
                terms.append(weight * loss(stage, (share >= 0.5).float()))
        return torch.stack(terms).sum()
