"""Every encoder option, stems, and sizes of the input in every decoder."""

import pytest
import torch
from conftest import options
from helpers.networks import BASE, SMALL_UNET, batch, built, overrides_of, shake

from salt.models.encoder import GatedEncoder, input_scale


@pytest.mark.parametrize("option", [o for o in options("encoder") if o not in ("any", "none")])
def test_every_encoder_option(option):
    _, model = built([f"encoder={option}", "encoder.weights=null", "decoder.channels=[8,8,8,8,8]"])
    model.eval()
    with torch.no_grad():
        assert model(*batch(model, 1)[:2]).logits.shape == (1, 1, 101, 101)


@pytest.mark.parametrize("decoder", [o for o in options("decoder") if o != "tiramisu"])
@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("tu-convnext_atto", "default"),
        ("tu-resnet18", "default"),
        ("mobilenet_v2", "default"),
        ("mit_b0", "default"),
        *((name, stem) for name in ("resnet18", "se_resnet50") for stem in ("no_maxpool", "stride1")),
        *((name, "stride1") for name in ("tu-efficientnet_b0", "tu-tf_efficientnet_lite0")),
    ],
)
@pytest.mark.battery
def test_any_encoder_and_stem_in_every_decoder(name, stem, decoder):
    _, model = built(
        [
            "encoder=any",
            f"encoder.name={name}",
            "encoder.weights=null",
            f"encoder.stem={stem}",
            f"decoder={decoder}",
            "attention=sse",
            "input.size=101" if name != "mit_b0" else "input.size=128",
        ]
    )
    shake(model)
    images, depths, masks = batch(model)
    output = model.train()(images, depths)
    assert output.logits.shape == masks.shape
    output.logits.mean().backward()
    idle = [n for n, p in model.named_parameters() if p.ndim > 1 and (p.grad is None or not p.grad.any())]
    assert not idle


@pytest.mark.parametrize("name", ["resnet18", "se_resnet50", "timm-efficientnet-b0", "tu-tf_efficientnet_lite0"])
def test_a_first_stride_of_1_doubles_every_map(name):
    x = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        maps = [GatedEncoder(name, None, stem=stem).eval()(x) for stem in ("default", "stride1")]
    assert [2 * a.shape[-1] for a in maps[0][1:]] == [b.shape[-1] for b in maps[1][1:]] == [64, 32, 16, 8, 4]


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("resnet34", 0.449, 0.226),
        ("tu-resnet18", 0.449, 0.226),
        ("tu-tf_efficientnet_lite0", 0.5, 0.5),
        ("timm-tf_efficientnet_lite0", 0.5, 0.5),
        ("timm-efficientnet-b0", 0.449, 0.226),
        ("tu-inception_v4", 0.5, 0.5),
        ("inceptionv4", 0.5, 0.5),
        ("xception", 0.5, 0.5),
        ("dpn68", 0.451, 0.235),
        ("tu-dpn68", 0.451, 0.235),
        ("tu-no_such_model", 0.449, 0.226),
        (None, 0.449, 0.226),
    ],
)
def test_the_scale_of_the_input_is_that_of_the_encoders_weights(name, mean, std):
    assert input_scale(name) == pytest.approx((mean, std), abs=5e-4)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], 0.0),
        (["input.mean=0.4"], 0.2),
        (["input.std=0.25"], 0.0),
        (["input.mean=0.4", "input.std=0.25"], 0.4),
    ],
)
def test_the_network_sees_grey_levels_at_the_encoders_scale_or_a_chosen_one(overrides, expected):
    _, model = built(["encoder.name=tu-tf_efficientnet_lite0", "encoder.weights=null", *overrides])
    channels = model.channels(torch.full((1, 1, 4, 4), 0.5), torch.zeros(1))
    torch.testing.assert_close(channels, torch.full((1, 1, 4, 4), expected))


@pytest.mark.parametrize("size", [101, 104, 128, 160])
@pytest.mark.parametrize("decoder", options("decoder"))
@pytest.mark.battery
def test_sizes_of_the_input(size, decoder):
    _, model = built([*overrides_of("decoder", decoder), "data.tile=[101,101]", f"input.size={size}"])
    assert model.eval()(*batch(model)[:2]).logits.shape == (2, 1, 101, 101)


def test_sizes_of_the_other_inputs():
    for overrides in (
        ["input=resize_128", "input.size=101"],
        ["input=resize_pad_256", "input.resize=120", "input.size=160"],
    ):
        _, model = built([*BASE, SMALL_UNET, *overrides])
        assert model.eval()(*batch(model)[:2]).logits.shape == (2, 1, 101, 101)
