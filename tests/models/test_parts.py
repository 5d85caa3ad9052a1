"""Each part against its formula written out."""

import pytest
import torch
import torch.nn.functional as F
from helpers.networks import maps
from torch.utils.flop_counter import FlopCounterMode

from salt.models.attention import CSE, SCSE, SSE
from salt.models.center import DBlock
from salt.models.encoder import GatedEncoder
from salt.models.heads import Hypercolumn
from salt.models.inputs import Channels, Pad, Resize, ResizePad
from salt.models.supervision import Nonempty
from salt.models.unet import UNetDecoder


@pytest.mark.parametrize("activation", ["relu", "elu"])
def test_cse_by_hand(activation):
    gate, x = CSE(8, reduction=2, activation=activation), maps()
    squeeze, _, excite = gate.gate
    hidden = x.mean((2, 3)) @ squeeze.weight[:, :, 0, 0].T + squeeze.bias
    hidden = F.relu(hidden) if activation == "relu" else F.elu(hidden)
    weights = torch.sigmoid(hidden @ excite.weight[:, :, 0, 0].T + excite.bias)
    torch.testing.assert_close(gate(x), x * weights[:, :, None, None])
    assert squeeze.weight.shape[0] == 4


def test_sse_by_hand_has_one_weight_per_position():
    gate, x = SSE(8), maps()
    weights = torch.sigmoid((x * gate.gate.weight[0][None]).sum(1, keepdim=True) + gate.gate.bias)
    torch.testing.assert_close(gate(x), x * weights)


@pytest.mark.parametrize("combine", ["sum", "max"])
def test_scse_is_the_sum_or_the_larger_of_both(combine):
    gate, x = SCSE(8, reduction=2, combine=combine), maps()
    squeeze, _, excite = gate.cse.gate
    hidden = F.relu(x.mean((2, 3)) @ squeeze.weight[:, :, 0, 0].T + squeeze.bias)
    channels = torch.sigmoid(hidden @ excite.weight[:, :, 0, 0].T + excite.bias)[:, :, None, None]
    positions = torch.sigmoid((x * gate.sse.gate.weight[0][None]).sum(1, keepdim=True) + gate.sse.gate.bias)
    expected = x * (channels + positions) if combine == "sum" else torch.maximum(x * channels, x * positions)
    torch.testing.assert_close(gate(x), expected)


def test_dblock_is_the_input_plus_every_stage():
    block, x = DBlock(4, dilations=[1, 2, 4]), maps(4, size=9)
    first, second, third = block.stages
    a = F.relu(F.conv2d(x, first.weight, first.bias, padding=1, dilation=1))
    b = F.relu(F.conv2d(a, second.weight, second.bias, padding=2, dilation=2))
    c = F.relu(F.conv2d(b, third.weight, third.bias, padding=4, dilation=4))
    torch.testing.assert_close(block(x), x + a + b + c)
    assert all(not stage.bias.any() for stage in block.stages)


def test_hypercolumn_concatenates_every_stage():
    head = Hypercolumn([4, 3, 2], width=5, dropout=0.0).eval()
    stages = [maps(4, 4), maps(3, 8), maps(2, 16)]
    columns = [F.interpolate(s, size=(16, 16), mode="bilinear", align_corners=False) for s in stages]
    expected = head.classifier(head.features(torch.cat(columns, 1)))
    torch.testing.assert_close(head(head.columns(stages), None), expected)
    assert head.features[0].in_channels == 9


def convolved(x, conv, **settings):
    return F.conv2d(x, conv.weight, conv.bias, **settings)


@torch.no_grad()
def test_hypercolumn_projects_each_stage_at_its_own_size():
    head = Hypercolumn([4, 3, 2], width=5, dropout=0.0, project=2).eval()
    stages = [maps(4, 4), maps(3, 8), maps(2, 16)]
    assert [p.weight.shape for p in head.projections] == [(2, 4, 1, 1), (2, 3, 1, 1), (2, 2, 1, 1)]
    columns = []
    for stage, projection in zip(stages, head.projections, strict=True):
        projected = torch.einsum("oc,nchw->nohw", projection.weight[:, :, 0, 0], stage)
        columns.append(F.interpolate(projected, size=(16, 16), mode="bilinear", align_corners=False))
    kernel, unit = head.features[0].weight, (1 + 1e-5) ** -0.5  # batch norm with its first statistics
    assert kernel.shape == (5, 6, 3, 3)
    features = F.relu(F.conv2d(torch.cat(columns, 1), kernel, padding=1) * unit)
    torch.testing.assert_close(head(head.columns(stages), None), convolved(features, head.classifier[1]))


