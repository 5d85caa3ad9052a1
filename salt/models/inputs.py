"""How a tile of 101x101 becomes the network's input, and how logits come back to the tile."""

import torch.nn.functional as F
from torch import Tensor, nn

TILE = 101  # pixels, both sides


class Pad(nn.Module):
    """Pad a tile on all sides to size x size; the tile is the window in the middle (101 to 128: 13 before, 14 after).

    Shape: (N 1 101 101) to (N 1 size size) and back.

    Raises:
        ValueError: size is too small or, for reflection, too large; mode is unknown.
    """

    def __init__(self, size: int = 128, mode: str = "reflect"):
        super().__init__()
        if mode not in ("reflect", "replicate"):
            raise ValueError(f"mode={mode!r}, expected reflect or replicate")
        if not TILE <= size <= 2 * TILE:
            raise ValueError(f"size={size}, expected {TILE}..{2 * TILE} pixels")
        self.size, self.mode = (size, size), mode
        self.before = (size - TILE) // 2
        self.after = size - TILE - self.before

    def prepare(self, images: Tensor) -> Tensor:
        """Padded tiles."""
        return F.pad(images, (self.before, self.after, self.before, self.after), mode=self.mode)

    def restore(self, logits: Tensor) -> Tensor:
        """The tiles' windows."""
        return logits[..., self.before : self.before + TILE, self.before : self.before + TILE]
