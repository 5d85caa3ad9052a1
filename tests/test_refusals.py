"""Settings and paths that salt-train refuses: one message each, early, and nothing is written."""

import json
import shlex
import shutil
import subprocess
import sys

import pytest
from conftest import TINY, options, salt
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException

from salt.data.folds import read_folds, write_folds
from salt.data.synthetic import Synthetic
from salt.data.tgs import read_dataset
from salt.overrides import explain
from salt.runs.files import locked

TWO_PARTS = ["encoder.weights=null", "loss=bce_then_lovasz", "loss.at=2", "center=dblock", "center.dilations=[]"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data.root=nowhere"], "nowhere"),
        (["optimizer.lr=0", "trainer.epochs=0"], "2 problems"),
        (["trainer.epoch=3"], "did you mean trainer.epochs?\n"),
        (["+trainer.epoch=3"], "did you mean trainer.epochs?\n"),
        (["epochs=3"], "did you mean trainer.epochs?\n"),
        (["loss=focal", "loss.gama=1"], "did you mean loss.gamma?\n"),
        (["los=lovasz"], "did you mean loss?\n"),
        (["loss=lovas"], f"did you mean lovasz?\nThe options: {', '.join(options('loss'))}\n"),
        (["deep_supervision=multiscale"], "deep-supervision=multiscale"),
        (["encoder=any"], "encoder.name=...\n"),
        (["~loss"], "loss: is missing"),
        (["seed"], "seed: expected a setting, seed=VALUE"),
        (["trainer.epochs=${nothing}"], "trainer.epochs: "),
        (["data.root=${oc.env:NOTHING}"], "data.root: "),
        (["hydra.mode=FOO"], "hydra.mode=FOO: "),
        (["folds=[2]"], "data.n_folds=3"),
        (["-m", "trainer.epoch=1,2"], "did you mean trainer.epochs?\n"),
        (["-m", "loss=bce,dicee"], "did you mean dice?"),
        (["encoder.name=tu-vit_tiny_patch16_224", "encoder.weights=null"], "does not halve its feature maps"),
        (["data=synthetic", "trainer.batch_size=900"], "more than the 800 training tiles"),
        (["encoder.name=resnet43"], "near names: resnet"),
        (["encoder.weights=nowhere.pth"], "there is no file nowhere.pth"),
        (["trainer.device=cuda:99", "encoder.weights=null"], "this machine has"),
        (["encoder.name=tu-resnet181", "encoder.weights=null"], "near names: tu-resnet18"),
        ([*TWO_PARTS], "loss: c"),
        ([*TWO_PARTS], "center: c"),
    ],
)
def test_bad_input_gets_one_message_and_leaves_nothing(tmp_path, synthetic_root, arguments, message):
    if not any(a.startswith("data") for a in arguments):
        arguments += [f"data.root={synthetic_root}", "trainer.batch_size=4", "data.n_folds=2"]
    result = salt(tmp_path, *arguments)
    assert result.returncode == 1 and message in result.stderr
    for foreign in ("Traceback", "HYDRA_FULL_ERROR", "Error executing job", "Some points failed"):
        assert foreign not in result.stderr
    assert not (tmp_path / "runs").exists()


