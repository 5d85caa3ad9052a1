"""LinkNet, GCN and Tiramisu against their papers' arithmetic, written out."""

import pytest
import torch
import torch.nn.functional as F
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder

from salt.models.gcn import BoundaryRefinement, GCNDecoder, LargeKernel
from salt.models.linknet import Block, LinkNetDecoder
from salt.models.stages import Upsample
from salt.models.tiramisu import DenseBlock, Tiramisu
from salt.models.unet import UNetDecoder

CHANNELS, SIZES = [1, 6, 8, 12, 16, 20], [101, 51, 26, 13, 7, 4]


def features(channels=CHANNELS, sizes=SIZES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, c, s, s, generator=generator) for c, s in zip(channels, sizes, strict=True)]


def conv(x, layer, **settings):
    return F.conv2d(x, layer.weight, layer.bias, **settings)


@torch.no_grad()
def test_the_unet_is_the_decoder_of_segmentation_models_pytorch():
    sizes = [64, 32, 16, 8, 4, 2]
    ours = UNetDecoder(CHANNELS, [9, 8, 7, 6, 5]).double().eval()
    theirs = UnetDecoder(CHANNELS, [9, 8, 7, 6, 5]).double().eval()
    for weight in ours.state_dict().values():
        if weight.is_floating_point():
            weight.uniform_(0.1, 1)
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    maps = [f.double() for f in features(sizes=sizes)]
    torch.testing.assert_close(ours(maps)[-1], theirs(maps))


def test_linknet_block_by_hand():
    block = Block(8, 5).eval()
    x = features()[2][:, :, :6, :6]
    squeeze, widen = block.squeeze[0], block.widen[0]
    assert squeeze.weight.shape == (2, 8, 1, 1) and block.upsample.conv.weight.shape == (2, 2, 3, 3)
    unit = (1 + 1e-5) ** -0.5  # batch norm with its first statistics
    y = F.relu(conv(x, squeeze) * unit)
    # a transposed convolution with stride 2 is a convolution of the map with zeros between its pixels
    spread = torch.zeros(2, 2, 13, 13)
    spread[:, :, 1:13:2, 1:13:2] = y
    kernel = block.upsample.conv.weight.transpose(0, 1).flip(2, 3)
    y = F.relu(F.conv2d(F.pad(spread, (0, 1, 0, 1)), kernel) * unit)
    y = F.relu(conv(y, widen) * unit)
    torch.testing.assert_close(block(x, (12, 12)), y[:, :, :12, :12])


@pytest.mark.parametrize(("size", "target"), [(4, 7), (4, 8), (12, 25), (25, 50), (51, 51), (1, 2), (50, 101)])
def test_upsampling_reaches_the_size_of_the_skip(size, target):
    up, x = Upsample(3, 2), torch.randn(1, 3, size, size)
    result = up(x, (target, target))
    assert result.shape == (1, 2, target, target)
    if size == target:
        kernel = up.conv.weight.transpose(0, 1).flip(2, 3)
        torch.testing.assert_close(result, F.conv2d(x, kernel, up.conv.bias, padding=1))
    else:
        doubled = F.conv_transpose2d(x, up.conv.weight, up.conv.bias, stride=2, padding=1, output_padding=1)
        shared = min(target, 2 * size)
        assert torch.equal(result[..., :shared, :shared], doubled[..., :shared, :shared])
        if target > 2 * size:
            assert torch.equal(result[..., -1, :shared], doubled[..., -1, :])


def test_linknet_adds_every_skip():
    decoder, maps = LinkNetDecoder(CHANNELS, width=4).eval(), features()
    stages = decoder(maps)
    assert decoder.channels == [16, 12, 8, 6, 4]
    x = maps[-1]
    for i, stage in enumerate(decoder.stages):
        skip = maps[4 - i]
        x = stage(x, skip.shape[-2:]) + (skip if i < 4 else 0)
        torch.testing.assert_close(stages[i], x)


def test_a_stage_without_channels_is_no_skip():
    channels = [1, 0, 8, 12, 16, 20]
    for decoder in (LinkNetDecoder(channels, width=4), GCNDecoder(channels, width=4, kernel=3)):
        stages = decoder(features(channels))
        assert [tuple(s.shape[1:]) for s in stages] == [
            (c, s, s) for c, s in zip(decoder.channels, SIZES[4::-1], strict=True)
        ]
        assert decoder.channels[3] == 4


@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_large_kernel_by_hand_and_its_receptive_field(kernel):
    block, x, half = LargeKernel(3, 2, kernel), torch.randn(1, 3, 15, 15), kernel // 2
    (a, b), (c, d) = block.left, block.right
    assert a.weight.shape[2:] == d.weight.shape[2:] == (kernel, 1)
    assert b.weight.shape[2:] == c.weight.shape[2:] == (1, kernel)
    left = conv(conv(x, a, padding=(half, 0)), b, padding=(0, half))
    right = conv(conv(x, c, padding=(0, half)), d, padding=(half, 0))
    torch.testing.assert_close(block(x), left + right)
    x.requires_grad_()
    block(x)[0, :, 7, 7].sum().backward()
    seen = x.grad[0].abs().sum(0) > 0
    expected = torch.zeros(15, 15, dtype=torch.bool)
    expected[7 - half : 8 + half, 7 - half : 8 + half] = True
    assert torch.equal(seen, expected)


