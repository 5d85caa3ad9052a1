"""A run's networks as one file that other programs run without Salt."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import salt
from salt import build
from salt.config import RunConfig
from salt.inference.formats import EXPORT_FORMATS, exporter_errors
from salt.models.inputs import AnySize, Pad
from salt.models.segmenter import Segmenter
from salt.runs.files import write_atomic
from salt.runs.rundir import RunDir, weight_files
from salt.runs.weights import load_weights

CLOSE = 1e-4  # the most that a probability of the file may differ from torch's
STEP = 32  # pixels: encoders halve a side five times


class Exported(nn.Module):
    """Networks from grey levels to the mean probability of salt, with `tta` also over the mirrored image.

    Shape: grey levels 0-255 (N 1 h w, uint8), and survey depths in feet (N) if the network sees them, to (N 1 h w).
    """

    def __init__(self, models: Sequence[Segmenter], tta: bool, constant_is_empty: bool):
        super().__init__()
        self.models = nn.ModuleList(models)
        self.tta, self.constant_is_empty = tta, constant_is_empty

    def forward(self, image: Tensor, depth: Tensor | None = None) -> Tensor:
        """Return the probabilities of a batch."""
        x = image.float() / 255
        depths = x[:, 0, 0, 0] if depth is None else depth  # unused, but of the right shape
        parts = []
        for model in self.models:
            parts.append(model(x, depths).logits.sigmoid())
            if self.tta:
                parts.append(model(x.flip(-1), depths).logits.sigmoid().flip(-1))
        mean = torch.stack(parts).mean(dim=0)
        if self.constant_is_empty:
            mean = mean * (x.amax(dim=(1, 2, 3), keepdim=True) > x.amin(dim=(1, 2, 3), keepdim=True))
        return mean


def export(run: RunDir, kind: str, file: Path, folds: Sequence[int], any_size: bool) -> dict[str, Any]:
    """Write the networks of some finished folds into one file, test it, and return its description.

    Raises:
        ValueError: the network cannot be exported, or the file gives other probabilities than torch.
    """
    config = run.read_config()
    model = load_exported(run, config, folds, any_size)
    facts = collect_facts(run, config, folds, any_size)
    images = [make_images(config, n, any_size) for n in (2, 1, 3)]
    form = EXPORT_FORMATS[kind]
    with exporter_errors(any_size):
        content = form.convert(model, images[0], any_size)
        facts["largest_difference"] = difference = largest_difference(model, form.load(content), images)
        content = form.describe(content, {key: str(value) for key, value in facts.items()})
        if not largest_difference(model, form.load(content), images) == difference <= CLOSE:
            raise ValueError(
                f"{file}: its probabilities differ from torch's by {difference:.2g}, more than {CLOSE:g}; not written"
            )
    for part, data in zip(form.files(file), content, strict=True):
        write_atomic(part, partial(write_content, data))
    return facts


def write_content(content: bytes, file: Path) -> None:
    """Write the content of a file."""
    file.write_bytes(content)


def load_exported(run: RunDir, config: RunConfig, folds: Sequence[int], any_size: bool) -> Exported:
    """Return the networks of some folds as one module, on the CPU in float32.

    Raises:
        ValueError: `any_size`, and the network's input has one size or depends on that of the tile.
    """
    models = []
    for file in [file for fold in folds for file in weight_files(run.fold_path(fold))]:
        model = build.build_model(build.without_weights(config))
        load_weights(model, file)
        if any_size:
            if not isinstance(model.window, Pad) or config.input.channels != "image":
                raise ValueError(
                    f"--size any: {run.path} resizes its tiles or sees the depth in them, expected a run with "
                    "input=reflect_pad, reflect_pad_104 or edge_pad and input.channels=image"
                )
            model.window = AnySize()
        models.append(model)
    return Exported(models, config.trainer.tta, config.data.constant_tiles == "empty").eval()


def collect_facts(run: RunDir, config: RunConfig, folds: Sequence[int], any_size: bool) -> dict[str, Any]:
    """Return what a program must know to use the file."""
    amplitudes, (height, width) = config.data.amplitudes, config.data.size
    scaling = (
        f"{amplitudes.limits[0]} becomes 0 and {amplitudes.limits[1]} becomes 255"
        if amplitudes.limits
        else f"of each image its percentile {amplitudes.pair[0]} becomes 0 and {amplitudes.pair[1]} becomes 255"
    )
    return {
        "input": "image: grey levels 0-255, uint8 (N 1 h w)"
        + (", and depth: survey depths in feet, float32 (N)" if config.input.channels == "depth_z" else ""),
        "size": f"sides that are multiples of {STEP}, {2 * STEP} or more" if any_size else f"h = {height}, w = {width}",
        "output": "probability of salt, float32 (N 1 h w)",
        "threshold": run.read_score(config.data.n_folds)["threshold"],
        "scaling": f"8 bits as they are; amplitudes: {scaling}, rounded and clipped",
        "run": run.path.resolve().name,
        "folds": " ".join(map(str, folds)),
        "mirrored": config.trainer.tta,
        "salt": salt.__version__,
        "torch": torch.__version__,
    }


def make_images(config: RunConfig, n: int, any_size: bool) -> tuple[Tensor, ...]:
    """Make inputs of n images, random bodies with noise; if `any_size`, their size depends on n."""
    generator = torch.Generator().manual_seed(n)
    height, width = (STEP * (2 + n), STEP * (5 - n)) if any_size else config.data.size
    coarse = torch.rand((n, 1, 2 + height // 10, 2 + width // 10), generator=generator)
    smooth = F.interpolate(coarse, size=(height, width), mode="bicubic")
    noise = torch.rand(smooth.shape, generator=generator)
    image = (255 * (0.8 * smooth + 0.2 * noise)).clip(0, 255).to(torch.uint8)
    return (image, torch.linspace(100, 900, n)) if config.input.channels == "depth_z" else (image,)


@torch.no_grad()
def largest_difference(model: Exported, loaded: Any, images: Sequence[tuple[Tensor, ...]]) -> float:
    """Return the largest difference between the probabilities of a loaded file and of torch."""
    return float(np.max([np.abs(loaded(*given) - model(*given).numpy()).max() for given in images]))
