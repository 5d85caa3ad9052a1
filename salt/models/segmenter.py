"""The whole network: channels, window, encoder, center, decoder, head, and the extra heads of deep supervision."""

from typing import NamedTuple

from torch import Tensor, nn

from salt.models.heads import Head
from salt.models.inputs import Channels, InputWindow, at_tile
from salt.models.supervision import DeepSupervision, Loss


class Output(NamedTuple):
    """Logits of the tile (N 1 h w), and in training those of the extra heads."""

    logits: Tensor
    extra: list[Tensor]

    def views(self) -> "Output":
        """Return views of all logits, so that autograd sums the gradients of one view before those of others."""
        return Output(self.logits[:], [extra[:] for extra in self.extra])


class Segmenter(nn.Module):
    """Encoder, center, decoder and head between two windows, for tiles of h x w pixels.

    Shape: images (N 1 h w) in [0, 1] and survey depths (N) in feet to logits (N 1 h w).
    """

    def __init__(
        self,
        channels: Channels,
        window: InputWindow,
        encoder: nn.Module,
        center: nn.Module,
        decoder: nn.Module,
        head: Head,
        supervision: DeepSupervision,
    ):
        super().__init__()
        self.channels, self.window, self.encoder, self.center = channels, window, encoder, center
        self.decoder, self.head, self.supervision = decoder, head, supervision

    @property
    def tile(self) -> tuple[int, int]:
        height, width = self.window.tile
        return height, width

    def forward(self, images: Tensor, depths: Tensor) -> Output:
        features = self.encoder(self.window.prepare(self.channels(images, depths)))
        context = self.supervision.context(features[-1])
        features[-1] = self.center(features[-1])
        stages = self.decoder(features)
        columns = self.head.columns(stages)
        logits = at_tile(self.head(columns, context), self.window)
        if self.training:
            return Output(logits, self.supervision(stages, columns, context))
        return Output(self.supervision.gated(logits, context), [])

    def loss(self, output: Output, masks: Tensor, loss: Loss, known: Tensor | None = None) -> Tensor:
        """Return the run's loss on the final logits plus deep supervision's share, for masks (N 1 h w).

        `known` (N 1 h w) is 1 where the mask is known; None: all of it is.
        """
        final = loss(output.logits, masks, known=known)
        return final + self.supervision.loss(output.extra, masks, loss, self.window, known)
