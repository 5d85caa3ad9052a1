"""What images look like: shares of grey levels, the spectrum along traces, and what counts as a strong difference."""

import json

import cv2
import numpy as np
import pytest
from scipy import stats

from salt.data import likeness
from salt.data.likeness import LEVELS_APART, LOOKS, Likeness
from salt.data.synthetic import make_tiles
from salt.data.tiles import Tiles
from salt.runs.stacks import as_stack


def tiles_of(images, missing=None):
    stack = as_stack(list(images))
    return Tiles([str(i) for i in range(len(stack))], stack, None, np.full(len(stack), np.nan), missing)


@pytest.fixture(scope="module")
def generated():
    return make_tiles(np.random.default_rng(3), 240)[0]


@pytest.fixture(scope="module")
def trained(generated):
    return likeness.describe(tiles_of(generated[::2]))


def test_levels_are_shares_of_the_known_pixels():
    rng = np.random.default_rng(0)
    images, missing = rng.integers(0, 256, (3, 40, 50), dtype=np.uint8), rng.random((3, 40, 50)) < 0.3
    looks = likeness.describe(tiles_of(images, missing))
    np.testing.assert_allclose(looks.levels, np.histogram(images[~missing], np.arange(257), density=True)[0])
    assert not likeness.describe(tiles_of(images, np.ones_like(missing))).levels.any()


def test_the_spectrum_of_a_wave_peaks_at_its_frequency():
    rows = np.arange(200)[:, None]
    for cycles in (4, 10, 25):  # in 64 samples
        wave = np.broadcast_to(128 + 90 * np.sin(2 * np.pi * cycles * rows / 64), (200, 30)).round().astype(np.uint8)
        looks = likeness.describe(tiles_of([wave]))
        assert looks.spectrum.argmax() == cycles and looks.spectrum.sum() == pytest.approx(1)
        assert looks.frequency == pytest.approx(cycles / 64, abs=0.002)


def test_the_spectrum_is_the_mean_power_under_a_hann_taper():
    image = np.random.default_rng(1).integers(0, 256, (64, 40), dtype=np.uint8)  # a window is a whole trace
    samples = image.T - image.T.mean(1, keepdims=True)
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(64) / 63)
    waves = np.exp(-2j * np.pi * np.outer(np.arange(64), np.arange(33)) / 64)
    power = (np.abs((samples * taper) @ waves) ** 2).mean(0)
    found = likeness.describe(tiles_of([image])).spectrum  # 4096 windows over 40 traces: 102 or 103 of each
    np.testing.assert_allclose(found, power / power.sum(), rtol=0.02, atol=1e-4)


def test_windows_with_missing_pixels_are_left_out():
    image = np.random.default_rng(2).integers(0, 256, (64, 20), dtype=np.uint8)
    missing = np.zeros(image.shape, bool)
    missing[5, 10:] = True
    other = image.copy()
    other[:, 10:] = 7
    one, two = (likeness.describe(tiles_of([pixels], missing[None])).spectrum for pixels in (image, other))
    np.testing.assert_array_equal(one, two)


def test_short_and_mixed_images_have_a_spectrum_and_tiny_ones_none():
    rows = np.arange(40)[:, None]
    wave = np.broadcast_to(128 + 90 * np.sin(2 * np.pi * rows / 8), (40, 30)).round().astype(np.uint8)
    for images in ([wave], [wave, np.tile(wave, (3, 2))]):
        assert likeness.describe(tiles_of(images)).frequency == pytest.approx(1 / 8, abs=0.01)
    tiny = likeness.describe(tiles_of([wave[:10]]))
    assert not tiny.spectrum.any() and tiny.frequency == 0
    assert likeness.frequency_apart(tiny, likeness.describe(tiles_of([wave]))) == 0


def test_the_time_does_not_grow_with_the_size():
    large = np.broadcast_to(np.arange(256, dtype=np.uint8), (300_000, 256))  # 77 million pixels of which 4 are counted
    looks = likeness.glance(tiles_of([large]))
    assert looks.levels.sum() == pytest.approx(1) and looks.images == ()


