"""Probabilities of tiles from a trained network, averaged over the mirrored tile and over folds."""

from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from salt.build import Forward, Network
from salt.data.tiles import Tiles
from salt.data.windows import Windows
from salt.machine import distributed
from salt.machine.device import Runtime, is_out_of_memory
from salt.runs.stacks import Stack, empty_stack

BLOCK = 4096  # windows that are copied to the device, and their probabilities back, at once: 42 MB and 167 MB


def to_float(images: Tensor, runtime: Runtime) -> Tensor:
    """Grey values (N 1 H W, uint8) as [0, 1] on the device."""
    return images.to(runtime.device, non_blocking=True).float() / 255


def inputs(tiles: Tiles, windows: Windows, start: int, stop: int, runtime: Runtime) -> tuple[Tensor, Tensor]:
    """Grey values (M 1 h w, uint8) and survey depths (M, feet) of the windows start ... stop-1 on the device."""
    images, positions = windows.cut(start, stop)
    depths = torch.from_numpy(tiles.depths[positions]).float()
    return torch.from_numpy(images)[:, None].to(runtime.device), depths.to(runtime.device)


@torch.no_grad()
def predict(
    network: Network,
    tiles: Tiles,
    positions: NDArray[np.int64],
    runtime: Runtime,
    tta: bool,
    title: str,
    progress: bool = True,
) -> Stack:
    """Probabilities (N H W, float32; or N arrays) of the tiles at N positions, in eval mode.

    Images larger than the network's tile are predicted in windows that overlap. With several processes each predicts
    its share; rank 0 gets all probabilities, the others none.

    Raises:
        ValueError: the device's memory is too small, or a probability is no number.
    """
    network.model.eval()
    share = positions[distributed.rank() :: distributed.world_size()]
    windows = Windows(tiles.images, share, network.model.tile)
    probabilities = windows.start_result()
    try:
        hidden = distributed.hides_bars() if progress else True
        with tqdm(total=len(windows), desc=title, unit="tile", disable=hidden, leave=False) as bar:
            for start in range(0, len(windows), BLOCK):
                images, depths = inputs(tiles, windows, start, min(start + BLOCK, len(windows)), runtime)
                block = predict_block(network.eval_forward, images, depths, runtime, tta, bar)
                windows.put(probabilities, start, block.cpu().numpy())
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(
            f"{title}: out of GPU memory while {runtime.predict_batch_size} tiles are predicted at once: "
            f"{str(error).splitlines()[0]} Lower trainer.predict_batch_size; the same run goes on "
            "(commands that predict: --batch-size)."
        ) from error
    if distributed.world_size() > 1:
        parts = distributed.gather(probabilities)
        probabilities = empty_stack([tiles.images[i].shape for i in positions] if parts else [], np.float32)
        for rank, part in enumerate(parts):
            for i, image in enumerate(part):
                probabilities[rank + i * distributed.world_size()] = image
    if not all(np.isfinite(image).all() for image in probabilities):
        raise ValueError(
            f"{title}: the network gives probabilities that are no numbers; trainer.precision=fp32 may help"
        )
    return probabilities


def predict_block(
    forward: Forward, images: Tensor, depths: Tensor, runtime: Runtime, tta: bool, bar: "tqdm[NoReturn]"
) -> Tensor:
    """Probabilities (N H W) of grey values (N 1 H W, uint8) and depths (N), all on the device, without waiting for it.

    Every call has the same batch size, the last one filled up with copies, so that the network is not compiled again.
    """
    n, batch_size = len(images), runtime.predict_batch_size
    full = torch.arange(-(-n // batch_size) * batch_size, device=images.device) % n
    parts = []
    for start in range(0, n, batch_size):
        index = full[start : start + batch_size]
        batch, batch_depths = to_float(images[index], runtime), depths[index]
        with runtime.autocast():
            result = forward(batch, batch_depths).logits.float().sigmoid()
            if tta:
                mirrored = forward(batch.flip(-1), batch_depths).logits.float().sigmoid()
                result = (result + mirrored.flip(-1)) / 2
        parts.append(result[:, 0])
        bar.update(min(batch_size, n - start))
    return torch.cat(parts)[:n]
