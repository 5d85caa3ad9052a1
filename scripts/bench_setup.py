"""What the rows of the benchmark share: the data and settings, a training to measure, and times side by side."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor

from salt import build
from salt.build import build_network
from salt.config import RunConfig, check_config
from salt.data.loader import Draws, EpochBatches, TrainTiles, train_loader
from salt.data.tiles import Dataset
from salt.data.windows import Windows
from salt.job import Job
from salt.machine.device import choose_runtime
from salt.models.inputs import to_float
from salt.runs.rundir import RunDir
from salt.train import CONFIGS
from salt.training.fold import train_epoch
from salt.training.setup import make_fold, make_state
from salt.training.state import Epoch, Fold, FoldState

Row = dict[str, Any]
# the same network as smp.Unet("resnet34", decoder_attention_type="scse")
NETWORK = ["encoder=resnet34", "encoder.weights=null", "attention=scse", "attention.reduction=16"]
NETWORK += ["attention.encoder=[]", "loss=lovasz"]
SMALL = ["encoder=any", "encoder.name=tu-test_resnet", "decoder.channels=[16,16,16,16,16]", "input.size=101"]


@dataclass(frozen=True)
class Bench:
    """What is measured, and how often."""

    data: Dataset
    root: Path
    network: list[str]  # overrides
    batch_size: int
    steps: int  # of a training measurement
    rounds: int  # of each row
    masks: int  # that are encoded
    grown: tuple[int, ...]  # tiles, to see how time and memory grow


@dataclass
class Training:
    """Salt's own training loop over a few steps, and the model alone on one batch."""

    fold: Fold
    state: FoldState
    loader: Any
    batch: tuple[Tensor, Tensor, Tensor]  # images, depths, masks
    n_tiles: int  # of an epoch
    steps: int

    def loop(self) -> None:
        """A short epoch, from loading and augmenting to the average of the weights."""
        self.state.current = Epoch()
        train_epoch(self.fold, self.state, self.loader, self.fold.job.data.train.ids)

    def model_only(self) -> None:
        """As many steps of forward, loss, backward and optimizer on one batch that lies on the device."""
        images, depths, masks = self.batch
        self.state.model.train()
        for _ in range(self.steps):
            with self.fold.job.runtime.autocast():
                output = self.fold.train_forward(images, depths)
            loss = self.state.model.loss(output, masks, self.fold.loss)
            self.state.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.state.optimizer.step()
        loss.item()  # waits for the device


def composed(overrides: list[str]) -> RunConfig:
    """A checked config."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        raw = OmegaConf.to_container(compose("train", overrides), resolve=True)
    assert isinstance(raw, dict)
    return check_config({str(k): v for k, v in raw.items()})


def prepare(bench: Bench, *overrides: str) -> Training:
    """Everything that a fold builds before its first step."""
    config = composed([*bench.network, f"trainer.batch_size={bench.batch_size}", "trainer.epochs=1000", *overrides])
    runtime = choose_runtime(config.trainer)
    positions = np.arange(bench.steps * bench.batch_size) % len(bench.data.train.ids)
    batches = EpochBatches(Draws(positions), bench.batch_size, (0, 0))
    augment = build.build_augment(config)
    dataset = TrainTiles(bench.data.train, augment, (0, 0), config.data.size)
    everything = np.ones(len(bench.data.train.ids), np.int64)  # no tile is in fold 0
    network = build_network(config, runtime)
    job = Job(config, bench.data, everything, RunDir(Path("nowhere")), runtime, network)
    state, fold = make_state(job, 0, len(batches)), make_fold(job, 0)
    windows = Windows(bench.data.train.images, positions, config.data.size)
    masks = torch.from_numpy(masks_of(bench)[: bench.batch_size])[:, None].float().to(runtime.device)
    images, at = windows.cut(0, bench.batch_size)
    depths = torch.from_numpy(bench.data.train.depths[at]).float().to(runtime.device)
    batch = (to_float(torch.from_numpy(images)[:, None].to(runtime.device)), depths, masks)
    loader = train_loader(dataset, batches, runtime.workers, pin_memory=runtime.device.type == "cuda")
    return Training(fold, state, loader, batch, len(positions), bench.steps)


def masks_of(bench: Bench) -> Any:
    """The training masks (N H W)."""
    assert bench.data.train.masks is not None
    return bench.data.train.masks


def in_turn(rounds: int, warm_up: bool = True, **sides: Callable[[], object]) -> dict[str, list[float]]:
    """Seconds of each side, called in turn, after one call that does not count if `warm_up` is set."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + warm_up):
        for name, side in sides.items():
            began = time.perf_counter()
            side()
            if number >= warm_up:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def compared(seconds: dict[str, list[float]], ours: str, theirs: str, amount: float = 1.0, other: float = 1.0) -> Row:
    """Medians per unit of `amount` (of `other` on their side), and how many times as fast ours is."""
    ratios = [(b / other) / (a / amount) for a, b in zip(seconds[ours], seconds[theirs], strict=True)]
    return {
        "seconds": statistics.median(seconds[ours]) / amount,
        "compared_seconds": statistics.median(seconds[theirs]) / other,
        "ratio": statistics.median(ratios),
        "rounds": len(ratios),
    }


def judged(row: Row, key: str, target: float, at_least: bool = True) -> Row:
    """The row with its target and whether it is met."""
    met = row[key] >= target if at_least else row[key] <= target
    sign = "≥" if at_least else "≤"
    return row | {"judged": key, "target": f"{sign} {target:g}", "met": bool(met)}