def test_distances_are_wassersteins(generated):
    one, two = (likeness.describe(tiles_of(part)) for part in (generated[:40], generated[40:90] // 2))
    grey = np.arange(256)
    expected = stats.wasserstein_distance(grey, grey, one.levels, two.levels)
    assert likeness.levels_apart(one, two) == pytest.approx(expected)
    cycles = np.arange(33) / 64
    expected = stats.wasserstein_distance(cycles, cycles, one.spectrum, two.spectrum)
    expected /= min(cycles @ one.spectrum, cycles @ two.spectrum)
    assert likeness.frequency_apart(one, two) == likeness.frequency_apart(two, one) == pytest.approx(expected)


def test_halves_of_one_data_set_do_not_differ(generated):
    rng = np.random.default_rng(0)
    for _ in range(20):
        order = rng.permutation(len(generated))
        one, two = (likeness.describe(tiles_of(generated[part])) for part in (order[::2], order[1::2]))
        assert likeness.differences(one, two) == []


@pytest.mark.parametrize("factor", [0.5, 0.66, 1.5, 2, 3])
def test_another_sampling_is_named(generated, trained, factor):
    size = (101, round(101 * factor))
    stretched = [cv2.resize(image, size, interpolation=cv2.INTER_LINEAR) for image in generated[1::2]]
    (line,) = likeness.differences(trained, likeness.describe(tiles_of(stretched)))
    assert f"in training {trained.frequency:.3f}: as if sampled at" in line
    assert 1 / float(line.split()[-4]) == pytest.approx(factor, rel=0.2)


@pytest.mark.parametrize("scaled", [lambda x: 3 * x, lambda x: 0.4 * x, lambda x: x + 20])
def test_another_range_of_amplitudes_is_named(generated, trained, scaled):
    pixels = (scaled(generated[1::2] - 128.0) + 128).clip(0, 255).astype(np.uint8)
    (line,) = likeness.differences(trained, likeness.describe(tiles_of(pixels)))
    assert f"mean {pixels.mean():.0f} and standard deviation {pixels.std():.0f}, in training" in line


def test_inverted_images_are_named_if_their_levels_are_not_symmetric(generated):
    dark = tiles_of(generated // 2)
    (line,) = likeness.differences(likeness.describe(dark), likeness.describe(tiles_of(255 - generated // 2)))
    assert line.startswith("grey levels differ by")


def test_the_sample_interval_may_differ_by_a_twentieth(generated):
    tiles = tiles_of(generated[:30])
    two, other = likeness.describe(tiles, 2.0), likeness.describe(tiles, 2.09)
    assert likeness.differences(two, other) == []
    assert likeness.differences(two, likeness.describe(tiles)) == []
    expected = ["the sample interval is 4 ms, in training 2 ms"]
    assert likeness.differences(two, likeness.describe(tiles, 4.0)) == expected


def test_digests_name_images_that_show_something(generated):
    images = [generated[0], generated[0].reshape(1, -1), np.full((9, 9), 7, np.uint8), generated[0][:, ::-1]]
    digests = likeness.digests_of(as_stack(images))
    assert len(digests) == 3 and list(digests) == sorted(digests)
    assert likeness.digests_of(as_stack([generated[0][:, ::-1][:, ::-1]]))[0] in digests


def test_it_is_read_as_it_was_written(generated, tmp_path):
    assert likeness.read(tmp_path) is None
    looks = likeness.describe(tiles_of(generated), 4.0)
    likeness.write(tmp_path, looks, ["0" * 16])
    found = likeness.read(tmp_path)
    assert (found.images, found.others, found.interval) == (looks.images, ("0" * 16,), 4.0)
    for name in ("levels", "spectrum"):
        np.testing.assert_allclose(getattr(found, name), getattr(looks, name), atol=1e-6)
    assert likeness.differences(looks, found) == []
    assert (tmp_path / LOOKS).stat().st_size < 25 * len(generated) + 8000


@pytest.mark.parametrize(
    "change",
    [
        {"levels": [1.0]},
        {"levels": None},
        {"spectrum": [-1.0] * 33},
        {"spectrum": ["a"] * 33},
        {"interval": 0},
        {"interval": "a"},
        {"images": "abc"},
        {"images": [3]},
        {"others": ["0"]},
    ],
)
def test_a_damaged_file_is_named(generated, tmp_path, change):
    likeness.write(tmp_path, likeness.describe(tiles_of(generated[:2])))
    content = json.loads((tmp_path / LOOKS).read_text(encoding="utf-8"))
    (tmp_path / LOOKS).write_text(json.dumps(content | change), encoding="utf-8")
    with pytest.raises(ValueError, match=r"data\.json is damaged"):
        likeness.read(tmp_path)
    (tmp_path / LOOKS).write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"data\.json is missing or damaged"):
        likeness.read(tmp_path)


def test_the_threshold_is_where_a_shift_begins():
    levels = np.zeros(256)
    levels[100] = 1
    shifted = [Likeness(np.roll(levels, by), np.zeros(33)) for by in (0, int(LEVELS_APART), int(LEVELS_APART) + 1)]
    assert [len(likeness.differences(shifted[0], looks)) for looks in shifted] == [0, 0, 1]
