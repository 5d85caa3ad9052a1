"""Amplitudes as grey values, missing pixels, and values that may mark some."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salt.config import Amplitudes
from salt.data.amplitudes import Grey, Scaling, exact_percentile, find_missing, find_outlier, has_few_levels, remarks

RNG = np.random.default_rng(0)
NORMAL = RNG.standard_normal((60, 50)).astype(np.float32)


def scaling(per="image", limits=None, nodata=None, percentiles=(0, 100)):
    return Scaling(Amplitudes(per=per, percentiles=list(percentiles), range=limits), nodata)


def test_amplitudes_become_grey_values():
    bytes_ = RNG.integers(0, 256, (40, 50), dtype=np.uint8)
    assert np.array_equal(scaling()(bytes_).levels, bytes_)
    levels = scaling("survey", [-2, 2])(np.array([[-5.0, -2.0, 0.0, 2.0, 9.0]])).levels
    assert levels.tolist() == [[0, 0, 128, 255, 255]] and levels.dtype == np.uint8
    assert scaling()(np.array([[0, 500, 1000]], np.uint16)).levels.tolist() == [[0, 128, 255]]
    assert len(np.unique(scaling()(np.full((3, 3), 7.5)).levels)) == 1
    low, high = np.percentile(NORMAL.astype(np.float64), (10, 90))
    expected = (255 * ((NORMAL.astype(np.float64) - low) / (high - low)).clip(0, 1)).round()
    assert np.array_equal(scaling(percentiles=(10, 90))(NORMAL).levels, expected)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "i4", "f2", "f4", "f8"])
@pytest.mark.parametrize("how", ["nan", "masked", "nodata"])
def test_missing_pixels_of_every_type_change_nothing_else(dtype, how):
    pixels = RNG.integers(20, 110, (40, 50)).astype(dtype)
    missing = RNG.random((40, 50)) < 0.3
    value = {"u": 3, "i": -99, "f": -9999}[np.dtype(dtype).kind]
    if how == "nan":
        if pixels.dtype.kind != "f":
            return
        damaged = np.where(missing, np.nan, pixels).astype(dtype)
    else:
        damaged = np.where(missing, np.asarray(value, dtype), pixels)
    damaged = np.ma.MaskedArray(damaged, missing) if how == "masked" else damaged
    found = scaling(nodata=value if how == "nodata" else None)(damaged)
    assert np.array_equal(found.missing, missing) and found.outlier is None
    alone = scaling()(pixels[~missing][None]).levels[0]  # the known pixels as an image of their own
    assert np.array_equal(found.levels[~missing], alone)
    assert (found.levels[missing] == np.uint8(np.median(alone))).all()


def test_a_value_in_the_type_of_the_pixels():
    lowest = np.finfo(np.float32).min
    assert find_missing(np.array([[lowest, 0]], np.float32), -3.4028234663852886e38).tolist() == [[True, False]]
    assert not find_missing(np.array([[0, 255]], np.uint8), -9999).any()
    assert not find_missing(np.array([[0, 1]], np.float16), 1e30).any()
    assert find_missing(np.array([[-9999, 1]], np.int16), -9999.0).tolist() == [[True, False]]


def test_nothing_is_known_of_an_image():
    grey = scaling()(np.full((4, 5), np.nan))
    assert grey.missing.all() and (grey.levels == 128).all()


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_amplitudes_are_refused(value):
    with pytest.raises(ValueError, match="2 infinite"):
        scaling()(np.array([[1.0, value, value, np.nan]]))


def test_a_survey_s_range_and_eight_bits_do_not_mix():
    with pytest.raises(ValueError, match="uint8"):
        scaling("survey", [0, 1])(np.zeros((3, 3), np.uint8))
    with pytest.raises(ValueError, match="float32"):
        scaling("survey")(NORMAL)
    assert scaling("survey")(np.zeros((3, 3), np.uint8)).levels.sum() == 0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, None),
        ({0: -9999}, -9999),
        ({0: 1e30, 1: 1e30}, 1e30),
        ({0: -9999, 1: 9999}, -9999),
        ({0: 5.5}, None),  # a spike within the spread of the others
        ({0: np.nan}, None),
    ],
)
def test_a_value_far_from_all_others(change, expected):
    pixels = NORMAL.copy()
    for place, value in change.items():
        pixels.flat[place] = value
    assert find_outlier(pixels[~np.isnan(pixels)]) == (None if expected is None else np.float32(expected))
    assert not scaling()(pixels).missing[~np.isnan(pixels)].any()  # never guessed away


def test_outliers_of_whole_numbers():
    steps = np.arange(-20000, 20000, dtype=np.int16)
    assert find_outlier(steps) is None
    assert find_outlier(np.append(np.arange(100, dtype=np.int16), np.int16(-32768))) == -32768
    hundred = np.arange(101, dtype=np.int16)  # 100 from end to end
    assert find_outlier(np.append(hundred, np.int16(-101))) == -101  # farther than that
    assert find_outlier(np.append(hundred, np.int16(-99))) is None
    assert find_outlier(np.array([0, 1, 255], np.uint8)) is None
    assert find_outlier(np.array([], np.float32)) is None


@given(st.sampled_from([np.float32, np.int16, np.uint8]), st.integers(1, 40), st.integers(0, 99), st.floats(0, 100))
def test_percentiles_are_those_of_float64(kind, n, seed, q):
    known = (np.random.default_rng(seed).normal(scale=50, size=n) + 100).astype(kind)
    assert exact_percentile(known, q / 100) == np.percentile(known.astype(np.float64), q)


def test_few_grey_levels():
    flattened = NORMAL.copy()
    flattened[:2] = -9999  # 3 % of the pixels
    usual = scaling(percentiles=(1, 99))
    assert has_few_levels(usual(flattened)) and not has_few_levels(usual(NORMAL))
    flattened[:2] = np.nan
    assert not has_few_levels(usual(flattened))
    assert not has_few_levels(usual(np.full((9, 9), 5.0)))  # one value: has its own name
    levels = np.repeat(np.arange(8, dtype=np.uint8), 10)[None]
    none = np.zeros(levels.shape, np.bool_)
    assert has_few_levels(Grey(levels[:, :70], none[:, :70])) and not has_few_levels(Grey(levels, none))
    mostly_missing = np.concatenate([levels, np.full((99, levels.size), 3, np.uint8)])  # these have one level
    assert not has_few_levels(Grey(mostly_missing, np.arange(100)[:, None].repeat(levels.size, 1) > 0))


def test_scaling_takes_little_memory():
    """Beside the image: a copy of its amplitudes, and a few bytes for each pixel; once it took three copies."""
    pixels = np.random.default_rng(0).normal(size=(4000, 500)).astype(np.float32)
    tracemalloc.start()
    remarks(scaling()(pixels))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2 * pixels.nbytes
