"""A smaller input of the network in the first epochs."""

import pytest
import torch

from salt import build
from salt.models.inputs import shrink
from salt.models.resolution import Full, Growing


def test_the_scale_grows_in_steps_and_the_work_is_that_of_the_pixels():
    growing = Growing(scale=[0.5, 0.75], until=[0.5, 0.75])
    assert [growing.scale(i / 8) for i in range(8)] == [0.5] * 4 + [0.75] * 2 + [1.0] * 2
    assert growing.work(4) == [0.25, 0.25, 0.5625, 1.0]
    assert Full().work(3) == [1.0] * 3


@pytest.mark.parametrize(
    ("scale", "until", "message"),
    [
        ([0.6], [0.5, 0.75], "1 scales with until"),
        ([0.75, 0.6], [0.5, 0.75], "scale=.*expected ascending numbers between 0 and 1"),
        ([0.6, 1.0], [0.5, 0.75], "scale=.*expected ascending numbers between 0 and 1"),
        ([0.6, 0.75], [0.0, 0.5], "until=.*expected ascending numbers between 0 and 1"),
        ([0.6, 0.75], [0.5, 0.5], "until=.*expected ascending numbers between 0 and 1"),
    ],
)
def test_steps_that_do_not_grow_are_refused(scale, until, message):
    with pytest.raises(ValueError, match=message):
        Growing(scale, until)


@pytest.mark.parametrize(
    ("sides", "scale", "expected"),
    [((104, 104), 0.6, (64, 64)), ((128, 256), 0.75, (96, 192)), ((104, 104), 0.75, (80, 80))],
)
def test_the_sides_are_multiples_of_16(sides, scale, expected):
    assert shrink(torch.rand(1, 1, *sides), scale).shape[-2:] == expected


@pytest.mark.parametrize("window", ["reflect_pad_104", "resize_128", "resize_pad_256"])
def test_the_input_shrinks_in_training_alone_and_logits_are_at_the_tile_s_size(tiny, window):
    model = build.build_model(tiny(f"input={window}", f"input.size={256 if '256' in window else 128}"))
    full, seen = model.window.size[0], []
    model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-2:]))
    images, depths = torch.rand(2, 1, 101, 101), torch.rand(2)
    model.scale = 0.5
    assert model.train()(images, depths).logits.shape == images.shape
    with torch.no_grad():
        assert model.eval()(images, depths).logits.shape == images.shape
    assert seen == [(full // 2, full // 2), (full, full)]


def test_a_shrunken_tile_keeps_its_place():
    tile = torch.zeros(1, 1, 104, 104)
    tile[..., 26:52, 52:78] = 1.0
    small = shrink(tile, 0.5)  # 48 pixels
    rows, columns = (small[0, 0].mean(dim=d) for d in (1, 0))
    for values, center in ((rows, 39 / 104), (columns, 65 / 104)):
        places = (torch.arange(48) + 0.5) / 48
        assert abs(float((values * places).sum() / values.sum()) - center) < 1e-3
