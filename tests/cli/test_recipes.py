"""Recipes whose options are replaced: what the new option does not know is left out, the rest stays."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import CONFIGS, TINY, flat, options, raw_config, salt
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl

from salt.cli import recipes

RECIPES = options("experiment")
OWN = {
    "experiment/built_on": "defaults: [cpu, _self_, override /loss: bce_to_lovasz]\nloss: {start: 0.1}",
    "experiment/part": "loss: {at: 0.2, extra: 1}",
    "experiment/built_of": "defaults: [part, _self_, override /loss: bce_then_lovasz]",
    "experiment/default": "optimizer: {amsgrad: true, weight_decay: 0.1}",
    "experiment/classes": (
        "defaults: [_self_, override /loss: bce_dice]\n"
        "loss: {_target_: my.Loss, losses: [{_target_: my.Part}], weights: [1.0, 0.5]}\n"
        "data: {n_train: 9, n_test: 3, seed: 0}"
    ),
    "experiment/own_data": "defaults: [demo, _self_, override /data: folder]\ndata: {root: here, tile: [40, 40]}",
    "ablation/sweep": "defaults: [override /loss: focal]\nloss: {gamma: 3.0}",
    "loss/mine": "defaults: [bce_then_lovasz, _self_]\nat: 0.7",
    "loss/sub/x": "_target_: salt.losses.pixel.Focal\ngamma: 1.0\nalpha: null",
}


@pytest.fixture
def own(tmp_path):
    """A user's folder of options; Hydra's own search path would need it as a setting of each composition."""
    for name, text in OWN.items():
        file = tmp_path / "own" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        is_global = not name.startswith("loss/")
        file.write_text(("# @package _global_\n" if is_global else "") + text)
    return f"hydra.searchpath=[file://{tmp_path / 'own'}]"


def changes(*overrides):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("train", list(overrides), return_hydra_config=True)
    return list(config.hydra.callbacks.sweep.changes)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_alone_is_what_hydra_composes(recipe, monkeypatch):
    ours = raw_config(f"experiment={recipe}")
    monkeypatch.setattr(recipes.hydra_internal, "ConfigLoaderImpl", ConfigLoaderImpl)
    assert ours == raw_config(f"experiment={recipe}")


@pytest.mark.parametrize("option", options("loss"))
def test_another_loss_has_its_own_settings_and_those_that_it_shares(option):
    found = raw_config("experiment=cpu", f"loss={option}")
    assert found["loss"] == raw_config(f"loss={option}")["loss"] | ({"at": 0.4} if option == "bce_then_lovasz" else {})
    assert found["trainer"]["epochs"] == 32 and found["folds"] == [0]


@pytest.mark.parametrize("recipe", ["demo", "toy", "cpu_scratch"])
@pytest.mark.parametrize("option", [option for option in options("encoder") if option != "any"])
@pytest.mark.battery
def test_random_weights_survive_another_encoder(recipe, option):
    encoder = raw_config(f"experiment={recipe}", f"encoder={option}")["encoder"]
    assert encoder == yaml.safe_load((CONFIGS / f"encoder/{option}.yaml").read_text("utf-8")) | {"weights": None}


def test_other_data_than_the_generated_need_no_more_than_their_option():
    data = raw_config("experiment=demo", "data=folder", "data.root=x")["data"]
    assert data == raw_config("data=folder", "data.root=x")["data"] | {"n_folds": 2}
    assert raw_config("experiment=demo", "data=tgs")["data"] == raw_config()["data"] | {"n_folds": 2}


@pytest.mark.parametrize(
    ("words", "section", "expected"),
    [
        (["experiment=built_on"], "loss", {"start": 0.1, "end": 0.6, "at": None}),  # not the `at` of the other recipe
        (["experiment=built_on", "loss=bce_then_lovasz"], "loss", {"at": 0.4, "start": None}),
        (["experiment=built_of"], "loss", {"at": 0.2, "extra": 1}),  # what the recipe's own option gets is its affair
        (["experiment=built_of", "loss=mine"], "loss", {"at": 0.2, "extra": None}),
        (["experiment=built_of", "loss=sub/x"], "loss", {"gamma": 1.0, "at": None, "extra": None}),
        (["experiment=default"], "optimizer", {"amsgrad": True, "weight_decay": 0.1}),
        (["experiment=default", "optimizer=sgd"], "optimizer", {"amsgrad": None, "weight_decay": 0.1, "momentum": 0.9}),
        (["experiment=built_of", "ablation=sweep"], "loss", {"gamma": 3.0, "alpha": 0.25, "at": None}),
        (["experiment=own_data"], "data", {"root": "here", "tile": [40, 40], "n_train": None, "n_folds": 2}),
        (["experiment=classes"], "loss", {"_target_": "my.Loss", "losses": [{"_target_": "my.Part"}]}),
        (["experiment=classes", "loss=focal"], "loss", {"_target_": "salt.losses.pixel.Focal", "weights": None}),
    ],
)
def test_recipes_of_a_user(own, words, section, expected):
    found = flat(raw_config(own, *words)[section])
    assert {key: found.get(key) for key in expected} == expected


def test_a_class_of_the_replaced_option_goes_and_a_number_stays(own):
    own_loss, other = raw_config(own, "experiment=classes", "loss=bce_lovasz")["loss"], raw_config("loss=bce_lovasz")
    assert own_loss == other["loss"] | {"weights": [1.0, 0.5]}


def test_what_a_recipe_lost_and_kept_is_logged(own):
    assert changes("experiment=cpu") == changes("loss=lovasz") == []
    assert changes("experiment=cpu_5fold", "loss=lovasz") == [
        "experiment/cpu: loss=lovasz instead of bce_then_lovasz, without loss.at=0.4"
    ]
    assert changes("experiment=demo", "encoder=resnet34", "data=tgs") == [
        "experiment/demo: encoder=resnet34 instead of resnet18, with its encoder.weights=null",
        "experiment/demo: data=tgs instead of synthetic, without data.n_train=600, data.n_test=60; "
        "with its data.n_folds=2",
    ]
    assert changes(own, "experiment=default", "optimizer=sgd") == [
        "experiment/default: optimizer=sgd instead of adamw, without optimizer.amsgrad=true"
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["experiment=cpu", "loss=lovasz", "loss.at=0.3"], "loss.at: unknown key; loss=lovasz has phi, per_image\n"),
        (["loss=focal", "loss.gama=1"], "loss.gama: unknown key; did you mean loss.gamma?\n"),
        (["data.cachee=9"], "data.cachee: unknown key; did you mean data.cache?\n"),
        (["decoder=gcn", "decoder.channels=1"], "decoder.channels: unknown key; decoder=gcn has width, kernel\n"),
        (["center.x=1"], "center.x: unknown key; center=none has no settings\n"),
        (["augment.transforms.0.q=1"], "augment.transforms.0.q: unknown key; augment.transforms.0 has p\n"),
        (["hydra.run.dirr=x"], "hydra.run.dirr: unknown key; did you mean hydra.run.dir?\n"),
    ],
)
def test_a_key_that_the_option_does_not_know_is_refused_when_it_is_typed(tmp_path, words, message):
    assert salt(tmp_path, *words) == (1, "", message)


def test_an_option_that_lacks_what_each_needs_is_refused(tmp_path):
    (tmp_path / "own/attention").mkdir(parents=True)
    (tmp_path / "own/attention/mine.yaml").write_text("_target_: salt.models.attention.SCSE\n")
    result = salt(tmp_path, "--config-dir=own", "attention=mine")
    assert result.returncode == 1 and "attention.decoder: is missing" in result.stderr


def test_what_is_shown_is_what_runs(tmp_path):
    shown = salt(tmp_path, "experiment=cpu", "loss=dice", "--cfg", "job")
    assert yaml.safe_load(shown.stdout)["loss"] == raw_config("loss=dice")["loss"]


RECIPE = """# @package _global_
defaults: [_self_, override /loss: bce_then_lovasz]
loss: {at: 0.3}
"""


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit_local"])
def test_every_launcher_composes_alike(tmp_path, synthetic_root, launcher):
    (tmp_path / "own/experiment").mkdir(parents=True)
    (tmp_path / "own/experiment/mine.yaml").write_text(RECIPE)
    words = [*TINY, f"data.root={synthetic_root}", "name=s", "experiment=mine", "trainer.epochs=1", "folds=[0]"]
    words += ["-m", f"hydra/launcher={launcher}", "loss=dice,bce_then_lovasz", "--config-dir", "own"]
    command = [str(Path(sys.executable).with_name("salt-train")), *words]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    for option, at in (("dice", None), ("bce_then_lovasz", 0.3)):
        point = tmp_path / f"runs/s/loss={option}"
        loss = yaml.safe_load((point / "config.yaml").read_text("utf-8"))["loss"]
        assert loss == raw_config(f"loss={option}")["loss"] | ({"at": at} if at else {})
        assert (point / "submission.csv").is_file()  # as alone: the folds of each point are all that was asked for
        log = (point / "train.log").read_text("utf-8")
        assert ("experiment/mine: loss=dice instead of bce_then_lovasz, without loss.at=0.3" in log) == (at is None)
    if launcher == "joblib":
        lines = [line for line in result.stdout.splitlines() if " fold 0: epoch " in line]
        assert {line.split()[1] for line in lines} == {"loss=dice:", "loss=bce_then_lovasz:"}
