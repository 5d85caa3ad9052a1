"""Networks, weights and losses of a user that do not fit: named before anything is written."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import TINY
from safetensors.torch import save_file
from segmentation_models_pytorch.encoders import get_encoder

from salt import build, crossval
from salt.components import get_target
from salt.losses.combine import StepChange, WeightedSum
from salt.losses.known import taking_known
from salt.losses.pixel import BCE
from salt.runs.files import sha256


def save_encoder(file, seed):
    torch.manual_seed(seed)
    save_file(get_encoder("tu-test_resnet", in_channels=3, weights=None).state_dict(), file)


@pytest.mark.slow
def test_encoder_weights_that_change_under_a_run_are_refused(tiny, tmp_path):
    file, run = tmp_path / "w.safetensors", tmp_path / "run"
    save_encoder(file, 0)
    first = sha256(file)

    def go(folds):
        crossval.run(tiny("trainer.epochs=1", f"encoder.weights={file}", f"folds={folds}"), run)

    go("[0]")
    assert json.loads((run / "environment.json").read_text())["weights_sha256"] == first
    save_encoder(file, 1)
    with pytest.raises(ValueError, match=rf"{file} has changed since .*run was begun: its SHA-256 was {first}, now it"):
        go("[0,1]")
    assert not (run / "fold_1").exists()
    go("[0]")  # what is finished needs no file
    save_encoder(file, 0)
    go("[0,1]")
    file.unlink()
    go("[0,1]")


def test_encoder_weights_that_change_between_two_folds_are_refused(tiny, tmp_path, monkeypatch):
    file, run = tmp_path / "w.safetensors", tmp_path / "run"
    save_encoder(file, 0)
    train = crossval.train_fold

    def swapped(*parts):
        weights = train(*parts)
        save_encoder(file, 1)
        return weights

    monkeypatch.setattr(crossval, "train_fold", swapped)
    with pytest.raises(ValueError, match=rf"{file} has changed since"):
        crossval.run(tiny("trainer.epochs=1", f"encoder.weights={file}"), run)
    assert (run / "fold_0/done").exists() and not (run / "fold_1/metrics.csv").exists()


def test_a_network_that_cannot_be_built_is_refused_before_tiles_are_generated(tiny, tmp_path):
    with pytest.raises(ValueError, match=r"encoder.name=nonsense is no encoder"):
        crossval.run(tiny("encoder.name=nonsense", f"data.root={tmp_path / 'tiles'}"), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_no_module_is_named(tiny):
    with pytest.raises(ValueError, match=r"loss: expected builtins.dict to be a torch.nn.Module, it is dict"):
        build.build_loss(tiny("loss._target_=builtins.dict"))


class Own(torch.nn.Module):
    """A user's loss that returns a given result."""

    def __init__(self, result):
        super().__init__()
        self.result = result

    def forward(self, logits, masks):
        return self.result(logits)


class Demanding(torch.nn.Module):
    def forward(self, logits, masks, weights):
        return logits.mean()


@pytest.mark.parametrize(
    "wrap", [lambda loss: loss, lambda loss: WeightedSum([BCE(), StepChange(BCE(), loss, 0.5)], [1, 1])]
)
@pytest.mark.parametrize(
    ("loss", "found"),
    [
        (Own(lambda logits: {"loss": logits.mean()}), "Own.*, got dict"),
        (Own(lambda logits: logits.mean((1, 2, 3))), r"Own.*, got a tensor of shape \(2,\)"),
        (Own(lambda logits: logits.mean().item()), "Own.*, got float"),
        (Own(lambda logits: logits.mean().detach()), r"Own.*, got a tensor of shape \(\) without"),
        (Own(lambda logits: logits.nothing), "Own.*, got AttributeError: .*nothing"),
        (Demanding(), "Demanding.*, got TypeError: .*weights"),
    ],
)
@pytest.mark.battery
def test_an_own_loss_that_is_none_is_named_before_anything_is_written(tiny, tmp_path, monkeypatch, wrap, loss, found):
    monkeypatch.setattr(build, "build_loss", lambda config: taking_known(wrap(loss)))
    with pytest.raises(ValueError, match=rf"^loss: {found}"):
        crossval.run(tiny(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("nowhere.Mine", "no module nowhere in the current folder"),
        ("own_module.Mine", "ModuleNotFoundError: No module named 'nothing_there'"),
        ("salt.losses.pixel.BCEE", "salt.losses.pixel has no BCEE; did you mean salt.losses.pixel.BCE?"),
        ("salt.losses.pixel.BCE.x", "AttributeError: type object 'BCE' has no attribute 'x'"),
        ("..x", "Error loading '..x': invalid dotstring."),
    ],
)
def test_a_class_that_is_not_there_is_one_line_and_nothing_beside_it(tmp_path, monkeypatch, caplog, target, why):
    (tmp_path / "own_module.py").write_text("import nothing_there\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(ValueError, match=re.escape(f"loss: there is no {target}: {why}")) as caught:
        get_target("loss", target)
    assert "\n" not in str(caught.value) and not caplog.records


def test_a_class_of_the_current_folder_is_found_by_every_command(tmp_path, monkeypatch):
    (tmp_path / "module_of_here.py").write_text("class Mine: pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    assert get_target("center", "module_of_here.Mine").__name__ == "Mine"


@pytest.mark.slow
def test_an_own_loss_of_the_current_folder(tmp_path, synthetic_root):
    (tmp_path / "mylosses.py").write_text(
        "import torch\nclass Mine(torch.nn.Module):\n    def forward(self, logits, masks):\n"
        "        return (logits - masks).square().mean()\n"
    )
    (tmp_path / "options/loss").mkdir(parents=True)
    (tmp_path / "options/loss/mine.yaml").write_text("_target_: mylosses.Mine\n")
    command = [str(Path(sys.executable).with_name("salt-train")), "--config-dir", "options"]
    overrides = [*TINY, f"data.root={synthetic_root}", "name=a", "loss=mine", "trainer.epochs=1"]
    for extra in (["dry_run=true"], ["-m", "hydra/launcher=joblib", "folds=[0],[1]"]):
        result = subprocess.run(
            [*command, *extra[:1], *overrides, *extra[1:]], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
    assert (tmp_path / "runs/a/submission.csv").exists()
