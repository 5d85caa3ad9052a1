"""One battery for every option of every model group; a new YAML is tested without a change here."""

import copy

import pytest
import torch
from conftest import TINY, options, raw_config
from safetensors.torch import load_file, save_file

from salt import build
from salt.config import check_config

GROUPS = ("input", "attention", "center", "decoder", "hypercolumn", "deep-supervision")
CASES = [(group, option) for group in GROUPS for option in options(group)]
BASE = [o for o in TINY if not o.startswith(("data", "input"))] + ["decoder.channels=[24,20,18,16,16]"]


def model_for(*overrides):
    torch.manual_seed(0)
    config = check_config(raw_config(*BASE, *overrides))
    return config, build.build_model(config)


def batch(n=2):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(n, 1, 101, 101, generator=generator)
    masks = torch.zeros(n, 1, 101, 101)
    masks[0, :, 40:] = 1
    return images, masks


@pytest.fixture(params=CASES, ids=lambda case: "=".join(case), scope="module")
def case(request):
    group, option = request.param
    return model_for(f"{group}={option}")


def test_shapes_and_a_gradient_on_every_parameter(case):
    config, model = copy.deepcopy(case)
    images, masks = batch()
    output = model.train()(images)
    assert output.logits.shape == masks.shape
    model.loss(output, masks, build.build_loss(config)).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert not without
    # a bias before batch norm and a ReLU that is dead for two tiles may have zero gradient, whole modules may not
    for name, module in model.named_children():
        gradients = [p.grad.abs().sum() for p in module.parameters()]
        assert not gradients or sum(gradients) > 0, name


def test_empty_masks_and_one_tile_in_eval(case):
    config, model = copy.deepcopy(case)
    images, masks = batch()
    value = model.loss(model(images), torch.zeros_like(masks), build.build_loss(config))
    value.backward()
    assert torch.isfinite(value)
    model.eval()
    with torch.no_grad():
        one, again = model(images[:1]), model(images[:1])
        both = model(images)
    assert one.extra == [] and torch.equal(one.logits, again.logits)
    torch.testing.assert_close(one.logits, both.logits[:1], rtol=1e-3, atol=1e-4)


def test_bfloat16_stays_finite(case):
    _, model = copy.deepcopy(case)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.isfinite(model(batch()[0]).logits).all()


def test_safetensors_round_trip(case, tmp_path):
    _, model = copy.deepcopy(case)
    images, _ = batch()
    expected = model.eval()(images).logits
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    for parameter in model.parameters():
        parameter.data.zero_()
    model.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(model(images).logits, expected)


def test_an_option_other_than_none_changes_the_output(case):
    config, model = case
    if "salt.models.inputs" in config.input.target and config.attention.target.endswith("Identity"):
        return  # the base itself, or an option that another test compares
    _, base = model_for()
    names = set(model.state_dict()) ^ set(base.state_dict())
    assert names


@pytest.mark.parametrize("option", options("encoder"))
def test_every_encoder_option(option):
    config = check_config(raw_config(f"encoder={option}", "encoder.weights=null", "decoder.channels=[8,8,8,8,8]"))
    model = build.build_model(config).eval()
    with torch.no_grad():
        assert model(batch(1)[0]).logits.shape == (1, 1, 101, 101)


@pytest.mark.parametrize("size", [101, 104, 128, 160])
@pytest.mark.parametrize("mode", ["reflect", "replicate"])
def test_sizes_of_the_padded_input(size, mode):
    _, model = model_for(f"input.size={size}", f"input.mode={mode}")
    assert model.eval()(batch()[0]).logits.shape == (2, 1, 101, 101)


def test_compiles():
    config, model = model_for("attention=scse", "center=dblock", "hypercolumn=concat", "deep-supervision=multiscale")
    compiled = torch.compile(model, backend="aot_eager")
    images, masks = batch()
    model.loss(compiled(images), masks, build.build_loss(config)).backward()
    assert all(p.grad is not None for p in model.parameters())
    model.eval()
    torch.testing.assert_close(compiled(images).logits, model(images).logits)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["attention=cse", "attention.reduction=512"],
            "attention: cannot build .*CSE.*reduction=512 leaves no channel of",
        ),
        (
            ["attention=cse", "attention.activation=gelu"],
            "attention: .*activation='gelu', expected one of relu, elu",
        ),
        (
            ["attention=sse", "attention.encoder=[6]"],
            "attention.encoder has stage 6, expected stages of 1..5",
        ),
        (["attention=sse", "attention.decoder=[0]"], r"attention.decoder=\[0\], expected stages of 1..5"),
        (["center=dblock", "center.dilations=[]"], "center: .*at least one"),
        (["decoder.channels=[8,8]"], "decoder: .*expected 5 positive numbers"),
        (["hypercolumn=concat", "hypercolumn.dropout=1"], "hypercolumn: .*dropout=1"),
        (
            ["deep-supervision=multiscale", "deep_supervision.weights=[1]"],
            "deep-supervision: .*expected 5 numbers",
        ),
        (["input.size=100"], "input: .*size=100"),
        (["input.mode=mirror"], "input: .*mode='mirror'"),
        (["encoder.name=resnet43"], "encoder.name=resnet43 is no encoder.*near names: .*resnet34"),
        (["+center.dilation=3"], "center: cannot build"),
        (["center._target_=salt.models.center.Typo"], "center: there is no salt.models.center.Typo"),
    ],
)
def test_refused_with_the_groups_name(overrides, message):
    if "+center" in overrides[0]:
        overrides = ["center=dblock", *overrides]
    with pytest.raises(ValueError, match=message):
        model_for(*overrides)
