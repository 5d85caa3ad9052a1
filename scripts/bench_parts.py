"""Rows of the benchmark about loss, metric, run lengths, prediction and loading."""

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plain
import segmentation_models_pytorch as smp
import torch
from bench_setup import Bench, Row, compared, in_turn, judged, masks_of, prepare
from torch import nn

from salt.data import rle
from salt.data.tgs import read_dataset
from salt.data.windows import Windows
from salt.inference.choose import load_engine
from salt.inference.predict import Predictor
from salt.models.inputs import to_float
from salt.runs.weights import save_weights
from salt.scoring import metrics


def lovasz(bench: Bench) -> dict[str, Row]:
    """Forward and backward of the Lovász loss, beside segmentation-models-pytorch's and as share of a training step."""
    ours = prepare(bench)
    device = ours.fold.job.runtime.device
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(bench.batch_size, 1, 101, 101, generator=generator).to(device).requires_grad_()
    masks = torch.from_numpy(masks_of(bench)[: bench.batch_size])[:, None].float().to(device)
    theirs = smp.losses.LovaszLoss("binary", per_image=True)

    def repeat(loss: nn.Module) -> Callable[[], None]:
        def call() -> None:
            for _ in range(10):
                torch.autograd.grad(loss(logits, masks), logits)[0].sum().item()

        return call

    seconds = in_turn(bench.rounds, loss=repeat(ours.fold.loss), smp=repeat(theirs), loop=ours.loop)
    row = compared(seconds, "loss", "smp", 10, 10)
    row["share"] = row["seconds"] / (statistics.median(seconds["loop"]) / bench.steps)
    if device.type == "cuda":
        return {"lovasz": judged(row, "ratio", 20)}
    return {"lovasz": judged(row, "share", 0.02, at_least=False)}


def score(bench: Bench) -> dict[str, Row]:
    """The score of probability maps at 31 thresholds, beside the usual kernel on a tenth of them."""
    masks = masks_of(bench)
    noise = np.random.default_rng(0).normal(0, 1.5, masks.shape).astype(np.float32)
    probabilities = (1 / (1 + np.exp(-(masks * 4.0 - 2.0 + noise)))).astype(np.float16)
    some = slice(0, max(len(masks) // 10, 1))

    def theirs() -> Any:
        return plain.score(probabilities[some], masks[some], metrics.THRESHOLDS)

    assert np.array_equal(metrics.score_table(probabilities, masks)[some], theirs()), "the scores differ"
    seconds = in_turn(min(bench.rounds, 3), ours=lambda: metrics.score_table(probabilities, masks), theirs=theirs)
    row = compared(seconds, "ours", "theirs", len(masks), len(masks[some]))
    return {"score": judged(row | {"tiles": len(masks)}, "ratio", 10)}


def run_lengths(bench: Bench) -> dict[str, Row]:
    """Run lengths of many masks, encoded and decoded, beside the usual kernel."""
    masks = np.resize(masks_of(bench), (bench.masks, *masks_of(bench).shape[1:]))
    texts = rle.encode_all(masks)
    assert texts == [plain.encode(mask) for mask in masks], "the run lengths differ"
    assert np.array_equal(rle.decode_all(texts, masks.shape[1:]), masks), "decoding differs"
    rows: dict[str, Row] = {}
    sides: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "encode": (lambda: rle.encode_all(masks), lambda: [plain.encode(mask) for mask in masks]),
        "decode": (
            lambda: rle.decode_all(texts, masks.shape[1:]),
            lambda: np.stack([plain.decode(text, masks.shape[1:]) for text in texts]),
        ),
    }
    for name, (ours, theirs) in sides.items():
        row = compared(in_turn(bench.rounds, ours=ours, theirs=theirs), "ours", "theirs") | {"masks": bench.masks}
        rows[name] = judged(row, "ratio", 3)
        rows[f"{name}_seconds"] = judged({"seconds": row["seconds"]}, "seconds", 1, at_least=False)
    return rows


def inference(bench: Bench) -> dict[str, Row]:
    """Prediction of the test tiles and their mirror images, a fold a round, beside the model's forward alone."""
    ours = prepare(bench)
    model, runtime, tiles = ours.state.model, ours.fold.job.runtime, bench.data.test
    size = runtime.predict_batch_size
    n_batches = -(-len(tiles.ids) // size) * 2
    windows = Windows(tiles.images, np.resize(np.arange(len(tiles.ids)), size), model.tile)
    images, at = windows.cut(0, size)
    batch = to_float(torch.from_numpy(images)[:, None].to(runtime.device))
    depths = torch.from_numpy(tiles.depths[at]).float().to(runtime.device)

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        save_weights(model, file)

        def fold() -> None:
            engine = load_engine(ours.fold.job.config, [file], runtime)
            Predictor(engine, "test").predict(tiles, np.arange(len(tiles.ids)))

        def forward() -> None:
            model.eval()
            with torch.no_grad(), runtime.autocast():
                for _ in range(n_batches):
                    logits = ours.fold.job.network.forward(batch, depths).logits
            logits.sum().item()

        seconds = in_turn(min(bench.rounds, 5), ours=fold, forward=forward)
    n_tiles = 2 * len(tiles.ids)
    row = compared(seconds, "ours", "forward", n_tiles, n_batches * size)
    return {"inference": judged(row, "ratio", 0.95)}


def loading(bench: Bench) -> dict[str, Row]:
    """Reading, checking and decoding the data."""
    seconds = in_turn(3, ours=lambda: read_dataset(bench.root))["ours"]
    row = {"seconds": statistics.median(seconds), "tiles": len(bench.data.train.ids), "rounds": len(seconds)}
    return {"loading": judged(row, "seconds", 4, at_least=False)}