@pytest.mark.parametrize(
    ("project", "expected"),
    [
        (None, (9 * 9 * 5 + 5) * 16**2),
        (2, (4 * 4**2 + 3 * 8**2 + 2 * 16**2) * 2 + (9 * 6 * 5 + 5) * 16**2),  # each stage at its own size
    ],
)
def test_what_a_hypercolumn_costs(project, expected):
    head, counter = Hypercolumn([4, 3, 2], width=5, dropout=0.0, project=project).eval(), FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        head(head.columns([maps(4, 4, n=1), maps(3, 8, n=1), maps(2, 16, n=1)]), None)
    assert counter.get_total_flops() == 2 * expected  # a multiply-add is two of them
    assert sum(p.numel() for p in head.projections.parameters()) == (0 if project is None else 2 * (4 + 3 + 2))


@torch.no_grad()
def test_hypercolumn_without_norm_is_a_convolution_with_bias():
    head = Hypercolumn([4, 2], width=5, dropout=0.0, norm="none")
    stages = [maps(4, 8), maps(2, 16)]
    large = F.interpolate(stages[0], size=(16, 16), mode="bilinear", align_corners=False)
    features = F.relu(convolved(torch.cat([large, stages[1]], 1), head.features[0], padding=1))
    torch.testing.assert_close(head.columns(stages), features)
    assert head.features[0].bias.any()


@pytest.mark.parametrize("first", [False, True])
@torch.no_grad()
def test_hypercolumn_drops_whole_channels_of_the_stages_or_of_the_columns(first):
    torch.manual_seed(0)
    head = Hypercolumn([40, 20], width=50, dropout=0.5, norm="none", dropout_first=first).train()
    seen = {}
    for name, part in (("columns", head.features), ("features", head.classifier[1])):
        part.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0]}))
    stages = [1 + maps(40, 8).abs(), 1 + maps(20, 16).abs()]
    head.features[0].bias.fill_(9)  # so that no channel is zero by itself
    head(head.columns(stages), None)
    large = F.interpolate(stages[0], size=(16, 16), mode="bilinear", align_corners=False)
    dropped, kept = ("columns", "features") if first else ("features", "columns")
    zero = (seen[dropped] == 0).flatten(2)
    assert torch.equal(zero.all(2), zero.any(2)) and 0.3 < zero.all(2).float().mean() < 0.7
    assert (seen[kept] != 0).all()
    if first:
        doubled = 2 * torch.cat([large, stages[1]], 1)
        torch.testing.assert_close(seen["columns"][~zero.all(2)], doubled[~zero.all(2)])


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"project": 0}, "project=0, expected null or at least 1"), ({"norm": "group"}, "norm='group', expected batch")],
)
def test_hypercolumn_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        Hypercolumn([4, 2], width=5, dropout=0.1, **settings)


def test_pad_is_numpys_reflection_and_comes_back():
    x = torch.rand(2, 1, 101, 101)
    pad = Pad(128, "reflect", (101, 101))
    padded = pad.prepare(x)
    assert padded.shape == (2, 1, 128, 128) and (pad.top, pad.left) == (13, 13)
    assert torch.equal(padded[0, 0, :13], padded[0, 0, 14:27].flip(0))
    assert torch.equal(pad.restore(padded), x)


def test_decoder_widths_and_sizes():
    decoder = UNetDecoder([1, 6, 8, 10, 12, 14], [9, 8, 7, 6, 5])
    sizes, channels = [101, 51, 26, 13, 7, 4], [1, 6, 8, 10, 12, 14]
    stages = decoder([maps(c, s) for c, s in zip(channels, sizes, strict=True)])
    assert [tuple(s.shape[1:]) for s in stages] == [
        (9, 7, 7),
        (8, 13, 13),
        (7, 26, 26),
        (6, 51, 51),
        (5, 101, 101),
    ]


