"""Prediction: every tile once, in any batches and blocks, and a clear message if the memory is too small."""

import dataclasses

import numpy as np
import pytest
import torch

from salt.build import build_model
from salt.data.load import load_data
from salt.inference.choose import load_engine
from salt.inference.engine import TorchEngine
from salt.inference.predict import Predictor
from salt.machine.device import choose_runtime
from salt.models.segmenter import Output
from salt.runs.weights import save_weights


class Brightness(torch.nn.Module):
    """Logits that tell tile, position and depth apart, without a network."""

    tile = (101, 101)

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, images, depths):
        self.calls.append(len(images))
        columns = torch.linspace(-1, 1, images.shape[-1])
        return Output(images + columns + depths[:, None, None, None] / 1000, [])


@pytest.fixture
def tiles(tiny):
    return load_data(tiny()).train


def expected(tiles, positions):
    grey = tiles.images[positions].astype(np.float64) / 255
    logits = grey + np.linspace(-1, 1, 101) + tiles.depths[positions][:, None, None] / 1000
    mirrored = grey + np.linspace(-1, 1, 101)[::-1] + tiles.depths[positions][:, None, None] / 1000
    plain, both = (1 / (1 + np.exp(-x)) for x in (logits, mirrored))
    return plain, (plain + both) / 2


def predictor(model, runtime, mirror):
    return Predictor(TorchEngine([model], model.tile, runtime, mirror), "test")


@pytest.mark.parametrize("batch_size", [1, 3, 4, 5, 23, 100])
@pytest.mark.parametrize("lanes", [1, 3])
def test_every_tile_once_in_any_batches_and_lanes(tiny, tiles, batch_size, lanes):
    runtime = choose_runtime(tiny(f"trainer.predict_batch_size={batch_size}").trainer)
    positions = np.random.default_rng(0).permutation(24)[:23]
    for one_batch_size in (False, True):
        model = Brightness()
        runtime = dataclasses.replace(runtime, lanes=lanes, one_batch_size=one_batch_size)
        for mirror in (False, True):
            found = predictor(model, runtime, mirror).predict(tiles, positions).mean
            np.testing.assert_allclose(found, expected(tiles, positions)[mirror], atol=1e-6)
        last = 23 % batch_size or min(batch_size, 23)
        assert set(model.calls) == ({batch_size} if one_batch_size else {min(batch_size, 23), last})


@pytest.mark.parametrize(("setting", "size"), [("null", 4), ("null trainer.batch_size=32", 8), ("7", 7)])
def test_the_batch_size_on_a_cpu(tiny, setting, size):
    settings = f"trainer.predict_batch_size={setting}".split()
    assert choose_runtime(tiny(*settings).trainer).predict_batch_size == size


def test_the_mean_over_files_of_weights(tiny, tiles, tmp_path):
    config = tiny()
    runtime, positions, parts, files = choose_runtime(config.trainer), np.arange(5), [], []
    for i in range(3):
        torch.manual_seed(i)
        model = build_model(config)
        files.append(tmp_path / f"{i}.safetensors")
        save_weights(model, files[-1])
        parts.append(predictor(model.eval(), runtime, True).predict(tiles, positions).mean)
    assert np.abs(parts[0] - parts[1]).max() > 1e-4
    found = Predictor(load_engine(config, files, runtime), "").predict(tiles, positions, spread=True)
    np.testing.assert_allclose(found.mean, np.mean(parts, axis=0), atol=1e-6)
    np.testing.assert_allclose(found.spread, np.std(parts, axis=0), atol=1e-6)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"), "CUDA out of memory"),
        (RuntimeError("FIND was unable to find an engine to execute this computation"), "FIND was"),  # of cuDNN
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "CUDA error"),
        (RuntimeError("a layer failed:\n\tCUDA error: out of memory"), "CUDA error: out of memory"),
    ],
)
def test_too_little_memory_names_the_setting(tiny, tiles, error, cause):
    class TooLarge(torch.nn.Module):
        tile = (101, 101)

        def forward(self, images, depths):
            raise error

    model = TooLarge()
    runtime = choose_runtime(tiny().trainer)
    with pytest.raises(
        ValueError, match=rf"^out of GPU memory with batches of 4 tiles \(test\): {cause}.*predict_batch_size"
    ):
        predictor(model, runtime, True).predict(tiles, np.arange(3))


def test_another_error_of_the_network_stays_as_it_is(tiny, tiles):
    class Broken(torch.nn.Module):
        tile = (101, 101)

        def forward(self, images, depths):
            raise RuntimeError("shapes do not match")

    runtime = choose_runtime(tiny().trainer)
    with pytest.raises(RuntimeError, match=r"^shapes do not match$"):
        predictor(Broken(), runtime, True).predict(tiles, np.arange(3))


def test_probabilities_that_are_nan_are_refused(tiny, tiles):
    runtime, model = choose_runtime(tiny().trainer), Brightness()
    tiles = dataclasses.replace(tiles, depths=np.where(np.arange(24) == 2, np.nan, tiles.depths))
    with pytest.raises(ValueError, match="NaN"):
        predictor(model, runtime, False).predict(tiles, np.arange(3))