def test_a_developer_may_have_the_stack_trace(tmp_path, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(HydraException, match=r"trainer\.epochs"):
        salt(tmp_path, "+trainer.epoch=3", "data=synthetic")


def test_no_data_names_the_three_ways(tmp_path, monkeypatch):
    monkeypatch.delenv("SALT_DATA", raising=False)
    result = salt(tmp_path)
    for way in ("kaggle.com/c/tgs", "data.root=", "data=synthetic"):
        assert way in result.stderr


REFUSED = {
    "+trainer.epoch=3": "unknown key",
    "loss=lovas": "lovasz",
    "name=../x": "name: ",
    "data.root=nowhere": "there is no folder nowhere",
    "data.root=runs": "runs has no train.csv",
    "data.folds=nowhere.csv": "data.folds: there is no file nowhere.csv",
    "name=new encoder.weights=nowhere.pth": "encoder.weights: there is no file nowhere.pth",
    "seed=5": "seed: 0 -> 5",
    "data.root=~": "'data.root=\"~\"'",
}


def test_a_typo_is_refused_before_torch_is_imported(finished, synthetic_root):
    code = """if True:
        import sys, salt.train
        tiny, words = sys.argv[1].split(), sys.argv[2:]
        for word in words:
            sys.argv = ["salt-train", *tiny, *word.split()]
            try:
                salt.train.main()
            except SystemExit as ended:
                print(ended.code if isinstance(ended.code, str) else "", file=sys.stderr)
                assert ended.code and "torch" not in sys.modules, word
        sys.argv = ["salt-submit", "runs/a", "--root", "nowhere"]
        import salt.commands.submit
        try:
            salt.commands.submit.main()
        except SystemExit as ended:
            assert "there is no folder nowhere" in ended.code and "torch" not in sys.modules
    """
    own = [f"data.root={synthetic_root}", "name=typo"]
    (finished / "runs/typo").mkdir()
    for file in ("config.yaml", "environment.json"):
        shutil.copy(finished / "runs/a" / file, finished / "runs/typo")
    tiny = " ".join([*[o for o in TINY if not o.startswith(("data=", "data.n_t"))], *own])
    command = [sys.executable, "-c", code, tiny, *REFUSED]
    result = subprocess.run(command, cwd=finished, capture_output=True, text=True, check=False)
    shutil.rmtree(finished / "runs/typo")
    assert result.returncode == 0, result.stderr
    for message in REFUSED.values():
        assert message in result.stderr


def test_a_run_that_is_in_use_is_refused_before_its_log_is_touched(finished, synthetic_root, tmp_path):
    run = tmp_path / "runs/a"
    run.mkdir(parents=True)
    for name in ("config.yaml", "environment.json"):
        shutil.copy(finished / "runs/a" / name, run)
    with locked(run / "fold_0", "fold"):
        code = "import sys, salt.train\ntry: salt.train.main()\nfinally: assert 'torch' not in sys.modules"
        command = [sys.executable, "-c", code, *TINY, f"data.root={synthetic_root}", "name=a"]
        for more in ([], ["dry_run=true"]):
            result = subprocess.run([*command, *more], cwd=tmp_path, capture_output=True, text=True, check=False)
            assert result.returncode == 1 and "runs/a/fold_0 is in use by process" in result.stderr, result.stderr
    assert {f.name for f in run.rglob("*") if f.is_file()} == {".fold.lock", "config.yaml", "environment.json"}


@pytest.mark.parametrize("difference", ["seed", "data", "folds", "config lost"])
def test_a_dry_run_refuses_what_the_run_refuses(finished, synthetic_root, tmp_path, difference):
    arguments, more, run = [*TINY, f"data.root={synthetic_root}", "name=a"], [], tmp_path / "runs/a"
    run.mkdir(parents=True)
    (run / "fold_0").mkdir()
    for name in ("config.yaml", "environment.json", "folds.csv"):
        shutil.copy(finished / "runs/a" / name, run)
    if difference == "seed":
        more = ["seed=5"]
    elif difference == "config lost":
        (run / "config.yaml").unlink()
    elif difference == "data":
        root = tmp_path / "other"
        Synthetic(root, n_train=24, n_test=6, seed=7).prepare()
        (root / "synthetic.json").write_text(json.dumps({"n_train": 24, "n_test": 6, "seed": 0}))
        more = [f"data.root={root}"]
    else:
        ids = read_dataset(synthetic_root).train.ids
        write_folds(run / "folds.csv", ids, 1 - read_folds(run / "folds.csv", ids, 2))
    before = {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    dry = salt(tmp_path, *arguments, *more, "dry_run=true")
    assert before == {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    real = salt(tmp_path, *arguments, *more)
    assert dry.returncode == real.returncode == 1
    messages = {"seed": "seed: 0 -> 5", "data": "other data than", "folds": "folds.csv differs", "config lost": "lacks"}
    assert all(messages[difference] in result.stderr for result in (dry, real)), (dry, real)


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("data.root=~/x", "~/x"),
        ("data.root=Gefäß", "Gefäß"),
        ("data.root=tiles(1)", "tiles(1)"),
        ("encoder.weights=runs/s/loss=bce/fold_0/model.safetensors", "runs/s/loss=bce/fold_0/model.safetensors"),
        ('data.root=it\'s "=" \\', 'it\'s "=" \\'),
    ],
)
def test_a_value_that_needs_quotes_is_shown_with_them(tmp_path, typed, value):
    result = salt(tmp_path, typed)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    (word,) = shlex.split(result.stderr.splitlines()[-1])
    key = typed.partition("=")[0]
    override = OverridesParser.create().parse_override(word)
    assert (override.key_or_group, override.value()) == (key, value)


def test_a_file_that_is_no_yaml_is_named_with_its_line(tmp_path):
    (tmp_path / "own/loss").mkdir(parents=True)
    (tmp_path / "own/loss/bad.yaml").write_text("a: [1\n")
    result = salt(tmp_path, "--config-dir", "own", "loss=bad")
    assert result.returncode == 1 and result.stderr.startswith(f"{tmp_path / 'own/loss/bad.yaml'}, line 2 is no YAML: ")


def test_other_mistakes_are_left_to_hydra(tmp_path):
    for typed in ("folds=[0,1", "loss.=3"):
        result = salt(tmp_path, typed)
        assert result.returncode == 1 and "See https://hydra.cc" in result.stderr and "quotes" not in result.stderr


@pytest.mark.parametrize(
    ("launcher", "extra"), [("joblib", "joblib"), ("submitit_slurm", "slurm"), ("submitit_local", "slurm")]
)
def test_a_launcher_that_is_not_installed_names_its_extra(launcher, extra):
    error = MissingConfigException("", f"hydra/launcher/{launcher}", ["basic"])
    assert f"[{extra}]" in explain(error)
