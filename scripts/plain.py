"""What a user would write without Salt: the other side of the benchmarks, from the libraries' own documentation."""

from typing import Any

import albumentations as A
import cv2
import numpy as np
import segmentation_models_pytorch as smp
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from salt.data.tiles import Tiles

IOUS = np.arange(0.5, 1.0, 0.05)  # the competition's


class PlainTiles(Dataset[tuple[Tensor, Tensor]]):
    """Augmented and padded tiles in [0, 1] with their masks."""

    def __init__(self, tiles: Tiles, positions: NDArray[np.int64], size: int):
        self.tiles, self.positions = tiles, positions
        self.transform = A.Compose(
            [
                A.HorizontalFlip(p=0.5),
                A.Affine(scale=(0.9, 1.1), translate_percent=(-0.1, 0.1), border_mode=cv2.BORDER_REFLECT_101, p=0.5),
                A.RandomBrightnessContrast(0.1, 0.1, p=0.5),
                A.PadIfNeeded(size, size, border_mode=cv2.BORDER_REFLECT_101),
            ]
        )

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        assert self.tiles.masks is not None
        i = self.positions[number]
        made = self.transform(image=self.tiles.images[i], mask=self.tiles.masks[i])
        return torch.from_numpy(made["image"]).float()[None] / 255, torch.from_numpy(made["mask"]).float()[None]


class PlainTraining:
    """smp's U-Net with scSE and its Lovász loss, Adam, a DataLoader; eager, in float32 or under bfloat16 autocast."""

    def __init__(
        self,
        tiles: Tiles,
        positions: NDArray[np.int64],
        encoder: str,
        channels: list[int],
        size: int,
        batch_size: int,
        device: torch.device,
        workers: int,
        autocast: bool,
    ):
        self.model = smp.Unet(
            encoder, encoder_weights=None, in_channels=1, decoder_channels=channels, decoder_attention_type="scse"
        ).to(device)
        self.loss = smp.losses.LovaszLoss("binary", per_image=True)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4)
        self.loader: Any = DataLoader(
            PlainTiles(tiles, positions, size),
            batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=min(workers, 4),  # what they prepare lies in shared memory, of which containers have 64 MB
        )
        self.device, self.autocast = device, autocast

    def epoch(self) -> float:
        """Train on every tile once; returns the mean loss."""
        self.model.train()
        losses = []
        for images, masks in self.loader:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
                logits = self.model(images.to(self.device))
            loss = self.loss(logits.float(), masks.to(self.device))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return float(np.mean(losses))


def score(probabilities: NDArray[np.floating], masks: NDArray[np.uint8], thresholds: NDArray[np.float64]) -> Any:
    """The competition's score of N tiles (N H W) at each of T thresholds (N T), image after image."""
    table = np.empty((len(masks), len(thresholds)))
    for i in range(len(masks)):
        truth = masks[i] > 0
        for t, threshold in enumerate(thresholds):
            found = probabilities[i].astype(np.float64) > threshold
            if not truth.any() and not found.any():
                table[i, t] = 1.0
                continue
            overlap = np.logical_and(truth, found).sum() / np.logical_or(truth, found).sum()
            table[i, t] = (overlap > IOUS).mean()
    return table


def encode(mask: NDArray[np.generic]) -> str:
    """Run lengths of one mask."""
    pixels = np.concatenate([[0], mask.T.flatten(), [0]])
    runs = np.where(pixels[1:] != pixels[:-1])[0] + 1
    runs[1::2] -= runs[::2]
    return " ".join(str(x) for x in runs)


def decode(text: str, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """The mask of run lengths."""
    numbers = text.split()
    starts, lengths = np.asarray(numbers[0::2], dtype=int) - 1, np.asarray(numbers[1::2], dtype=int)
    flat = np.zeros(shape[0] * shape[1], dtype=np.uint8)
    for start, length in zip(starts, lengths, strict=True):
        flat[start : start + length] = 1
    return flat.reshape(shape, order="F")
