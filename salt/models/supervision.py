"""Deep supervision: extra heads in training, and their share of the loss."""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from salt.models.inputs import InputWindow, at_tile
from salt.models.stages import conv_relu


class Loss(Protocol):
    """The run's loss of logits and masks (N 1 H W), over pixels whose `known` (N 1 H W) is 1; None means all."""

    def __call__(self, logits: Tensor, masks: Tensor, *, known: Tensor | None) -> Tensor:
        """Return the loss of a batch, a scalar."""


class DeepSupervision(nn.Module):
    """Extra heads and their loss; this base class has none.

    `deepest` is the number of channels of the encoder's last map (None without an encoder), `channels` of each decoder
    stage, `width` of the head's columns. A subclass that describes the whole tile sets `n_context`, the
    channels of that description.
    """

    n_context = 0

    def __init__(self, deepest: int | None, channels: Sequence[int], width: int):
        super().__init__()

    def context(self, deepest: Tensor) -> Tensor | None:
        """Describe the whole tile (N n_context 1 1) from the encoder's last map (N C H W)."""
        return None

    def forward(self, stages: Sequence[Tensor], columns: Tensor, context: Tensor | None) -> list[Tensor]:
        """Return the extra logits for decoder stages (N C_j H_j W_j, deep first) and columns (N width H W)."""
        return []

    def loss(
        self, extra: Sequence[Tensor], masks: Tensor, loss: Loss, window: InputWindow, known: Tensor | None = None
    ) -> Tensor:
        """Return the extra heads' share of the loss against masks (N 1 H W), of the pixels where `known` is 1."""
        return masks.new_zeros((), dtype=torch.float32)

    def gated(self, logits: Tensor, context: Tensor | None) -> Tensor:
        """Return the logits (N 1 H W) for inference."""
        return logits


class NoDeepSupervision(DeepSupervision):
    """No extra head: only the final logits are trained."""


class Multiscale(DeepSupervision):
    """A 1x1 head on every decoder stage; each one's loss is added with its own weight.

    `compare="logits"` upsamples the logits and takes the tile's window out of them, as for the final logits;
    `compare="masks"` brings the mask to the input's size like the image, then reduces it to the head's size: a
    cell is salt if half of its area is.

    Shape: list of (N C_j H_j W_j), deep first, to as many logits (N 1 H_j W_j).

    Raises:
        ValueError: weights does not have one entry >= 0 per stage, or compare is unknown.

    Reference: Lee, Xie, Gallagher, Zhang, Tu 2015, "Deeply-Supervised Nets", arXiv:1409.5185.
    """

    def __init__(
        self, deepest: int | None, channels: Sequence[int], width: int, weights: Sequence[float], compare: str
    ):
        super().__init__(deepest, channels, width)
        if len(weights) != len(channels) or min(weights) < 0:
            raise ValueError(f"weights={list(weights)}, expected {len(channels)} numbers >= 0, deep stage first")
        if compare not in ("logits", "masks"):
            raise ValueError(f"compare={compare!r}, expected logits or masks")
        self.weights, self.compare = list(weights), compare
        self.heads = nn.ModuleList(nn.Conv2d(c, 1, 1) for c in channels)

    def forward(self, stages: Sequence[Tensor], columns: Tensor, context: Tensor | None) -> list[Tensor]:
        return [head(stage) for head, stage in zip(self.heads, stages, strict=True)]

    def loss(
        self, extra: Sequence[Tensor], masks: Tensor, loss: Loss, window: InputWindow, known: Tensor | None = None
    ) -> Tensor:
        terms = []
        for weight, logits in zip(self.weights, extra, strict=True):
            if self.compare == "logits":
                terms.append(weight * loss(at_tile(logits, window), masks, known=known))
            else:
                small, seen = reduce_masks(masks, known, window, logits.shape[-2:])
                terms.append(weight * loss(logits, small, known=seen))
        return torch.stack(terms).sum()


