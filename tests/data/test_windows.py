"""Windows over images of any size: every pixel counts once, and no seam shows."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from salt.data.tiles import Tiles, tile_size
from salt.data.windows import Windows, window_starts
from salt.inference.engine import TorchEngine
from salt.inference.predict import Predictor
from salt.machine.device import choose_runtime
from salt.models.segmenter import Output
from salt.runs.stacks import as_stack

SIDES = st.integers(1, 400)
OVERLAPS = st.sampled_from([0.1, 0.25, 0.5, 0.75])


def join(windows, parts):
    """Return the values (C H W) of each image, whose rows come once, from top to bottom."""
    images = [[] for _ in windows.positions]
    for image, rows, values in windows.join(parts):
        assert rows.start in (None, sum(part.shape[1] for part in images[image]))
        images[image].append(values.copy())
    return [np.concatenate(parts, axis=1) for parts in images]


def grey(*sizes):
    rng = np.random.default_rng(0)
    return as_stack([rng.integers(0, 256, size, dtype=np.uint8) for size in sizes])


@given(SIDES, st.integers(1, 150), OVERLAPS)
def test_windows_lie_within_a_larger_image_and_overlap(side, window, overlap):
    begins = window_starts(side, window, overlap)
    if side <= window:
        assert len(begins) == 1 and begins[0] <= 0 and begins[0] + window >= side
    else:
        assert begins[0] == 0 and begins[-1] + window == side
        assert all(0 < b - a <= max(window * (1 - overlap), 1) for a, b in pairwise(begins))


@given(st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=3), st.integers(9, 150), st.integers(9, 150), OVERLAPS)
def test_the_values_of_overlapping_windows_are_averaged(sizes, h, w, overlap):
    images = grey(*sizes)
    windows = Windows(images, np.arange(len(sizes)), (h, w), overlap)
    shown, _ = windows.cut(0, len(windows))
    assert shown.shape == (len(windows), h, w)
    batches = [shown[start : start + 7].astype(np.float32) for start in range(0, len(shown), 7)]
    for image, joined in enumerate(join(windows, [np.stack([batch, 2 * batch]) for batch in batches])):
        np.testing.assert_allclose(joined, [images[image], 2.0 * images[image]], rtol=1e-5, atol=1e-3)


def test_a_smaller_image_is_reflected_in_the_middle_of_a_window():
    images = grey((3, 5), (40, 2))
    shown, positions = Windows(images, np.array([1, 0]), (10, 9), 0.5).cut(6, 8)
    assert positions.tolist() == [1, 0]
    assert np.array_equal(shown[1], np.pad(images[0], ((3, 4), (2, 2)), mode="reflect"))
    assert np.array_equal(shown[0][:, 3:5], images[1][30:])


def test_tiles_of_the_windows_size_are_taken_as_they_are():
    images = grey((7, 9), (7, 9), (7, 9))
    windows = Windows(images, np.array([2, 0]), (7, 9))
    shown, positions = windows.cut(0, 2)
    assert len(windows) == 2 and positions.tolist() == [2, 0] and np.array_equal(shown, images[[2, 0]])
    assert [image[0].sum() for image in join(windows, [np.zeros((1, 1, 7, 9)), np.ones((1, 1, 7, 9))])] == [0, 63]


class Local(torch.nn.Module):
    """A network whose answer depends on the nearest 7 pixels in each direction."""

    def __init__(self, tile):
        super().__init__()
        torch.manual_seed(0)
        self.tile = tile
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(1, 8, 7, padding=3),
            torch.nn.Tanh(),
            torch.nn.Conv2d(8, 8, 5, padding=2),
            torch.nn.Tanh(),
            torch.nn.Conv2d(8, 1, 5, padding=2),
        )

    def forward(self, images, depths):
        return Output(12 * self.layers(images), [])


@pytest.mark.parametrize("overlap", [0.25, 0.5])
@pytest.mark.parametrize("mirror", [False, True])
def test_no_seam_shows(tiny, mirror, overlap):
    size = (230, 411)
    tiles = Tiles(["line"], grey(size), None, np.zeros(1))
    runtime = choose_runtime(tiny().trainer)
    whole, parts = (
        Predictor(TorchEngine([model], model.tile, runtime, mirror), "", overlap).predict(tiles, np.array([0])).mean[0]
        for model in (Local(size), Local((101, 101)))
    )
    assert whole.std() > 0.05
    inner = np.abs(whole - parts)
    assert inner[7:-7, 7:-7].max() < 0.01


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(101, 101), (101, 101)], (101, 101)),
        ([(64, 128)], (64, 128)),
        ([(64, 129)], (128, 128)),
        ([(101, 101), (100, 101)], (128, 128)),
    ],
)
def test_the_network_is_trained_on_the_images_common_size(sizes, expected):
    assert tile_size(sizes, largest=128) == expected


def test_large_images_give_as_many_crops_as_cover_them():
    images = grey((100, 100), (300, 400), (40, 40))
    assert Tiles(["a", "b", "c"], images, None, np.zeros(3)).crops((100, 100)).tolist() == [0] + [1] * 12 + [2]
