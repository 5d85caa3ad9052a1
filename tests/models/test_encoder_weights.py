"""An encoder's weights from a file: the right tensors, or one message."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from segmentation_models_pytorch.encoders import get_encoder

from salt.models.encoder import GatedEncoder, load_body


@pytest.fixture(scope="module")
def three_channels():
    torch.manual_seed(0)
    return get_encoder("resnet18", in_channels=3, weights=None)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_local_file_gives_its_features_to_a_grey_image(tmp_path, three_channels, suffix):
    path = tmp_path / f"weights{suffix}"
    state = three_channels.state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    grey = load_body("resnet18", str(path), 1).eval()
    x = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        for a, b in zip(three_channels.eval()(x.expand(1, 3, 64, 64))[1:], grey(x)[1:], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_a_file_with_torchvisions_classifier_fits(tmp_path, three_channels):
    torch.save(
        three_channels.state_dict() | {"fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)},
        tmp_path / "w.pth",
    )
    load_body("resnet18", str(tmp_path / "w.pth"), 1)


def test_a_file_whose_first_tensor_is_not_the_first_layer_fits(tmp_path):
    state = get_encoder("efficientnet-b0", in_channels=3, weights=None).state_dict()
    save_file(state, tmp_path / "w.safetensors")  # sorted by name: a depthwise kernel, of one channel, comes first
    load_body("efficientnet-b0", str(tmp_path / "w.safetensors"), 1)


def test_a_file_of_one_channel_fits(tmp_path):
    torch.save(get_encoder("resnet18", in_channels=1, weights=None).state_dict(), tmp_path / "w.pth")
    assert load_body("resnet18", str(tmp_path / "w.pth"), 1).conv1.weight.shape[1] == 1


def test_refused_files(tmp_path, three_channels):
    with pytest.raises(ValueError, match=r"there is no file .*x.pth; expected imagenet, null"):
        load_body("resnet18", str(tmp_path / "x.pth"), 1)
    torch.save(three_channels.state_dict(), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w.pth does not fit resnet34: Missing key.*layer1.2.conv1.weight"):
        load_body("resnet34", str(tmp_path / "w.pth"), 1)
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"bad.safetensors is damaged, or no file of"):
        load_body("resnet18", str(tmp_path / "bad.safetensors"), 1)
    torch.save({"model": three_channels}, tmp_path / "pickle.pth")
    with pytest.raises(ValueError, match=r"pickle.pth holds Python objects, .*save model.state_dict\(\)"):
        load_body("resnet18", str(tmp_path / "pickle.pth"), 1)


@pytest.mark.parametrize("in_channels", [1, 3, 4])
def test_a_file_of_three_channels_serves_any_number(tmp_path, in_channels):
    torch.manual_seed(0)
    colour = get_encoder("resnet18", in_channels=3, weights=None)
    save_file(colour.state_dict(), tmp_path / "w.safetensors")
    made = GatedEncoder("resnet18", str(tmp_path / "w.safetensors"), in_channels=in_channels)
    kernel, original = made.body.conv1.weight, colour.conv1.weight
    expected = {
        1: original.sum(1, keepdim=True),
        3: original,
        4: original[:, [0, 1, 2, 0]] * 3 / 4,
    }[in_channels]
    torch.testing.assert_close(kernel, expected)
    assert made.channels[0] == in_channels


def test_a_file_of_one_channel_is_refused_for_three(tmp_path):
    grey = get_encoder("resnet18", in_channels=1, weights=None)
    save_file(grey.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"does not fit resnet18: size mismatch for conv1.weight: .*64, 1, 7, 7"):
        load_body("resnet18", str(tmp_path / "w.safetensors"), 4)


# one of each family that segmentation-models-pytorch has, the smallest
FAMILIES = [
    "resnet18",
    "se_resnet50",
    "densenet121",
    "dpn68",
    "vgg11",
    "inceptionresnetv2",
    "inceptionv4",
    "efficientnet-b0",
    "mobilenet_v2",
    "xception",
    "timm-efficientnet-b0",
    "timm-skresnet18",
    "mit_b0",
    "mobileone_s1",
]
TIMM = [
    "resnet18",
    "convnext_atto",
    "tf_efficientnet_lite0",
    "regnety_002",
    "mobilenetv3_small_050",
    "densenet121",
    "hrnet_w18_small",
    "swin_tiny_patch4_window7_224",
    "tresnet_m",
    "gernet_s",
    "test_resnet",
    "test_efficientnet",
    "test_convnext",
    "test_byobnet",
    "test_nfnet",
]


def assert_equal_states(a, b):
    a, b = a.state_dict(), b.state_dict()
    assert a.keys() == b.keys() and not [name for name in a if not torch.equal(a[name], b[name])]


def fill_statistics(network):
    """Other statistics of batch norm than a new network has."""
    for module in network.modules():
        if isinstance(getattr(module, "running_var", None), torch.Tensor):
            module.running_var.uniform_(0.5, 2)
            module.num_batches_tracked.fill_(7)
    return network


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.battery
def test_a_file_of_each_family_gives_what_smp_makes_of_it(tmp_path, name):
    colour = fill_statistics(get_encoder(name, in_channels=3, weights=None))
    torch.save(colour.state_dict(), tmp_path / "w.pth")
    grey = load_body(name, str(tmp_path / "w.pth"), 1)
    colour.set_in_channels(1, pretrained=True)
    assert_equal_states(grey, colour)
    assert list(grey.out_channels) == list(colour.out_channels)


@pytest.mark.parametrize(
    ("name", "in_channels"), [*((name, 1) for name in TIMM), ("resnet18", 2), ("resnet18", 4), ("convnext_atto", 5)]
)
@pytest.mark.battery
def test_timms_checkpoint_of_a_whole_network_gives_what_timm_makes_of_it(tmp_path, name, in_channels):
    file = tmp_path / "w.pth"
    torch.save(fill_statistics(timm.create_model(name)).state_dict(), file)  # with its classifier
    made = load_body(f"tu-{name}", str(file), in_channels)
    indices = made.model.feature_info.out_indices
    settings = {"in_chans": in_channels, "features_only": True, "out_indices": indices}
    expected = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(file)}, **settings)
    assert_equal_states(made.model, expected)


@pytest.mark.parametrize("name", ["tu-resnet18", "tu-convnext_atto", "tu-gernet_s"])
def test_a_file_of_the_encoder_as_smp_writes_it_fits(tmp_path, name):
    colour = get_encoder(name, in_channels=3, weights=None)
    save_file(colour.state_dict(), tmp_path / "w.safetensors")
    assert_equal_states(load_body(name, str(tmp_path / "w.safetensors"), 3), colour)


@pytest.mark.parametrize(
    ("name", "classifier"),
    [
        ("resnet18", "fc"),
        ("se_resnet50", "last_linear"),
        ("vgg11", "classifier.0"),
        ("efficientnet-b0", "_fc"),
        ("mobileone_s1", "linear"),
        ("mit_b0", "head"),
    ],
)
def test_a_classifier_is_left_out(tmp_path, name, classifier):
    body = get_encoder(name, in_channels=3, weights=None)
    head = {f"{classifier}.weight": torch.zeros(10, 5), f"{classifier}.bias": torch.zeros(10)}
    torch.save(body.state_dict() | head, tmp_path / "w.pth")
    assert_equal_states(load_body(name, str(tmp_path / "w.pth"), 3), body)


@pytest.mark.parametrize("name", ["resnet18", "tu-test_resnet"])
def test_a_file_without_the_counters_of_batch_norm_fits(tmp_path, name):
    body = get_encoder(name, in_channels=3, weights=None)
    state = {key: value for key, value in body.state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "w.pth")
    assert_equal_states(load_body(name, str(tmp_path / "w.pth"), 3), body)


def prefixed(state, prefix):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "resnet18",
            lambda state: {"a.b": torch.ones(2)},
            r"does not fit resnet18: Missing key.*conv1\.weight.*; Unexpected key.*\"a\.b\"\.$",
        ),
        (
            "resnet18",
            lambda state: {name: value for name, value in state.items() if name != "layer4.1.bn2.running_var"},
            r"does not fit resnet18: Missing key\(s\) in state_dict: \"layer4\.1\.bn2\.running_var\"\.$",
        ),
        (
            "resnet18",
            lambda state: state | {"layer1.2.conv1.weight": torch.ones(2)},  # a deeper network
            r"does not fit resnet18: Unexpected key.*layer1\.2\.conv1\.weight",
        ),
        (
            "tu-resnet18",
            lambda state: state | {"layer1.2.conv1.weight": torch.ones(2)},
            r"does not fit tu-resnet18: Unexpected key.*layer1\.2\.conv1\.weight",
        ),
        (
            "tu-resnet18",
            lambda state: state | {"layer4.1.conv2.weight": torch.ones(512, 3)},
            r"does not fit tu-resnet18: size mismatch for model\.layer4\.1\.conv2\.weight: .*512, 3",
        ),
        ("resnet18", lambda state: prefixed(state, "encoder."), r"Unexpected key.*encoder\.conv1\.weight"),
        ("resnet18", lambda state: {"state_dict": state, "epoch": 3}, r"is no state dict: .*found state_dict, epoch$"),
        ("resnet18", lambda state: {"epoch": 3}, r"is no state dict: .*found epoch$"),
        ("resnet18", lambda state: list(state.values()), r"is no state dict: .*found list$"),
        ("resnet18", lambda state: {0: torch.ones(2)}, r"is no state dict: .*found 0$"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, three_channels, name, change, message):
    torch.save(change(three_channels.state_dict()), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=message):
        load_body(name, str(tmp_path / "w.pth"), 1)


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK garbage"])
def test_a_file_that_is_none_of_torch_is_refused(tmp_path, content):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.pth is damaged, or no file of PyTorch"):
        load_body("resnet18", str(tmp_path / "w.pth"), 1)
