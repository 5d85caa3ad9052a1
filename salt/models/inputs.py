"""How a tile becomes the network's input, and how logits come back to the tile."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DEEPEST = 1000.0  # feet; the survey depths of the challenge are 51 to 959

N_CHANNELS = {"image": 1, "depth": 3, "depth_z": 4}


def to_float(images: Tensor) -> Tensor:
    """Scale grey values (N 1 H W, uint8) to [0, 1]."""
    return images.float() / 255


class Channels(nn.Module):
    """The network's channels of a tile: the grey image as (image - mean) / std, or with depth.

    `image`: the image. `depth`: image, relative depth in the tile (0 at its top, 1 at its bottom), and their product.
    `depth_z`: these and the depth of the tile in the survey.

    Shape: images (N 1 H W) in [0, 1] and survey depths (N) in feet to (N C H W), C = 1, 3 or 4.

    Reference: Liu et al. 2018, "CoordConv", arXiv:1807.03247; relative depth and product as in the challenge's 1st and
    32nd place, 2018 (the 1st place multiplies the raw image, the 32nd the normalised one).
    """

    def __init__(self, kind: str, mean: float, std: float):
        super().__init__()
        self.kind, self.n_channels = kind, N_CHANNELS[kind]
        self.mean, self.std = mean, std

    def forward(self, images: Tensor, depths: Tensor) -> Tensor:
        images = (images - self.mean) / self.std
        if self.kind == "image":
            return images
        rows = torch.linspace(0, 1, images.shape[-2], device=images.device)[:, None].expand_as(images)
        channels = [images, rows, images * rows]
        if self.kind == "depth_z":
            channels.append((depths.to(images) / DEEPEST)[:, None, None, None].expand_as(images))
        return torch.cat(channels, dim=1)


class Pad(nn.Module):
    """Pad a tile on all sides to size x size; the tile is the window in the middle (101 to 128: 13 before, 14 after).

    Shape: (N C h w) to (N C size size) and back, for tiles of h x w pixels.

    Raises:
        ValueError: size is too small or, for reflection, too large; mode is unknown.
    """

    def __init__(self, size: int, mode: str, tile: Sequence[int]):
        super().__init__()
        if mode not in ("reflect", "replicate"):
            raise ValueError(f"mode={mode!r}, expected reflect or replicate")
        if not max(tile) <= size <= 2 * min(tile):
            raise ValueError(f"size={size}, expected {max(tile)}..{2 * min(tile)} for tiles of {size_text(tile)}")
        self.size, self.tile, self.mode = (size, size), tuple(tile), mode
        self.top, self.left = ((size - side) // 2 for side in tile)

    def prepare(self, images: Tensor) -> Tensor:
        (size, _), (height, width) = self.size, self.tile
        borders = (self.left, size - width - self.left, self.top, size - height - self.top)
        return F.pad(images, borders, mode=self.mode)

    def restore(self, logits: Tensor) -> Tensor:
        height, width = self.tile
        return logits[..., self.top : self.top + height, self.left : self.left + width]


class Resize(nn.Module):
    """Resize a tile to size x size, bilinearly; logits come back the same way, before any threshold.

    Shape: (N C h w) to (N C size size) and back, for tiles of h x w pixels.

    Raises:
        ValueError: size is smaller than the tile or more than five times as large.
    """

    def __init__(self, size: int, tile: Sequence[int]):
        super().__init__()
        if not max(tile) <= size <= 5 * min(tile):
            raise ValueError(f"size={size}, expected {max(tile)}..{5 * min(tile)} for tiles of {size_text(tile)}")
        self.size, self.tile = (size, size), tuple(tile)

    def prepare(self, images: Tensor) -> Tensor:
        return F.interpolate(images, size=self.size, mode="bilinear", align_corners=False)

    def restore(self, logits: Tensor) -> Tensor:
        return F.interpolate(logits, size=self.tile, mode="bilinear", align_corners=False)


class ResizePad(nn.Module):
    """Resize a tile to resize x resize, then pad to size x size (101 to 202 to 256: 27 before and after).

    Shape: (N C h w) to (N C size size) and back, for tiles of h x w pixels.

    Raises:
        ValueError: as `Resize` and `Pad`.
    """

    def __init__(self, resize: int, size: int, mode: str, tile: Sequence[int]):
        super().__init__()
        self.inner, self.outer = Resize(resize, tile), Pad(size, mode, (resize, resize))
        self.size, self.tile = self.outer.size, self.inner.tile

    def prepare(self, images: Tensor) -> Tensor:
        return self.outer.prepare(self.inner.prepare(images))

    def restore(self, logits: Tensor) -> Tensor:
        return self.inner.restore(self.outer.restore(logits))


class AnySize(nn.Module):
    """Use the image itself as the network's input, instead of padding it, so that its sides may vary.

    Shape: (N C H W) to the same and back; the sides are multiples of 32, 64 or more.
    """

    def __init__(self) -> None:
        super().__init__()
        self.size: Sequence[int] = (0, 0)

    @property
    def tile(self) -> Sequence[int]:
        """Return height and width of the last image."""
        return self.size

    def prepare(self, images: Tensor) -> Tensor:
        self.size = images.shape[-2:]
        return images

    def restore(self, logits: Tensor) -> Tensor:
        return logits


def size_text(tile: Sequence[int]) -> str:
    """Return height and width for a message."""
    return "x".join(map(str, tile)) + " pixels"


InputWindow = Pad | Resize | ResizePad | AnySize


def at_tile(logits: Tensor, window: InputWindow) -> Tensor:
    """Resize logits (N 1 H W) to the network's input, then restore the tile's pixels."""
    full = logits.float()
    if full.shape[-2:] != window.size:
        full = F.interpolate(full, size=window.size, mode="bilinear", align_corners=False)
    return window.restore(full)