def test_gcn_sums_top_down_by_hand():
    decoder, maps = GCNDecoder(CHANNELS, width=4, kernel=5), features()

    def refine(x, block):
        assert isinstance(block, BoundaryRefinement)
        return x + conv(F.relu(conv(x, block.first, padding=1)), block.second, padding=1)

    def lateral(x, pair):
        return refine(pair[0](x), pair[1])

    x = lateral(maps[5], decoder.deepest)
    for i, result in enumerate(decoder(maps)):
        skip = maps[4 - i]
        x = decoder.upsample[i](x, skip.shape[-2:])
        if i < 4:
            x = x + lateral(skip, decoder.lateral[i])
        x = refine(x, decoder.refine[i])
        torch.testing.assert_close(result, x)


def test_a_dense_block_sees_all_layers_before():
    block = DenseBlock(5, growth=3, n_layers=3, dropout=0.2).eval()
    x = torch.randn(2, 5, 6, 6)
    seen = x
    for layer in block.layers:
        norm, _, convolution, dropout = layer
        assert dropout.p == 0.2
        new = conv(F.relu(seen / (1 + norm.eps) ** 0.5), convolution, padding=1)
        seen = torch.cat([seen, new], dim=1)
    torch.testing.assert_close(block(x), seen[:, 5:])


def parameters_of_tiramisu(growth, down, bottom, in_channels=3, n_classes=11):
    """Parameters of FC-DenseNet, counted from the paper's description, classifier of CamVid included."""

    def conv(m, n, k):
        return k * k * m * n + n

    def layer(m, n, k):
        return 2 * m + conv(m, n, k)

    total, m, skips = conv(in_channels, 48, 3), 48, []
    for n_layers in down:
        total += sum(layer(m + i * growth, growth, 3) for i in range(n_layers))
        m += n_layers * growth
        skips.append(m)
        total += layer(m, m, 1)
    total += sum(layer(m + i * growth, growth, 3) for i in range(bottom))
    below = bottom * growth
    for n_layers, skip in zip(reversed(down), reversed(skips), strict=True):
        total += conv(below, below, 3)
        total += sum(layer(below + skip + i * growth, growth, 3) for i in range(n_layers))
        inputs, below = below + skip, n_layers * growth
    return total + conv(inputs + below, n_classes, 1)


@pytest.mark.parametrize(
    ("variant", "growth", "down", "bottom", "paper"),
    [
        (56, 12, [4] * 5, 4, 1.5e6),
        (67, 16, [5] * 5, 5, 3.5e6),
        (103, 16, [4, 5, 7, 10, 12], 15, 9.4e6),
    ],
)
def test_tiramisu_has_the_papers_parameters(variant, growth, down, bottom, paper):
    network = Tiramisu([3], variant, dropout=0.2)
    n = sum(p.numel() for p in network.parameters()) + 11 * (network.channels[-1] + 1)
    assert n == parameters_of_tiramisu(growth, down, bottom)
    # the paper rounds, and gives 1.5 M for what its own description makes 1.38 M
    assert n == pytest.approx(paper, rel=0.02 if variant > 56 else 0.09)
    n_convolutions = sum(isinstance(m, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)) for m in network.modules())
    assert n_convolutions + 1 == variant  # its name counts the layers, the classifier among them


def test_the_biases_of_tiramisu():
    def network(bias):
        torch.manual_seed(0)
        return Tiramisu([1], 56, dropout=0.2, bias=bias).eval()

    def biases(network):
        kinds = (torch.nn.Conv2d, torch.nn.ConvTranspose2d)
        return [m.bias for m in network.modules() if isinstance(m, kinds)]

    random, zero, none = (network(bias) for bias in ("random", "zero", "none"))
    assert all(b.any() for b in biases(random)) and not any(b.any() for b in biases(zero))
    assert biases(none) == [None] * 55
    weights = dict(none.named_parameters())
    assert all(torch.equal(w, dict(random.named_parameters())[n]) for n, w in weights.items())
    x = torch.rand(1, 1, 32, 32)
    with torch.no_grad():  # no bias is a bias of zero
        torch.testing.assert_close(none([x]), zero([x]))
        assert not torch.allclose(random([x])[-1], zero([x])[-1])


def test_tiramisu_on_any_size():
    network = Tiramisu([1], 56, dropout=0.2).eval()
    with torch.no_grad():
        for size in (101, 128, 32):
            stages = network([torch.rand(1, 1, size, size)])
            sizes = [size // 2**i for i in (4, 3, 2, 1, 0)]
            assert [tuple(s.shape[1:]) for s in stages] == [
                (c, n, n) for c, n in zip(network.channels, sizes, strict=True)
            ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinkNetDecoder(CHANNELS, width=0), "width=0, expected"),
        (lambda: GCNDecoder(CHANNELS, width=4, kernel=4), "kernel=4, expected .* odd"),
        (lambda: GCNDecoder([1], width=4, kernel=3), "encoder=none; expected an encoder"),
        (lambda: Tiramisu([1], 57, 0.2), "variant=57, expected one of 56, 67, 103"),
        (lambda: Tiramisu([1], 56, 1.0), "dropout=1.0, expected"),
        (lambda: Tiramisu([1], 56, 0.2, bias="one"), "bias='one', expected one of random, zero, none"),
        (lambda: Tiramisu(CHANNELS, 56, 0.2), "its own encoder"),
        (lambda: LinkNetDecoder(CHANNELS, 4, gated_stages=[6]), r"attention.decoder=\[6\], expected stages of 1..5"),
    ],
)
def test_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
