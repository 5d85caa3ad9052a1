"""Prediction of a long line by five networks: Salt with each engine, a plain loop, and MONAI."""

import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from bench_setup import Bench, Row, compared, composed, in_turn, judged
from numpy.typing import NDArray
from torch import Tensor

from salt.build import build_network
from salt.config import RunConfig
from salt.data.tiles import Tiles
from salt.data.windows import OVERLAP, Windows
from salt.inference.choose import load_engine
from salt.inference.engine import Engine
from salt.inference.predict import Predictor
from salt.machine.device import Runtime, choose_runtime
from salt.machine.lanes import in_lanes
from salt.models.inputs import to_float
from salt.models.segmenter import Segmenter
from salt.runs.weights import save_weights

N_NETWORKS = 5
RECIPE = ["experiment=cpu", "encoder.weights=null"]
LINE = (600, 1500)  # samples and traces
N_TILES = 400


def prediction(bench: Bench) -> dict[str, Row]:
    """A whole line, and tiles, mirrored: as salt-predict does by default, with --fast, and without Salt."""
    config = composed(RECIPE)
    runtime = choose_runtime(config.trainer)
    image = np.random.default_rng(0).integers(0, 256, LINE, dtype=np.uint8)[None]
    tiles = bench.data.test.images[:N_TILES]
    models = [build_network(config, runtime).model.eval() for _ in range(N_NETWORKS)]
    with tempfile.TemporaryDirectory() as name:
        files = [save_network(config, Path(name) / f"{i}.safetensors") for i in range(N_NETWORKS)]
        engines = {"torch": load_engine(config, files, runtime)}
        if find_spec("openvino"):
            engines["openvino"] = load_engine(with_openvino(config, mirror=True), files, runtime)
            engines["fast"] = load_engine(with_openvino(config, mirror=False), files, runtime)
    sides: dict[str, Callable[[], object]] = {"plain": lambda: plain(config, models, image, runtime)}
    if find_spec("monai"):
        sides["monai"] = lambda: by_monai(config, models, image, runtime)
    for kind, engine in engines.items():
        sides[kind] = partial(whole, engine, image)
        sides[f"{kind}_engine"] = partial(windows_alone, engine, image)
    seconds = in_turn(min(bench.rounds, 3), warm_up=False, **sides)
    on_tiles: dict[str, Callable[[], object]] = {"plain": lambda: plain(config, models, tiles, runtime)}
    on_tiles |= {kind: partial(whole, engine, tiles) for kind, engine in engines.items()}
    return rows_of(seconds, in_turn(min(bench.rounds, 3), warm_up=False, **on_tiles), len(tiles))


def rows_of(line: dict[str, list[float]], tiles: dict[str, list[float]], n_tiles: int) -> dict[str, Row]:
    """The rows of the page, from the seconds of each side on a line and on some tiles."""
    rows = {}
    for kind, target in (("torch", 2.5), ("openvino", 4), ("fast", 8)):
        if kind in line:
            rows[f"line_{kind}"] = judged(compared(line, kind, "plain"), "ratio", target)
            rows[f"line_{kind}_engine"] = judged(compared(line, kind, f"{kind}_engine"), "ratio", 0.9)
    best = "openvino" if "openvino" in line else "torch"
    if "monai" in line:
        rows["line_monai"] = compared(line, best, "monai")
    for kind in tiles.keys() - {"plain", "fast"}:
        row = compared(tiles, kind, "plain", n_tiles, n_tiles)
        rows[f"tiles_{kind}"] = judged(row, "ratio", 2) if kind == best else row
    return rows


def with_openvino(config: RunConfig, mirror: bool) -> RunConfig:
    """The same settings with OpenVINO as engine."""
    trainer = config.trainer.model_copy(update={"engine": "openvino", "tta": mirror})
    return config.model_copy(update={"trainer": trainer})


def save_network(config: RunConfig, file: Path) -> Path:
    """Write a network with random weights; return the file."""
    save_weights(build_network(config, choose_runtime(config.trainer)).model, file)
    return file


def whole(engine: Engine, images: NDArray[np.uint8]) -> None:
    """Predict images (N H W) as salt-predict does, without reading and writing."""
    n = len(images)
    tiles = Tiles([str(i) for i in range(n)], images, None, np.zeros(n))
    Predictor(engine, "line").predict(tiles, np.arange(n), progress=False)


def windows_alone(engine: Engine, image: NDArray[np.uint8]) -> None:
    """Run the engine on the windows of an image (1 H W) that are cut before, in as many lanes; keep nothing."""
    windows = Windows(image, np.array([0]), engine.size, OVERLAP)
    size = engine.runtime.predict_batch_size
    batch = windows.cut(0, size)[0]
    depths = np.zeros(size, dtype=np.float32)
    sizes = [min(size, len(windows) - start) for start in range(0, len(windows), size)]
    for _ in in_lanes(lambda n: engine(batch[:n], depths[:n]), sizes, engine.runtime.lanes):
        pass


@torch.no_grad()
def plain(config: RunConfig, models: list[Segmenter], images: NDArray[np.uint8], runtime: Runtime) -> None:
    """One network after the other, windows that overlap by half, all threads on each batch: Salt before its lanes."""
    windows, batch_size = Windows(images, np.arange(len(images)), config.data.size, 0.5), config.trainer.batch_size
    for model in models:
        for start in range(0, len(windows), batch_size):
            cut = windows.cut(start, min(start + batch_size, len(windows)))[0]
            x, depths = to_float(torch.from_numpy(cut)[:, None]), torch.zeros(len(cut))
            with runtime.autocast():
                mirrored(model, x, depths).numpy()


def mirrored(model: Segmenter, x: Tensor, depths: Tensor) -> Tensor:
    """The mean probability of a batch and its mirror image."""
    both = [model(x, depths).logits, model(x.flip(-1), depths).logits.flip(-1)]
    return (both[0].float().sigmoid() + both[1].float().sigmoid()) / 2


@torch.no_grad()
def by_monai(config: RunConfig, models: list[Segmenter], image: NDArray[np.uint8], runtime: Runtime) -> None:
    """Predict an image with MONAI's sliding windows: Gaussian weights, as much overlap as Salt's."""
    from monai.inferers import sliding_window_inference

    def mean(x: Tensor) -> Tensor:
        with runtime.autocast():
            return torch.stack([mirrored(model, x, torch.zeros(len(x))) for model in models]).mean(dim=0)

    x = to_float(torch.from_numpy(image)[None])
    sliding_window_inference(x, config.data.size, config.trainer.batch_size, mean, overlap=OVERLAP, mode="gaussian")
