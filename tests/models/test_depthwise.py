"""Depthwise convolutions as a CPU trains them, against torch's own in float64."""

import copy

import pytest
import torch
from torch import nn

from salt import build
from salt.models.depthwise import DepthwiseConv2d, speed_up_depthwise

KERNELS = [3, 4, 5, 7, (5, 3), (3, 5), (1, 7)]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("stride", [1, 2, (1, 2)])
@pytest.mark.parametrize(("padding", "dilation"), [(0, 1), (2, 1), ((1, 3), 1), (3, 2), (6, (1, 2))])
@pytest.mark.parametrize("bias", [True, False])
def test_output_and_gradients(kernel, stride, padding, dilation, bias):
    torch.manual_seed(0)
    exact = nn.Conv2d(6, 12 if bias else 6, kernel, stride, padding, dilation, groups=6, bias=bias).double()
    own = nn.Sequential(copy.deepcopy(exact).float().to(memory_format=torch.channels_last))
    speed_up_depthwise(own)
    assert isinstance(own[0], DepthwiseConv2d)
    x = torch.randn(3, 6, 14, 19, dtype=torch.float64)
    ours = x.float().to(memory_format=torch.channels_last).requires_grad_()
    x.requires_grad_()
    expected, output = exact(x), own(ours)
    factors = torch.randn_like(expected)
    (expected * factors).sum().backward()
    (output * factors.float()).sum().backward()
    pairs = [(output, expected), (ours.grad, x.grad)]
    pairs += [(a.grad, b.grad) for a, b in zip(own.parameters(), exact.parameters(), strict=True)]
    for found, right in pairs:
        torch.testing.assert_close(found.double(), right, rtol=1e-5, atol=1e-5 * right.detach().abs().max().item())


def test_a_compiled_network_trains_as_it_did():
    torch.manual_seed(0)
    own = nn.Sequential(nn.Conv2d(4, 4, 5, padding=2, groups=4), nn.ReLU())
    speed_up_depthwise(own)
    x, grads = torch.randn(2, 4, 9, 9), []
    for net in (own, torch.compile(own, backend="aot_eager", fullgraph=True)):
        own.zero_grad()
        net(x).square().sum().backward()
        grads.append([parameter.grad.clone() for parameter in own.parameters()])
    torch.testing.assert_close(grads[1], grads[0])


def test_kernels_have_gradients_where_the_images_have_none():
    conv = nn.Sequential(nn.Conv2d(4, 4, 5, padding=2, groups=4))
    speed_up_depthwise(conv)
    conv(torch.rand(1, 4, 8, 8)).sum().backward()
    assert conv[0].weight.grad.abs().min() > 0


@pytest.mark.parametrize("padding", [{"padding": "same"}, {"padding": 2, "padding_mode": "reflect"}])
def test_other_paddings_are_left_to_torch(padding):
    plain = nn.Sequential(nn.Conv2d(4, 4, 5, groups=4, **padding))
    own = copy.deepcopy(plain)
    speed_up_depthwise(own)
    x = torch.rand(1, 4, 8, 8)
    assert torch.equal(own(x), plain(x))
    for net in (own, plain):
        net(x).square().sum().backward()
    torch.testing.assert_close(own[0].weight.grad, plain[0].weight.grad)


def test_only_convolutions_with_a_kernel_for_each_channel_change():
    convs = [nn.Conv2d(4, 4, 5), nn.Conv2d(4, 4, 5, groups=2), nn.Conv2d(1, 1, 5)]
    model = nn.Sequential(*convs)
    speed_up_depthwise(model)
    assert not any(isinstance(conv, DepthwiseConv2d) for conv in model)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tu-efficientnet_lite0", "tu-tf_efficientnet_lite0"])  # even padding, TensorFlow's
def test_a_network_computes_what_it_did(tiny, name):
    model = build.build_model(tiny(f"encoder.name={name}")).eval()
    images, depths = torch.rand(2, 1, 101, 101), torch.rand(2)
    names = list(model.state_dict())
    with torch.no_grad():
        expected = model(images, depths).logits
        speed_up_depthwise(model)
        assert torch.equal(model(images, depths).logits, expected)
        assert torch.equal(copy.deepcopy(model)(images, depths).logits, expected)
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(compiled(images, depths).logits, model(images, depths).logits)
    assert list(model.state_dict()) == names
