"""An encoder's weights as a file, to train without a network."""

import sys

import pytest
import torch
from conftest import TINY, raw_config

from salt import build
from salt.commands import weights
from salt.config import check_config
from salt.models.encoder import load_body

LITE = "efficientnet_lite0"


def salt_weights(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["salt-weights", *map(str, arguments)])
    weights.main()


@pytest.mark.parametrize(
    ("encoder", "choice"),
    [(LITE, [f"encoder={LITE}"]), (f"tu-tf_{LITE}", ["encoder=any", f"encoder.name=tu-tf_{LITE}"])],
)
def test_the_saved_file_trains_like_imagenet(tmp_path, monkeypatch, capsys, encoder, choice):
    file = tmp_path / "w.safetensors"
    salt_weights(monkeypatch, encoder, "--to", file)
    assert capsys.readouterr().out.strip().endswith(f"train with {' '.join(choice)} encoder.weights={file}")
    base = [override for override in TINY if not override.startswith("encoder")]
    states = []
    for source in ("imagenet", file):
        config = check_config(raw_config(*base, *choice, f"encoder.weights={source}"))
        states.append(build.build_model(config).encoder.state_dict())
    assert all(torch.equal(states[1][key], tensor) for key, tensor in states[0].items())


def test_any_encoder_whose_weights_are_available(tmp_path, monkeypatch):
    # the hub is replaced by random weights, because tests have no network
    torch.manual_seed(0)
    body = load_body("resnet18", None, 3)
    monkeypatch.setattr(
        "salt.models.encoder.load_body", lambda *arguments: body if arguments == ("resnet18", "imagenet", 3) else 0
    )
    message = weights.save_imagenet("resnet18", tmp_path / "w.safetensors")
    assert message.startswith(f"{tmp_path}/w.safetensors: 11.2 M parameters; train with encoder=resnet18 ")
    loaded = load_body("resnet18", str(tmp_path / "w.safetensors"), 3).state_dict()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in body.state_dict().items())


@pytest.mark.parametrize(
    ("encoder", "file", "message"),
    [
        (LITE, "w.pth", r"^salt-weights: --to .*w.pth: expected a name that ends in .safetensors$"),
        (LITE, "taken.safetensors", "exists already; nothing was written$"),
        (LITE, "nowhere/w.safetensors", "there is no folder .*nowhere$"),
        ("resnet43", "w.safetensors", "encoder.name=resnet43 is no encoder .*near names: .*resnet34"),
        ("any", "w.safetensors", "encoder.name=any is no encoder"),
        ("none", "w.safetensors", "encoder.name=none is no encoder"),
        ("tu-efficientnet_lite1", "w.safetensors", "encoder.name=tu-efficientnet_lite1: No pretrained weights exist"),
    ],
)
def test_refused(tmp_path, monkeypatch, encoder, file, message):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "taken.safetensors").touch()
    with pytest.raises(SystemExit, match=message):
        salt_weights(monkeypatch, encoder, "--to", tmp_path / file)
    assert [path.name for path in tmp_path.rglob("*")] == ["taken.safetensors"]