@pytest.mark.parametrize("stage", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", ["resnet18", "se_resnext50_32x4d"])
def test_a_gate_in_the_encoder_changes_its_stage_and_all_below(name, stage):
    class Halve(torch.nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.channels = channels

        def forward(self, x):
            assert x.shape[1] == self.channels
            return x / 2

    torch.manual_seed(0)
    plain = GatedEncoder(name, None).eval()
    torch.manual_seed(0)
    gated = GatedEncoder(name, None, Halve, [stage]).eval()
    x = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        a, b = plain(x), gated(x)
    same = [torch.equal(p, q) for p, q in zip(a, b, strict=True)]
    assert same == [i < stage for i in range(6)]
    torch.testing.assert_close(a[stage] / 2, b[stage])


def test_a_closed_encoder_is_gated_at_its_output():
    torch.manual_seed(0)
    plain = GatedEncoder("efficientnet-b0", None).eval()
    torch.manual_seed(0)
    gated = GatedEncoder("efficientnet-b0", None, lambda channels: torch.nn.Hardtanh(0, 0.0001), [3]).eval()
    x = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        same = [torch.equal(p, q) for p, q in zip(plain(x), gated(x), strict=True)]
    assert same == [True, True, True, False, True, True]


@pytest.mark.parametrize(("kind", "n"), [("image", 1), ("depth", 3), ("depth_z", 4)])
def test_channels_by_hand(kind, n):
    images, depths = torch.rand(2, 1, 101, 101), torch.tensor([51.0, 959.0])
    channels = Channels(kind, 0.4, 0.2)(images, depths)
    assert channels.shape == (2, n, 101, 101) and Channels(kind, 0.4, 0.2).n_channels == n
    grey = (images[1, 0] - 0.4) / 0.2
    rows = (torch.arange(101) / 100)[:, None].expand(101, 101)
    expected = [grey, rows, grey * rows, torch.full((101, 101), 0.959)][:n]
    torch.testing.assert_close(channels[1], torch.stack(expected))


def test_resizing_keeps_the_middle_and_comes_back():
    x = torch.rand(2, 1, 101, 101, dtype=torch.float64)
    resize = Resize(202, (101, 101))
    large = resize.prepare(x)
    # bilinear at twice the size: pixel 2i lies a quarter to the left of i, between i-1 and i
    torch.testing.assert_close(large[0, 0, 0, 2], 0.75 * x[0, 0, 0, 1] + 0.25 * x[0, 0, 0, 0])
    both = ResizePad(202, 256, "reflect", (101, 101))
    padded = both.prepare(x)
    assert padded.shape == (2, 1, 256, 256) and (both.outer.top, both.outer.left) == (27, 27)
    assert torch.equal(padded[..., 27:-27, 27:-27], large)
    torch.testing.assert_close(both.restore(padded), resize.restore(large))
    assert resize.restore(large).shape == x.shape
    smooth = torch.linspace(0, 1, 101).expand(1, 1, 101, 101)
    torch.testing.assert_close(both.restore(both.prepare(smooth)), smooth, atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("stem", "strides"),
    [("default", [2, 4, 8, 16, 32]), ("no_maxpool", [2, 2, 4, 8, 16]), ("stride1", [1, 2, 4, 8, 16])],
)
@pytest.mark.parametrize("name", ["resnet18", "se_resnext50_32x4d"])
def test_the_stem_keeps_resolution_and_weights(name, stem, strides):
    torch.manual_seed(0)
    plain = GatedEncoder(name, None).eval()
    torch.manual_seed(0)
    changed = GatedEncoder(name, None, stem=stem).eval()
    assert [f.shape[-1] for f in changed(torch.rand(1, 1, 128, 128))[1:]] == [128 // s for s in strides]
    for a, b in zip(plain.state_dict().values(), changed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_the_gate_multiplies_probabilities():
    gated = Nonempty(9, [3, 2], 2, heads=1, weight=0.5, image_weight=0.05, gate=True)
    plain = Nonempty(9, [3, 2], 2, heads=1, weight=0.5, image_weight=0.05, gate=False)
    logits, z = 8 * maps(1, 6), torch.randn(2, 64, 1, 1)
    assert torch.equal(plain.gated(logits, z), logits)
    expected = logits.sigmoid() * gated.image_head(z.flatten(1)).sigmoid()[:, :, None, None]
    torch.testing.assert_close(gated.gated(logits, z).sigmoid(), expected, atol=1e-5, rtol=1e-4)
    assert torch.isfinite(gated.gated(torch.tensor([[[[200.0]]], [[[-200.0]]]]), 50 * z)).all()
