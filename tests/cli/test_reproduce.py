"""The command that a run prints gives the same bytes: in another folder, without this shell's variables."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from salt.cli import reproduce
from salt.cli.reproduce import describe_start, python_path, settle, without_path
from salt.overrides import CONFIGS, as_word
from salt.runs.environment import VARIABLES

RESULTS = ("fold_0/model.safetensors", "fold_1/model.safetensors", "oof.npz", "submission.csv")
BIN = Path(sys.executable).parent
SALT_TRAIN = [str(BIN / "salt-train")]
TORCHRUN = [str(BIN / "torchrun"), "--standalone", "--nproc-per-node=2", "-m", "salt.train"]
ON_KAGGLE = [word for word in TINY if not word.startswith(("data=", "data.n_t"))]  # the data's folder is given
SHORT = [*ON_KAGGLE, "trainer.epochs=1", "encoder=any", "encoder.name=tu-test_resnet", "encoder.weights=null"]
OWN = """
import torch
from helpers import square

class Mine(torch.nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, logits, masks):
        return self.scale * square(logits - masks)
"""
ABLATION = """# @package _global_
defaults:
  - override /loss: mine

name: ablation_mine
hydra:
  mode: MULTIRUN
  sweeper:
    params:
      optimizer.lr: "0.01,0.02"
"""
CASES = {
    "alone": (SALT_TRAIN, ["name=a"], "runs/a"),
    "own": (SALT_TRAIN, ["--config-dir", "my options", "name=a", "loss=mine", "data.folds=my folds.csv"], "runs/a"),
    "point": (SALT_TRAIN, ["-m", "loss=bce,dice", "optimizer.lr=0.01"], "runs/baseline/loss=dice"),
    "ablation": (
        SALT_TRAIN,
        ["--config-dir", "my options", "ablation=mine"],
        "runs/ablation_mine/optimizer.lr=0.02",
    ),
    "joblib": (
        SALT_TRAIN,
        ["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "name=s", "seed=3,4"],
        "runs/s/seed=4",
    ),
    "folds": (SALT_TRAIN, ["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "folds=[0],[1]"], "runs/baseline"),
    "torchrun": (TORCHRUN, ["name=a"], "runs/a"),
}


def shell(folder, command, **variables):
    """Run a command as a new login would, with these variables and few others."""
    kept = {name: os.environ[name] for name in ("HOME", "PYTHONPATH") if name in os.environ}
    environment = kept | {"PATH": f"{BIN}:/usr/bin:/bin", "HF_HUB_OFFLINE": "1"} | variables
    result = subprocess.run(
        ["sh", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stdout + result.stderr


def prepare(folder, synthetic_root):
    """A folder in which a user works: data, options and classes of their own."""
    (folder / "my options/loss").mkdir(parents=True)
    (folder / "my options/loss/mine.yaml").write_text(
        "_target_: mylosses.Mine\nscale: ${oc.decode:${oc.env:MY_SCALE}}\n"
    )
    (folder / "my options/ablation").mkdir()
    (folder / "my options/ablation/mine.yaml").write_text(ABLATION)
    (folder / "mylosses.py").write_text(OWN)
    (folder / "helpers.py").write_text("def square(x):\n    return (x * x).mean()\n")
    (folder / "data (1)").symlink_to(synthetic_root)
    ids = [line.partition(",")[0] for line in (synthetic_root / "train.csv").read_text().splitlines()[1:]]
    rows = [f"{name},{i % 2}\n" for i, name in enumerate(ids)]
    (folder / "my folds.csv").write_text("".join(["id,fold\n", *rows]))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_command_of_a_run_gives_its_bytes(tmp_path, synthetic_root, case):
    program, words, place = CASES[case]
    here, there = tmp_path / "here", tmp_path / "there"
    prepare(here, synthetic_root)
    there.mkdir()
    threads = {} if "hydra/launcher=joblib" in words else {"OMP_NUM_THREADS": "1"}  # joblib shares the cores out
    shell(here, shlex.join([*program, *SHORT, *words]), SALT_DATA="data (1)", MY_SCALE="0.5", **threads)
    run = here / place
    command = json.loads((run / "local.json").read_text())["command"]
    shell(there, command, OMP_NUM_THREADS="3", MKL_NUM_THREADS="3")
    (again,) = (there / "runs").iterdir()
    assert (again / "config.yaml").is_file()
    for name in RESULTS:
        assert (again / name).read_bytes() == (run / name).read_bytes(), name
    shared = (run / "environment.json").read_text()
    assert str(tmp_path) not in shared and "data (1)" not in shared and "/" not in json.loads(shared)["command"]
    assert json.loads(shared)["launcher"] == {"torchrun": "torchrun"}.get(case, "joblib" if not threads else "basic")
    assert json.loads(shared)["processes"] == (2 if case == "torchrun" else 1)


def composed(monkeypatch, *words, **hydra):
    """The settings, and HydraConfig, of a command under way."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", list(words), return_hydra_config=True)
    OmegaConf.set_readonly(cfg.hydra, False)
    cfg.hydra.overrides.task = list(words)
    cfg.hydra.runtime.cwd = "/home/somebody/work"
    cfg.hydra.runtime.choices = {"hydra/launcher": "basic"}
    cfg.hydra.runtime.config_sources = []
    cfg.hydra.job.config_name = "train"
    monkeypatch.setattr(HydraConfig, "get", lambda: cfg.hydra)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    settings = OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])
    return settings


