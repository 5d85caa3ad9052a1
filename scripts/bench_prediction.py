"""Prediction of a long line by five networks: Salt with each engine, a plain loop, and MONAI."""

import tempfile
from collections.abc import Callable
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
from salt.inference.engine import Engine, to_float
from salt.inference.predict import Predictor
from salt.machine.device import Runtime, choose_runtime
from salt.machine.lanes import in_lanes
from salt.models.segmenter import Segmenter
from salt.runs.weights import save_weights

N_NETWORKS = 5
RECIPE = ["experiment=cpu", "encoder.weights=null"]
LINE = (600, 1500)  # samples and traces; MONAI has no batches that fill its last rows better


def prediction(bench: Bench) -> dict[str, Row]:
    """Whole lines, mirrored: as salt-predict does by default, with --fast, and without Salt."""
    config = composed(RECIPE)
    runtime = choose_runtime(config.trainer)
    image = np.random.default_rng(0).integers(0, 256, LINE, dtype=np.uint8)
    with tempfile.TemporaryDirectory() as name:
        files = [save_network(config, Path(name) / f"{i}.safetensors") for i in range(N_NETWORKS)]
        models = [build_network(config, runtime).model.eval() for _ in files]
        engine = load_engine(config, files, runtime)
        sides: dict[str, Callable[[], object]] = {
            "plain": lambda: plain(config, models, image, runtime),
            "torch": lambda: whole(engine, image),
            "torch_engine": lambda: windows_alone(engine, image),
        }
        if find_spec("monai"):
            sides["monai"] = lambda: by_monai(config, models, image, runtime)
        if find_spec("openvino"):
            trainer = config.trainer.model_copy(update={"engine": "openvino"})
            fast = config.model_copy(update={"trainer": trainer.model_copy(update={"tta": False})})
            openvino = load_engine(config.model_copy(update={"trainer": trainer}), files, runtime)
            once = load_engine(fast, files, runtime)
            sides["openvino"] = lambda: whole(openvino, image)
            sides["openvino_engine"] = lambda: windows_alone(openvino, image)
            sides["fast"] = lambda: whole(once, image)
        seconds = in_turn(min(bench.rounds, 3), warm_up=False, **sides)
    rows = {"line_torch": judged(compared(seconds, "torch", "plain"), "ratio", 2.5)}
    rows["line_torch_engine"] = judged(compared(seconds, "torch", "torch_engine"), "ratio", 0.9)
    if "openvino" in sides:
        rows["line_openvino"] = judged(compared(seconds, "openvino", "plain"), "ratio", 4)
        rows["line_openvino_engine"] = judged(compared(seconds, "openvino", "openvino_engine"), "ratio", 0.9)
        rows["line_fast"] = judged(compared(seconds, "fast", "plain"), "ratio", 8)
    if "monai" in sides:
        rows["line_monai"] = compared(seconds, "openvino" if "openvino" in sides else "torch", "monai")
    return rows


def save_network(config: RunConfig, file: Path) -> Path:
    """Write a network with random weights; return the file."""
    save_weights(build_network(config, choose_runtime(config.trainer)).model, file)
    return file


def tiles_of(image: NDArray[np.uint8]) -> Tiles:
    """The image as the only one of a data set."""
    return Tiles(["line"], image[None], None, np.zeros(1))


def whole(engine: Engine, image: NDArray[np.uint8]) -> None:
    """Predict an image as salt-predict does, without reading and writing."""
    Predictor(engine, "line").predict(tiles_of(image), np.array([0]), progress=False)


def windows_alone(engine: Engine, image: NDArray[np.uint8]) -> None:
    """Run the engine on the windows of an image that are cut before, in as many lanes; keep nothing."""
    windows = Windows(image[None], np.array([0]), engine.size, OVERLAP)
    size = engine.runtime.predict_batch_size
    batch = windows.cut(0, size)[0]
    depths = np.zeros(size, dtype=np.float32)
    sizes = [min(size, len(windows) - start) for start in range(0, len(windows), size)]
    for _ in in_lanes(lambda n: engine(batch[:n], depths[:n]), sizes, engine.runtime.lanes):
        pass


@torch.no_grad()
def plain(config: RunConfig, models: list[Segmenter], image: NDArray[np.uint8], runtime: Runtime) -> None:
    """One network after the other, windows that overlap by half, all threads on each batch: Salt before its lanes."""
    windows, batch_size = Windows(image[None], np.array([0]), config.data.size, 0.5), config.trainer.batch_size
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

    x = to_float(torch.from_numpy(image)[None, None])
    sliding_window_inference(x, config.data.size, config.trainer.batch_size, mean, overlap=OVERLAP, mode="gaussian")
