import time

import pytest
import torch
from safetensors.torch import save_file
from segmentation_models_pytorch.encoders import get_encoder

from salt.models import encoder


@pytest.fixture(scope="module")
def three_channels():
    torch.manual_seed(0)
    return get_encoder("resnet18", in_channels=3, weights=None)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_local_file_gives_its_features_to_a_grey_image(tmp_path, three_channels, suffix):
    path = tmp_path / f"weights{suffix}"
    state = three_channels.state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    grey = encoder.load_body("resnet18", str(path), 1).eval()
    x = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        for a, b in zip(three_channels.eval()(x.expand(1, 3, 64, 64))[1:], grey(x)[1:], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_a_file_with_torchvisions_classifier_fits(tmp_path, three_channels):
    torch.save(
        three_channels.state_dict() | {"fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)},
        tmp_path / "w.pth",
    )
    encoder.load_body("resnet18", str(tmp_path / "w.pth"), 1)


def test_a_file_whose_first_tensor_is_not_the_first_layer_fits(tmp_path):
    state = get_encoder("efficientnet-b0", in_channels=3, weights=None).state_dict()
    save_file(state, tmp_path / "w.safetensors")  # sorted by name: a depthwise kernel, of one channel, comes first
    encoder.load_body("efficientnet-b0", str(tmp_path / "w.safetensors"), 1)


def test_a_file_of_one_channel_fits(tmp_path):
    torch.save(get_encoder("resnet18", in_channels=1, weights=None).state_dict(), tmp_path / "w.pth")
    assert encoder.load_body("resnet18", str(tmp_path / "w.pth"), 1).conv1.weight.shape[1] == 1


def test_refused_files(tmp_path, three_channels):
    with pytest.raises(ValueError, match=r"there is no file .*x.pth; expected imagenet, null"):
        encoder.load_body("resnet18", str(tmp_path / "x.pth"), 1)
    torch.save(three_channels.state_dict(), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w.pth does not fit resnet34: Missing key"):
        encoder.load_body("resnet34", str(tmp_path / "w.pth"), 1)
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"bad.safetensors cannot be read"):
        encoder.load_body("resnet18", str(tmp_path / "bad.safetensors"), 1)
    torch.save({"model": three_channels}, tmp_path / "pickle.pth")
    with pytest.raises(ValueError, match=r"pickle.pth cannot be read as plain weights"):
        encoder.load_body("resnet18", str(tmp_path / "pickle.pth"), 1)


def test_imagenet_without_network_fails_at_once_and_names_the_others(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(encoder, "reachable", lambda url: False)
    began = time.perf_counter()
    with pytest.raises(ValueError, match=r"encoder.weights=FILE .* or encoder.weights=null"):
        encoder.load_body("resnet18", "imagenet", 1)
    assert time.perf_counter() - began < 1
    assert constants.HF_HUB_OFFLINE is False


def test_a_host_that_does_not_answer_is_unreachable_in_time():
    began = time.perf_counter()
    assert not encoder.reachable("https://127.0.0.1:9")
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize("in_channels", [1, 3, 4])
def test_a_file_of_three_channels_serves_any_number(tmp_path, in_channels):
    torch.manual_seed(0)
    colour = get_encoder("resnet18", in_channels=3, weights=None)
    save_file(colour.state_dict(), tmp_path / "w.safetensors")
    made = encoder.Encoder("resnet18", str(tmp_path / "w.safetensors"), in_channels=in_channels)
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
    with pytest.raises(ValueError, match="is for 1 channels, expected 3 or 4"):
        encoder.load_body("resnet18", str(tmp_path / "w.safetensors"), 4)
