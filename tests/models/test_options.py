"""One battery for every option of every model group; a new YAML is tested without a change here."""

import copy
import functools
import re

import pytest
import torch
from conftest import flat, options, perturbed, raw_config, words_of
from helpers.networks import BASE, SMALL_UNET, WITHOUT_ENCODER, batch, built, overrides_of, shake
from safetensors.torch import load_file, save_file

from salt import build
from salt.config import check_config

GROUPS = ("input", "attention", "center", "decoder", "hypercolumn", "deep-supervision")
CASES = [(group, option) for group in GROUPS for option in options(group)]


def marked(*case):
    """A case of the tests below; Tiramisu's are slow."""
    return pytest.param(*case, marks=[pytest.mark.slow] * ("tiramisu" in case or ("decoder", "tiramisu") in case))


@pytest.fixture(params=[marked(case) for case in CASES], ids=lambda case: "=".join(case), scope="module")
def case(request):
    return built(overrides_of(*request.param))


def test_shapes_and_a_gradient_on_every_parameter(case):
    config, model = case
    images, depths, masks = batch(model)
    loss = build.build_loss(config)
    idle = {name for name, _ in model.named_parameters()}
    for seed in range(8):  # a ReLU may be dead for these two tiles, but not for one choice of weights after the other
        torch.manual_seed(seed)
        if seed == 6:  # on a 4x4 map, attention inside 6x6 cells sees single positions and has nothing to learn
            config = config.model_copy(update={"input": config.input.model_copy(update={"size": 202})})
        model = build.build_model(config)
        shake(model, seed)
        output = model.train()(images, depths)
        assert output.logits.shape == masks.shape
        model.zero_grad()
        model.loss(output, masks, loss).backward()
        assert not [n for n, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
        idle -= {name for name, p in model.named_parameters() if p.grad.any()}
        if not idle:
            return
    pytest.fail(f"no gradient ever reaches {sorted(idle)}")


@pytest.mark.battery
def test_empty_masks_and_one_tile_in_eval(case):
    config, model = copy.deepcopy(case)
    images, depths, masks = batch(model)
    images, model = images.double(), model.double()
    value = model.loss(model.train()(images, depths), torch.zeros_like(masks), build.build_loss(config))
    value.backward()
    assert torch.isfinite(value)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    model.eval()
    with torch.no_grad():
        one, again = model(images[:1], depths[:1]), model(images[:1], depths[:1])
        both = model(images, depths)
    assert one.extra == [] and torch.equal(one.logits, again.logits)
    torch.testing.assert_close(one.logits, both.logits[:1])


@pytest.mark.slow
def test_float16_stays_finite(case):  # bfloat16 has the range of float32
    _, model = copy.deepcopy(case)
    images, depths, _ = batch(model)
    with torch.autocast("cpu", dtype=torch.float16):
        assert torch.isfinite(model.train()(images, depths).logits).all()


def test_safetensors_round_trip(case, tmp_path):
    _, model = copy.deepcopy(case)
    images, depths, _ = batch(model)
    expected = model.eval()(images, depths).logits
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    for parameter in model.parameters():
        parameter.data.zero_()
    model.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(model(images, depths).logits, expected)


@pytest.mark.slow
def test_compiles_without_a_break(case):
    config, model = copy.deepcopy(case)
    torch.compiler.reset()
    for module in model.modules():  # without chance, so that both can be compared in training
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0
    compiled = torch.compile(model.double().train(), backend="eager", fullgraph=True)
    images, depths, masks = batch(model)
    output = compiled(images.double(), depths)
    torch.testing.assert_close(output.logits, model(images.double(), depths).logits)
    model.loss(output, masks, build.build_loss(config)).backward()
    assert all(p.grad is not None for p in model.parameters())


def fingerprint(overrides, changes=None):
    """Names and shapes of a network's weights, and its loss and logits in training and in eval, in float64."""
    raw = raw_config(*overrides)
    for key, value in (changes or {}).items():
        node = raw
        *path, last = key.split(".")
        for part in path:
            node = node[part]
        node[last] = value
    torch.manual_seed(0)
    config = check_config(raw)
    model, loss = build.build_model(config).double(), build.build_loss(config)
    images, depths, masks = batch(model, 3)
    shake(model)
    with torch.no_grad():
        output = model.train()(images.double(), depths)
        value = model.loss(output, masks, loss)
        logits = model.eval()(images.double(), depths).logits
    shapes = {name: tuple(v.shape) for name, v in model.state_dict().items()}
    return shapes, torch.cat([value.flatten(), output.logits.flatten(), logits.flatten()])


plain_fingerprint = functools.cache(lambda overrides: fingerprint(overrides))


def differ(one, other):
    """Whether two fingerprints differ by more than rounding could make."""
    return one[0] != other[0] or (one[1] - other[1]).abs().max() > 1e-5 * one[1].abs().max()


SETTINGS = [
    marked(group, option, key)
    for group, option in CASES
    for node in [raw_config(f"{group}={option}")[group.replace("-", "_")]]
    for key in flat(node)
    if not key.endswith("_target_") and node["_target_"] != "torch.nn.Identity"
]


@pytest.mark.parametrize(("group", "option", "key"), SETTINGS, ids=lambda part: str(part))
@pytest.mark.battery
def test_every_setting_changes_something(group, option, key):
    overrides, section = overrides_of(group, option), group.replace("-", "_")
    plain = plain_fingerprint(tuple(overrides))
    value = flat(raw_config(*overrides)[section])[key]

    for other in perturbed(value, words_of(group, option, key)):
        try:
            if differ(fingerprint(overrides, {f"{section}.{key}": other}), plain):
                return
        except ValueError as error:  # out of range: the next one
            assert "expected" in str(error)
    pytest.fail(f"{group}={option}: {section}.{key} changes nothing")


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
        (["attention=sse", "attention.encoder=[6]"], r"attention.encoder has stage 6, expected stages of \[1, 2, 3"),
        (["attention=sse", "attention.decoder=[0]"], r"attention.decoder=\[0\], expected stages of 1..5"),
        (["center=dblock", "center.dilations=[]"], "center: .*at least one"),
        (["decoder.channels=[8,8]"], "decoder: .*expected 5 positive numbers"),
        (["hypercolumn=concat", "hypercolumn.dropout=1"], "hypercolumn: .*dropout=1"),
        (
            ["deep-supervision=multiscale", "deep_supervision.weights=[1]"],
            "deep-supervision: .*expected 5 numbers",
        ),
        (["deep-supervision=nonempty", "deep_supervision.heads=2"], "deep-supervision: .*heads=2, expected 1 .* or 5"),
        (["input.size=100"], "input: .*size=100"),
        (["input=resize_pad_256", "input.size=200"], r"input: .*size=200, expected 202..404"),
        (["input.mode=mirror"], "input: .*mode='mirror'"),
        (["input.channels=colour"], "input.channels: .*found 'colour'"),
        (["encoder.name=resnet43"], "encoder.name=resnet43 is no encoder.*near names: .*resnet34"),
        (["encoder.stem=wide"], "encoder.stem='wide', expected one of default, no_maxpool, stride1"),
        (
            ["encoder=efficientnet_lite0", "encoder.weights=null", "encoder.stem=no_maxpool"],
            "not in tu-tf_efficientnet_lite0; expected encoder.stem=default or stride1",
        ),
        (
            ["encoder=efficientnet_b0", "encoder.weights=null", "encoder.stem=stride1"],
            "timm's EfficientNets, not in efficientnet-b0; expected encoder.stem=default$",
        ),
        (["+center.dilation=3"], "center: cannot build .*dilation.*; its settings: dilations"),
        (["center._target_=salt.models.center.Typo"], "center: there is no salt.models.center.Typo"),
        (["encoder=none", "encoder.weights=null"], "decoder: .*encoder=none.*resnet34"),
        (
            ["decoder=tiramisu", "encoder=resnet34", "encoder.weights=null", "~decoder.channels"],
            "its own encoder, expected encoder=none",
        ),
        (["decoder=tiramisu", "attention=scse", "~decoder.channels"], r"attention.encoder=\[\]"),
        (["decoder=tiramisu", "center=conv", "~decoder.channels"], "center: .*expected center=none"),
        (["decoder=tiramisu", "deep-supervision=nonempty", "~decoder.channels"], "deep-supervision: .*image head"),
        (["decoder=tiramisu", "encoder.weights=x.pth", "~decoder.channels"], "encoder=none .*x.pth"),
    ],
)
def test_refused_with_the_groups_name(overrides, message):
    own_encoder = any(o.startswith(("encoder=", "decoder=")) for o in overrides)
    base = [*(WITHOUT_ENCODER if own_encoder else BASE), *([] if "~decoder.channels" in overrides else [SMALL_UNET])]
    overrides = [o for o in overrides if not o.startswith("~")]
    if "+center" in overrides[0]:
        overrides = ["center=dblock", *overrides]
    with pytest.raises(ValueError, match=re.compile(message, re.S)):
        built([*base, *overrides])
