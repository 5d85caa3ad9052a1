"""Probabilities of tiles from trained networks, averaged over the mirrored tile, folds and snapshots."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from salt.build import Network
from salt.data.tiles import Tiles
from salt.data.windows import Windows
from salt.machine import distributed
from salt.machine.device import Runtime, is_out_of_memory
from salt.runs.stacks import Stack, empty_stack
from salt.runs.weights import load_weights

WINDOWS_AT_ONCE = 4096  # copied to the device, and their probabilities back: 42 MB and 167 MB


def to_float(images: Tensor, runtime: Runtime) -> Tensor:
    """Scale grey values (N 1 H W, uint8) to [0, 1] on the device."""
    return images.to(runtime.device, non_blocking=True).float() / 255


def inputs(tiles: Tiles, windows: Windows, start: int, stop: int, runtime: Runtime) -> tuple[Tensor, Tensor]:
    """Copy grey values (M 1 h w, uint8) and survey depths (M, feet) of the windows start ... stop-1 to the device."""
    images, positions = windows.cut(start, stop)
    depths = torch.from_numpy(tiles.depths[positions]).float()
    return torch.from_numpy(images)[:, None].to(runtime.device), depths.to(runtime.device)


@dataclass(frozen=True)
class Predictor:
    """A network that predicts tiles in eval mode, with `tta` also the mirrored ones.

    The weights in `file`, if any, are loaded first. All batches have the same size, so a network compiles once: copies
    fill the last one. `fill=False` allows a smaller size for few tiles. `title` names the bar and starts the messages.
    """

    network: Network
    runtime: Runtime
    tta: bool
    title: str
    file: Path | None = None
    fill: bool = True

    @torch.no_grad()
    def predict(self, tiles: Tiles, positions: NDArray[np.int64], progress: bool = True) -> Stack:
        """Return probabilities (N H W, float32; or N arrays) of the tiles at N positions.

        Larger images are predicted in windows that overlap. With several processes each predicts its share, and only
        rank 0 gets the probabilities.

        Raises:
            ValueError: the device has too little memory, a probability is NaN, or the file cannot be used.
        """
        if self.file is not None:
            load_weights(self.network.model, self.file)
        self.network.model.eval()
        share = positions[distributed.rank() :: distributed.world_size()]
        windows = Windows(tiles.images, share, self.network.model.tile)
        probabilities = windows.start_result()
        size = self.runtime.predict_batch_size
        if not self.fill:
            size = min(size, max(len(windows), 1))
        try:
            hidden = distributed.tqdm_disable() if progress else True
            with tqdm(total=len(windows), desc=self.title, unit="tile", disable=hidden, leave=False) as bar:
                for start in range(0, len(windows), WINDOWS_AT_ONCE):
                    images, depths = inputs(
                        tiles, windows, start, min(start + WINDOWS_AT_ONCE, len(windows)), self.runtime
                    )
                    block = self.predict_block(images, depths, size, bar)
                    windows.put(probabilities, start, block.cpu().numpy())
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise ValueError(
                f"{self.title}: out of GPU memory with batches of {size} tiles: "
                f"{str(error).splitlines()[0]} Lower trainer.predict_batch_size; the same command resumes "
                "(commands that predict: --batch-size)."
            ) from error
        probabilities = gather_probabilities(probabilities, tiles, positions)
        if not all(np.isfinite(image).all() for image in probabilities):
            raise ValueError(
                f"{self.title}: the network gives probabilities that are NaN; trainer.precision=fp32 may help"
            )
        return probabilities

    def predict_block(self, images: Tensor, depths: Tensor, size: int, bar: "tqdm[NoReturn]") -> Tensor:
        """Return probabilities (N H W) of grey values (N 1 H W, uint8) and depths (N), all on the device."""
        n = len(images)
        padded = torch.arange(-(-n // size) * size, device=images.device) % n
        parts = []
        for start in range(0, n, size):
            index = padded[start : start + size]
            batch, batch_depths = to_float(images[index], self.runtime), depths[index]
            with self.runtime.autocast():
                result = self.network.forward(batch, batch_depths).logits.float().sigmoid()
                if self.tta:
                    mirrored = self.network.forward(batch.flip(-1), batch_depths).logits.float().sigmoid()
                    result = (result + mirrored.flip(-1)) / 2
            parts.append(result[:, 0])
            bar.update(min(size, n - start))
        return torch.cat(parts)[:n]

    def in_turn(self, files: Sequence[Path]) -> list["Predictor"]:
        """Return a predictor for each file of weights (of a fold); they share this network."""
        return [replace(self, title=f"{self.title}, {file.parent.name}", file=file) for file in files]


def gather_probabilities(share: Stack, tiles: Tiles, positions: NDArray[np.int64]) -> Stack:
    """Return the probabilities of all processes on rank 0, in the order of the positions; nothing on the others."""
    if distributed.world_size() == 1:
        return share
    parts = distributed.gather(share)
    probabilities = empty_stack([tiles.images[i].shape for i in positions] if parts else [], np.float32)
    for rank, part in enumerate(parts):
        for i, image in enumerate(part):
            probabilities[rank + i * distributed.world_size()] = image
    return probabilities


def predict_mean(
    predictors: Sequence[Predictor], tiles: Tiles, positions: NDArray[np.int64], progress: bool = True
) -> Stack:
    """Return the mean probabilities (N H W, or N arrays) of several networks; see `Predictor.predict`."""
    total = np.zeros((), dtype=np.float32)
    for predictor in predictors:
        total = total + predictor.predict(tiles, positions, progress)
    return total / np.float32(len(predictors))
