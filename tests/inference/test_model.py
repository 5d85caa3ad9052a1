"""salt.load: a run as one object that predicts images of any size and type."""

import copy
import dataclasses
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import salt
from salt.data import rle
from salt.data.tgs import read_dataset
from salt.inference.model import Model


@pytest.fixture(scope="module")
def model(finished):
    return salt.load(finished / "runs/a", device="cpu")


@pytest.fixture
def images(synthetic_root):
    return read_dataset(synthetic_root).test.images


def test_it_predicts_what_the_run_submitted(model, finished, images):
    submission = pd.read_csv(finished / "runs/a/submission.csv", keep_default_na=False)
    expected = rle.decode_all(submission["rle_mask"].tolist(), (101, 101))
    assert np.array_equal(model.mask(images), expected)
    assert len(model.predictors[0].engine.networks) == 2


def test_one_image_or_several(model, images):
    both = model.predict(images[:2])
    assert both.shape == (2, 101, 101) and both.dtype == np.float32 and 0 <= both.min() < both.max() <= 1
    for image, expected in zip(images, both, strict=False):
        np.testing.assert_allclose(model.predict(image), expected, atol=1e-5)  # batches of another size round otherwise
    as_numbers = model.predict(images[1].tolist())  # no longer of 8 bits: amplitudes
    assert np.array_equal(as_numbers, model.predict(images[1].astype(float)))
    assert np.array_equal(model.mask(images), model.predict(images).astype(np.float64) > model.threshold)


@pytest.mark.parametrize("size", [(40, 300), (333, 101), (250, 270)])
def test_any_size(model, size):
    image = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    assert model.predict(image).shape == size


def test_amplitudes_are_scaled_by_their_own_percentiles(model, images):
    amplitudes = images[0] * 1e-4 - 3.0
    low, high = np.percentile(amplitudes, (1, 99))
    grey = (255 * ((amplitudes - low) / (high - low)).clip(0, 1)).round().astype(np.uint8)
    assert np.array_equal(model.predict(amplitudes), model.predict(grey))
    assert np.array_equal(model.predict(images[0].astype(np.uint16) * 100), model.predict(grey))


def test_an_image_of_one_value_is_empty(model):
    assert not model.predict(np.full((120, 130), 7.5)).any()


def test_nothing_is_predicted_where_an_amplitude_is_missing(model, images):
    amplitudes = images[0].astype(np.float32)
    missing = np.zeros(amplitudes.shape, np.bool_)
    missing[20:50, 30:60] = True
    found = model.predict(np.where(missing, np.nan, amplitudes))
    assert not found[missing].any() and found[~missing].any()
    # the known pixels are scaled by themselves, and the network sees their median in the others
    low, high = np.percentile(amplitudes[~missing], (1, 99))
    grey = (255 * ((amplitudes - low) / (high - low)).clip(0, 1)).round().astype(np.uint8)
    grey[missing] = np.median(grey[~missing])
    assert np.array_equal(found, np.where(missing, 0, model.predict(grey)))
    masked = np.ma.MaskedArray(np.where(missing, -9999, amplitudes), missing)
    assert np.array_equal(model.predict(masked), found)
    np.testing.assert_allclose(model.predict([masked, masked]), np.stack([found, found]), atol=1e-5)
    eight_bits = model.predict(np.ma.MaskedArray(images[:2], np.stack([missing, ~missing])))
    assert not eight_bits[0, missing].any() and not eight_bits[1, ~missing].any()
    assert not model.predict(np.full((40, 40), np.nan)).any()


def test_an_outlier_is_warned_of_and_kept(model, images, caplog):
    amplitudes = np.where(images[0] < images[0].max(), images[0], -9999.0)
    model.predict(amplitudes)
    assert "-9999" in caplog.text
    assert np.array_equal(model.scaling(amplitudes).missing, np.zeros(amplitudes.shape))


def test_threads_do_not_disturb_each_other(model, images):
    expected = [model.predict(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(model.predict, [*images, *images]))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected * 2, strict=True))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros(5), r"shape \(5,\)"),
        (np.zeros((2, 3, 40, 40)), r"shape \(2, 3, 40, 40\)"),
        (np.zeros((0, 40)), r"shape \(0, 40\)"),
        (np.zeros((40, 40, 3)), r"shape \(40, 40, 3\) .*colours"),
        (np.zeros((40, 40), complex), "complex128"),
        (np.array([["a"]]), "type <U1"),
        (np.full((40, 40), np.inf), "1600 infinite pixels"),
    ],
)
def test_what_is_no_image_is_refused(model, image, message):
    with pytest.raises(ValueError, match=message):
        model.predict(image)


def test_a_depth_that_the_network_needs(model, monkeypatch):
    config = model.ensemble.first.config
    sees = config.model_copy(update={"input": config.input.model_copy(update={"channels": "depth_z"})})
    members = [replace(model.ensemble.first, config=sees)]
    monkeypatch.setattr(model, "ensemble", replace(model.ensemble, members=members))
    with pytest.raises(ValueError, match="depth"):
        model.predict(np.zeros((40, 40)))


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"is no run directory, it has no config\.yaml"):
        salt.load(tmp_path)


def test_bytes_do_not_depend_on_the_number_of_lanes(model):
    image = np.random.default_rng(0).integers(0, 256, (300, 400), dtype=np.uint8)
    one, three = (with_lanes(model, lanes).predict(image) for lanes in (1, 3))
    assert one.std() > 0 and np.array_equal(one, three)


def with_lanes(model, lanes):
    engine = copy.copy(model.predictors[0].engine)
    engine.runtime = dataclasses.replace(engine.runtime, lanes=lanes)
    return Model(model.ensemble, [dataclasses.replace(model.predictors[0], engine=engine)])


def test_the_spread_is_the_deviation_over_the_networks(model):
    image = np.random.default_rng(0).integers(0, 256, (150, 220), dtype=np.uint8)
    mean, spread = model.predict(image, spread=True)
    parts = []
    for forward in model.predictors[0].engine.networks:
        engine = copy.copy(model.predictors[0].engine)
        engine.networks = [forward]
        parts.append(Model(model.ensemble, [dataclasses.replace(model.predictors[0], engine=engine)]).predict(image))
    np.testing.assert_allclose(mean, np.mean(parts, axis=0), atol=1e-6)
    np.testing.assert_allclose(spread, np.std(parts, axis=0), atol=1e-6)
    assert spread.max() > 1e-3 and np.array_equal(mean, model.predict(image))


def test_the_package_imports_no_torch():
    subprocess.run([sys.executable, "-c", "import salt, sys; assert 'torch' not in sys.modules; salt.load"], check=True)