class Nonempty(DeepSupervision):
    """Three kinds of heads: has the tile salt at all, where is it in tiles that have some, and both together.

    The image head sees the encoder's last map: z = 1x1 convolution to `n_context` channels of its global average, then
    a linear layer to one logit. The final ("fused") logits come from the columns with z at every pixel, through a 3x3
    convolution and ReLU. The non-empty heads (one on the columns, or one on each decoder stage) are 1x1 convolutions;
    with `hidden` a 3x3 convolution to that many channels and ReLU come before.

        loss = L(fused, all tiles) + weight * sum of L(head, tiles with salt) + image_weight * BCE(image head)

    where L is the run's loss, for the non-empty heads the mean of each tile's own loss (0 without such tiles). A tile
    with unknown pixels and no known salt does not train the image head. At inference only the fused logits count; with
    `gate` a pixel's probability is multiplied by the tile's.

    Shape: list of (N C_j H_j W_j), columns (N width H W), z (N n_context 1 1) to [(N 1), (N 1 H W) or (N 1 H_j W_j)s].

    Raises:
        ValueError: there is no encoder, heads is neither 1 nor the number of stages, or a weight or hidden is negative.

    Reference: the scheme of H. CherKeng in the forum of the TGS Salt Identification Challenge, 2018, as used by its
    4th, 9th, 19th and 53rd place (one head with weight 0.5, or five with 0.1 each; image head 0.05).
    """

    n_context = 64

    def __init__(
        self,
        deepest: int | None,
        channels: Sequence[int],
        width: int,
        heads: int,
        weight: float,
        image_weight: float,
        gate: bool,
        hidden: int = 0,
    ):
        super().__init__(deepest, channels, width)
        if deepest is None:
            raise ValueError("the image head sees the encoder's last map, expected a decoder that works on an encoder")
        if heads not in (1, len(channels)):
            raise ValueError(f"heads={heads}, expected 1 (on the head's columns) or {len(channels)} (on every stage)")
        if weight < 0 or image_weight < 0 or hidden < 0:
            raise ValueError(f"weight={weight}, image_weight={image_weight}, hidden={hidden}, expected numbers >= 0")
        self.weight, self.image_weight, self.gate = weight, image_weight, gate
        self.squeeze = nn.Conv2d(deepest, self.n_context, 1)
        self.image_head = nn.Linear(self.n_context, 1)
        self.heads = nn.ModuleList(
            nn.Sequential(conv_relu(c, hidden), nn.Conv2d(hidden, 1, 1)) if hidden else nn.Conv2d(c, 1, 1)
            for c in (channels if heads > 1 else [width])
        )

    def context(self, deepest: Tensor) -> Tensor:
        return self.squeeze(deepest.mean(dim=(2, 3), keepdim=True))

    def forward(self, stages: Sequence[Tensor], columns: Tensor, context: Tensor | None) -> list[Tensor]:
        """Return the logit of the tile, then those of the non-empty heads."""
        assert context is not None
        maps = stages if len(self.heads) > 1 else [columns]
        return [self.image_head(context.flatten(1)), *(h(m) for h, m in zip(self.heads, maps, strict=True))]

    def loss(
        self, extra: Sequence[Tensor], masks: Tensor, loss: Loss, window: InputWindow, known: Tensor | None = None
    ) -> Tensor:
        if known is not None:
            masks = torch.where(known > 0, masks, 0)
        has_salt = masks.flatten(1).any(dim=1)
        total = self.image_weight * self.image_loss(extra[0][:, 0].float(), has_salt, known)
        weights = has_salt / has_salt.sum().clamp(min=1)  # indexing by values would wait for the device
        # empty masks are replaced by full ones, since a loss need not be finite on an empty mask
        salt = has_salt[:, None, None, None]
        targets = torch.where(salt, masks, 1)
        seen = None if known is None else torch.where(salt, known, 1)
        for logits in extra[1:]:
            losses = tile_losses(loss, torch.where(salt, at_tile(logits, window), 0), targets, seen)
            total = total + self.weight * (weights * losses).sum()
        return total

    def image_loss(self, logits: Tensor, has_salt: Tensor, known: Tensor | None) -> Tensor:
        """Return the image head's binary cross entropy (N), the mean over the tiles of which it is known."""
        if known is None:
            return F.binary_cross_entropy_with_logits(logits, has_salt.float())
        sure = has_salt | (known.flatten(1) > 0).all(dim=1)
        losses = F.binary_cross_entropy_with_logits(logits, has_salt.float(), weight=sure.float(), reduction="sum")
        return losses / sure.sum().clamp(min=1)

    def gated(self, logits: Tensor, context: Tensor | None) -> Tensor:
        if not self.gate:
            return logits
        assert context is not None
        of_tile = F.logsigmoid(self.image_head(context.flatten(1)).float())[:, :, None, None]
        both = F.logsigmoid(logits.float()) + of_tile
        return both - torch.log(-torch.expm1(both.clamp(max=-1e-6)))  # the logit of exp(both)


def reduce_masks(
    masks: Tensor, known: Tensor | None, window: InputWindow, size: Sequence[int]
) -> tuple[Tensor, Tensor | None]:
    """Return masks (N 1 h w) at a head's size, and which of its cells are known; None if all pixels are.

    A cell is salt if at least half of its known area is, and known if at least half of its pixels are.
    """

    def shares(pixels: Tensor) -> Tensor:
        return F.interpolate(window.prepare(pixels), size=tuple(size), mode="area")

    if known is None:
        return (shares(masks) >= 0.5).float(), None
    seen = shares((known > 0).float())
    return (shares(torch.where(known > 0, masks, 0)) >= seen / 2).float(), seen >= 0.5


def tile_losses(loss: Loss, logits: Tensor, masks: Tensor, known: Tensor | None = None) -> Tensor:
    """Return the loss of each tile on its own (N), by vmap, or tile by tile for a loss that vmap refuses."""

    def loss_of_tile(logits: Tensor, mask: Tensor, known: Tensor | None = None) -> Tensor:
        return loss(logits[None], mask[None], known=None if known is None else known[None])

    tiles = (logits, masks) if known is None else (logits, masks, known)
    try:
        return torch.vmap(loss_of_tile)(*tiles)
    except torch.OutOfMemoryError:  # a RuntimeError too, which tile by tile would hide
        raise
    except RuntimeError:
        return torch.stack([loss_of_tile(*tile) for tile in zip(*tiles, strict=True)])
