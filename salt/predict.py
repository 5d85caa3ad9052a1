"""Probabilities of tiles from a trained network, averaged over the mirrored tile and over folds."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from salt import ranks
from salt.data.tgs import Tiles
from salt.models.segmenter import Output
from salt.runtime import Runtime

Forward = Callable[[Tensor, Tensor], Output]  # the network, it may be compiled


def to_float(images: Tensor, runtime: Runtime) -> Tensor:
    """Grey values (N 1 H W, uint8) as [0, 1] on the device."""
    return images.to(runtime.device, non_blocking=True).float() / 255


def inputs(tiles: Tiles, index: NDArray[np.int64], runtime: Runtime) -> tuple[Tensor, Tensor]:
    """Images (N 1 H W) in [0, 1] and survey depths (N, feet) of some tiles on the device."""
    depths = torch.from_numpy(tiles.depths[index]).float()
    return to_float(torch.from_numpy(tiles.images[index])[:, None], runtime), depths.to(runtime.device)


@torch.no_grad()
def predict(
    forward: Forward,
    model: nn.Module,
    tiles: Tiles,
    positions: NDArray[np.int64],
    batch_size: int,
    runtime: Runtime,
    tta: bool,
    title: str,
) -> NDArray[np.float32]:
    """Probabilities (N H W) of the tiles at N positions, in eval mode.

    Of several processes each works on its share, and all get all. `forward` is the network (it may be compiled); every
    call has the same batch size, the last one filled up with copies, so that it is not compiled again.
    """
    model.eval()
    share = positions[ranks.rank() :: ranks.world_size()]
    probabilities = np.empty((len(share), *tiles.images.shape[1:]), dtype=np.float32)
    for start in tqdm(range(0, len(share), batch_size), desc=title, unit="batch", disable=None, leave=False):
        index = share[start : start + batch_size]
        batch, depths = inputs(tiles, np.resize(index, batch_size), runtime)
        with runtime.autocast():
            result = forward(batch, depths).logits.float().sigmoid()
            if tta:
                mirrored = forward(batch.flip(-1), depths).logits.float().sigmoid()
                result = (result + mirrored.flip(-1)) / 2
        probabilities[start : start + batch_size] = result[: len(index), 0].cpu().numpy()
    if ranks.world_size() > 1:
        parts = ranks.gather(probabilities)
        probabilities = np.empty((len(positions), *tiles.images.shape[1:]), dtype=np.float32)
        for rank, part in enumerate(parts):
            probabilities[rank :: ranks.world_size()] = part
    if not np.isfinite(probabilities).all():
        raise ValueError(
            f"{title}: the network gives probabilities that are no numbers; trainer.precision=fp32 may help"
        )
    return probabilities
