"""ASPP and FPA, against loops written from their papers."""

import pytest
import torch
import torch.nn.functional as F
from helpers.centers import maps, normed, shake, unit

from salt.models.center import ASPP, FPA, Halve


@torch.no_grad()
def test_aspp_by_hand():
    block, x = shake(ASPP(8, dilations=[2, 3], reduction=2, dropout=0.1)), maps()
    mean = F.relu(F.conv2d(x.mean((2, 3), keepdim=True), block.mean.weight, block.mean.bias)).expand(2, 4, 5, 6)
    dilated = [unit(x, b, padding=d, dilation=d) for b, d in zip(block.dilated, [2, 3], strict=True)]
    joined = torch.cat([unit(x, block.point), *dilated, mean], 1)
    torch.testing.assert_close(block(x), unit(joined, block.fuse[0]))


@pytest.mark.parametrize("relu", ["terms", "sums"])
@torch.no_grad()
def test_fpa_by_hand(relu):
    block, x = shake(FPA(8, sizes=[7, 5, 3], reduction=4, relu=relu)), maps(8, 8, 8)
    of_term, of_sum = (F.relu, lambda y: y) if relu == "terms" else (lambda y: y, F.relu)

    def up(y, size):
        return F.interpolate(y, size=size, mode="bilinear", align_corners=False)

    def down(y, i, padding):
        return F.relu(normed(F.conv2d(y, block.down[i].conv.weight, stride=2, padding=padding), block.down[i].norm))

    d1 = down(x, 0, 3)
    d2 = down(d1, 1, 2)
    d3 = down(d2, 2, 1)
    assert [d.shape[-1] for d in (d1, d2, d3)] == [4, 2, 1] and d1.shape[1] == 2

    def term(y, part, padding):
        return of_term(normed(F.conv2d(y, part[0].weight, padding=padding), part[1]))

    total = of_sum(term(d3, block.level[2], 1))
    total = of_sum(term(d2, block.level[1], 2) + up(total, (2, 2)))
    total = of_sum(term(d1, block.level[0], 3) + up(total, (4, 4)))
    weights = unit(up(total, (8, 8)), block.weights)
    mean = F.conv2d(x.mean((2, 3), keepdim=True), block.mean.weight, block.mean.bias)
    expected = of_sum(term(x, block.point, 0) * weights + mean)
    assert (expected < 0).any() == (relu == "terms")
    torch.testing.assert_close(block(x), expected)


def test_fpa_on_a_single_position_has_true_gradients_in_bfloat16():
    torch.manual_seed(0)
    half, x = Halve(64, 64, 3), maps(64, 1, 1, n=8, dtype=torch.float32)

    def gradient(dtype):
        junk = [torch.full((64, 64, 3, 3), float("nan"), dtype=dtype) for _ in range(30)]
        del junk  # memory that the backward pass uses again
        half.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            y = half(x)
        (y.float() * torch.arange(8.0)[:, None, None, None]).sum().backward()
        return half.conv.weight.grad.clone()

    expected = gradient(torch.float32)
    for _ in range(10):
        assert (gradient(torch.bfloat16) - expected).norm() < 0.05 * expected.norm()
