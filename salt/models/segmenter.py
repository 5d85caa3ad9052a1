"""The whole network: window, encoder, center, decoder, head, and the extra heads of deep supervision."""

from typing import NamedTuple

from torch import Tensor, nn

from salt.models.inputs import Pad
from salt.models.supervision import Loss, Multiscale, NoSupervision

# Grey-level mean and spread of ImageNet's three channels (0.485, 0.456, 0.406; 0.229, 0.224, 0.225), averaged:
# the scale that pretrained first layers expect.
MEAN, STD = 0.449, 0.226


class Output(NamedTuple):
    """Logits of the tile (N 1 101 101), and in training those of the extra heads."""

    logits: Tensor
    extra: list[Tensor]


class Segmenter(nn.Module):
    """Encoder, center, decoder and head between two windows.

    Shape: images (N 1 101 101) in [0, 1] to logits (N 1 101 101).
    """

    def __init__(
        self,
        window: Pad,
        encoder: nn.Module,
        center: nn.Module,
        decoder: nn.Module,
        head: nn.Module,
        supervision: NoSupervision | Multiscale,
    ):
        super().__init__()
        self.window, self.encoder, self.center, self.decoder = window, encoder, center, decoder
        self.head, self.supervision = head, supervision

    def forward(self, images: Tensor) -> Output:
        """Logits of a batch."""
        features = self.encoder(self.window.prepare((images - MEAN) / STD))
        features[-1] = self.center(features[-1])
        stages = self.decoder(features)
        logits = self.window.restore(self.head(stages))
        return Output(logits, self.supervision(stages) if self.training else [])

    def loss(self, output: Output, masks: Tensor, loss: Loss) -> Tensor:
        """The run's loss on the final logits plus deep supervision's share, for masks (N 1 101 101)."""
        return loss(output.logits, masks) + self.supervision.loss(output.extra, masks, loss, self.window)