def test_paths_are_absolute_in_the_command_and_hidden_from_others(monkeypatch):
    words = ["name=a", "data.root='~/my data'", "init=../other", "+loss.file='/x/y'", "folds=[0]"]
    found = describe_start(composed(monkeypatch, *words))
    root = Path("~/my data").expanduser()
    assert found.command.endswith(
        f"salt-train name=a 'data.root={root}' init=/home/somebody/other '+loss.file='\"'\"'/x/y'\"'\"''"
    )
    assert found.shared.endswith("salt-train name=a data.root=... init=... +loss.file=...")


def test_settings_from_variables_and_other_settings_keep_their_values(monkeypatch):
    monkeypatch.setenv("MY_RATE", "0.5")
    words = ["data.root=/d", "data.cache=${data.root}/${name}", "optimizer.lr='${oc.decode:${oc.env:MY_RATE}}'"]
    found = describe_start(composed(monkeypatch, *words, "input.size=${data.tile.0}"))
    assert found.command.endswith(
        "salt-train data.root=/d data.cache=/d/baseline optimizer.lr=0.5 'input.size=${data.tile.0}'"
    )


def test_numbers_of_threads_and_set_variables_come_first(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    monkeypatch.setattr(reproduce, "thread_variables", lambda: {"OMP_NUM_THREADS": "5"})
    found = describe_start(composed(monkeypatch, "data.root=/d"))
    assert found.command == "OMP_NUM_THREADS=5 ATEN_CPU_CAPABILITY=avx2 salt-train data.root=/d"


VALUES = ["/a", "a b", " a", "a,b", "[a]", "{a: 1}", "é=~()", "null", "it's", 'say "x"', "a\\", "${name}", "", "*?"]


@pytest.mark.parametrize("value", VALUES)
def test_hydra_reads_a_word_as_the_value_that_it_was_made_of(value):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        assert compose("train", [as_word("data.root", value)]).data.root == value


def test_settled_settings_take_the_place_of_typed_ones():
    words = ["a=1", "+b=x", "a=2", "folds=[0]", "name=n"]
    assert list(settle(words, {"a": "/p", "b": 3, "c": [1, "t"]})) == ["a=/p", "+b=3", "name=n", 'c=[1, "t"]']


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("/a", "..."),
        ("~/a", "..."),
        ("x='/a'", "x=..."),
        ("x=[/a,b]", "x=..."),
        ("x=a/b", "x=a/b"),
        ("loss=bce", "loss=bce"),
        ('hydra.searchpath=["file:///a"]', "hydra.searchpath=..."),
        ("+known=a/b", "+known=..."),
    ],
)
def test_words_with_paths_are_hidden(word, shown):
    assert without_path(word, {"known": ""}) == shown


def test_the_command_finds_the_classes_of_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    (tmp_path / "one.py").touch()
    (tmp_path / "two").mkdir()
    for module, is_here in (("one", True), ("two", True), ("torch", False), ("salt", False)):
        values = {"augment.transforms": [{"_target_": f"{module}.X"}], "loss._target_": "salt.losses.pixel.BCE"}
        assert python_path(values, tmp_path) == ({"PYTHONPATH": str(tmp_path)} if is_here else {})
    monkeypatch.setenv("PYTHONPATH", "lib")
    values = {"loss._target_": "one.X"}
    assert python_path(values, tmp_path) == {"PYTHONPATH": f"{tmp_path / 'lib'}:{tmp_path}"}
