"""Each part against its formula written out."""

import pytest
import torch
import torch.nn.functional as F

from salt.models.attention import CSE, SCSE, SSE
from salt.models.center import DBlock
from salt.models.encoder import Encoder
from salt.models.heads import Hypercolumn
from salt.models.inputs import Pad
from salt.models.supervision import Multiscale
from salt.models.unet import UNetDecoder


def maps(channels=8, size=5, n=2, seed=0):
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(seed))


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


def test_scse_is_the_sum():
    gate, x = SCSE(8, reduction=2), maps()
    torch.testing.assert_close(gate(x), gate.cse(x) + gate.sse(x))


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


def test_pad_is_numpys_reflection_and_comes_back():
    x = torch.rand(2, 1, 101, 101)
    pad = Pad(128, "reflect")
    padded = pad.prepare(x)
    assert padded.shape == (2, 1, 128, 128) and (pad.before, pad.after) == (13, 14)
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
    plain = Encoder(name, None).eval()
    torch.manual_seed(0)
    gated = Encoder(name, None, Halve, [stage]).eval()
    x = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        a, b = plain(x), gated(x)
    same = [torch.equal(p, q) for p, q in zip(a, b, strict=True)]
    assert same == [i < stage for i in range(6)]
    torch.testing.assert_close(a[stage] / 2, b[stage])


def test_a_closed_encoder_is_gated_at_its_output():
    torch.manual_seed(0)
    plain = Encoder("efficientnet-b0", None).eval()
    torch.manual_seed(0)
    gated = Encoder("efficientnet-b0", None, lambda channels: torch.nn.Hardtanh(0, 0.0001), [3]).eval()
    x = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        same = [torch.equal(p, q) for p, q in zip(plain(x), gated(x), strict=True)]
    assert same == [True, True, True, False, True, True]


@pytest.mark.parametrize("compare", ["logits", "masks"])
def test_multiscale_loss_by_hand(compare):
    supervision, window = Multiscale(9, [3, 2], 2, [0.5, 0.25], compare), Pad(104, "reflect")
    masks = torch.zeros(2, 1, 101, 101)
    masks[0, :, 50:] = 1
    logits = supervision([maps(3, 13), maps(2, 52)], maps(2, 52), None)
    loss = F.binary_cross_entropy_with_logits
    expected = 0.0
    for weight, stage in zip([0.5, 0.25], logits, strict=True):
        if compare == "logits":
            full = F.interpolate(stage, size=(104, 104), mode="bilinear", align_corners=False)
            expected = expected + weight * loss(full[..., 1:102, 1:102], masks)
        else:
            cell = 104 // stage.shape[-1]
            share = F.avg_pool2d(F.pad(masks, (1, 2, 1, 2), mode="reflect"), cell)
            expected = expected + weight * loss(stage, (share >= 0.5).float())
    torch.testing.assert_close(supervision.loss(logits, masks, loss, window), expected)
