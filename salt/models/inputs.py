"""How a tile of 101x101 becomes the network's input, and how logits come back to the tile."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TILE_SIZE = 101  # pixels, both sides; as in salt.data.png, of which the models import nothing

DEEPEST = 1000.0  # feet; the survey depths of the challenge are 51 to 959

N_CHANNELS = {"image": 1, "depth": 3, "depth_z": 4}


class Channels(nn.Module):
    """The network's channels of a tile: the normalised grey image alone, or with depth.

    The image is normalised as (image - mean) / std.

    `image`: the image. `depth`: image, relative depth in the tile (0 at its top, 1 at its bottom), and their product.
    `depth_z`: these and the depth of the tile in the survey.

    Shape: images (N 1 H W) in [0, 1] and survey depths (N) in feet to (N C H W), C = 1, 3 or 4.

    Reference: the relative depth and the product are of the challenge's 1st, 27th and 107th place, 2018; the product
    with the normalised image is of its 32nd place, while the 1st place multiplies the raw one. The idea is Liu et al.
    2018, "CoordConv", arXiv:1807.03247.
    """

    def __init__(self, kind: str, mean: float, std: float):
        super().__init__()
        self.kind, self.n_channels = kind, N_CHANNELS[kind]
        self.mean, self.std = mean, std

    def forward(self, images: Tensor, depths: Tensor) -> Tensor:
        """Channels of a batch."""
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

    Shape: (N C tile tile) to (N C size size) and back.

    Raises:
        ValueError: size is too small or, for reflection, too large; mode is unknown.
    """

    def __init__(self, size: int, mode: str, tile: int = TILE_SIZE):
        super().__init__()
        if mode not in ("reflect", "replicate"):
            raise ValueError(f"mode={mode!r}, expected reflect or replicate")
        if not tile <= size <= 2 * tile:
            raise ValueError(f"size={size}, expected {tile}..{2 * tile} pixels")
        self.size, self.tile, self.mode = (size, size), tile, mode
        self.before = (size - tile) // 2
        self.after = size - tile - self.before

    def prepare(self, images: Tensor) -> Tensor:
        """Padded tiles."""
        return F.pad(images, (self.before, self.after, self.before, self.after), mode=self.mode)

    def restore(self, logits: Tensor) -> Tensor:
        """The tiles' windows."""
        end = self.before + self.tile
        return logits[..., self.before : end, self.before : end]


class Resize(nn.Module):
    """Resize a tile to size x size, bilinearly; logits come back the same way, before any threshold.

    Shape: (N C 101 101) to (N C size size) and back.

    Raises:
        ValueError: size is smaller than the tile or more than five times as large.
    """

    def __init__(self, size: int):
        super().__init__()
        if not TILE_SIZE <= size <= 5 * TILE_SIZE:
            raise ValueError(f"size={size}, expected {TILE_SIZE}..{5 * TILE_SIZE} pixels")
        self.size = (size, size)

    def prepare(self, images: Tensor) -> Tensor:
        """Resized tiles."""
        return F.interpolate(images, size=self.size, mode="bilinear", align_corners=False)

    def restore(self, logits: Tensor) -> Tensor:
        """Logits at the tiles' own size."""
        return F.interpolate(logits, size=(TILE_SIZE, TILE_SIZE), mode="bilinear", align_corners=False)


class ResizePad(nn.Module):
    """Resize a tile to resize x resize, then pad to size x size (101 to 202 to 256: 27 before and after).

    Shape: (N C 101 101) to (N C size size) and back.

    Raises:
        ValueError: as `Resize` and `Pad`.
    """

    def __init__(self, resize: int, size: int, mode: str):
        super().__init__()
        self.inner, self.outer = Resize(resize), Pad(size, mode, tile=resize)
        self.size = self.outer.size

    def prepare(self, images: Tensor) -> Tensor:
        """Enlarged and padded tiles."""
        return self.outer.prepare(self.inner.prepare(images))

    def restore(self, logits: Tensor) -> Tensor:
        """Logits at the tiles' own size."""
        return self.inner.restore(self.outer.restore(logits))


Window = Pad | Resize | ResizePad


def shrink(inputs: Tensor, scale: float) -> Tensor:
    """Network inputs (N C H W) with both sides times `scale`, rounded to a multiple of 16 pixels."""
    size = [16 * round(scale * side / 16) for side in inputs.shape[-2:]]
    return F.interpolate(inputs, size=size, mode="bilinear", align_corners=False, antialias=True)


def at_tile(logits: Tensor, window: Window) -> Tensor:
    """Logits of any size (N 1 H W) at the tile's pixels, by way of the input's size."""
    full = logits.float()
    if full.shape[-2:] != window.size:
        full = F.interpolate(full, size=window.size, mode="bilinear", align_corners=False)
    return window.restore(full)
