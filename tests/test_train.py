"""The commands, as a user types them."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import TINY
from hydra.core.global_hydra import GlobalHydra

from salt import metrics, rle
from salt.data.tgs import read_dataset
from salt.train import main


def salt(tmp_path: Path, *arguments: str, module: str = "salt.train") -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory, synthetic_root):
    path = tmp_path_factory.mktemp("finished")
    result = salt(path, *TINY, f"data.root={synthetic_root}", "name=a")
    assert result.returncode == 0, result.stderr
    return path


def test_a_run_writes_everything(finished, synthetic_root):
    run = finished / "runs" / "a"
    data = read_dataset(synthetic_root)
    score = json.loads((run / "score.json").read_text())
    assert {"map", "map_at_0.5", "iou", "threshold", "empty", "n", "partial", "folds"} <= set(score)
    assert score["n"] == 24 and score["partial"] is False and score["missing_folds"] == []
    for row in score["folds"]:
        assert {"fold", "map", "map_at_0.5", "iou", "n", "epochs", "seconds", "images_per_second"} == set(row)
        assert row["epochs"] == 2 and row["n"] == 12 and row["seconds"] > 0

    submission = pd.read_csv(run / "submission.csv", dtype=str, keep_default_na=False)
    assert submission["id"].tolist() == data.test.ids
    for text in submission["rle_mask"]:
        rle.decode(text, (101, 101))

    oof = pd.read_csv(run / "oof.csv", dtype={"id": str})
    assert sorted(oof["id"]) == sorted(data.train.ids)
    folds = pd.read_csv(run / "folds.csv", dtype={"id": str}).set_index("id")["fold"]
    assert oof["fold"].tolist() == folds.loc[oof["id"]].tolist()
    with np.load(run / "oof.npz") as file:
        position = {tile_id: i for i, tile_id in enumerate(data.train.ids)}
        masks = data.train.masks[[position[i] for i in file["ids"]]]
        table = metrics.score_table(file["probabilities"], masks)
    assert table[:, metrics.HALF].mean() == pytest.approx(score["map_at_0.5"])
    assert oof["score"].mean() == pytest.approx(score["map"])
    assert not (run / "error.txt").exists()
    assert "out-of-fold map" in (run / "train.log").read_text()


def test_the_same_command_again_trains_nothing(finished, synthetic_root):
    before = (finished / "runs/a/fold_0/model.safetensors").stat().st_mtime_ns
    submission = (finished / "runs/a/submission.csv").read_bytes()
    result = salt(finished, *TINY, f"data.root={synthetic_root}", "name=a")
    assert result.returncode == 0 and "fold 1 is finished already" in result.stdout
    assert "submission.csv is of these weights and this threshold already" in result.stdout
    assert (finished / "runs/a/fold_0/model.safetensors").stat().st_mtime_ns == before
    assert (finished / "runs/a/submission.csv").read_bytes() == submission


def test_another_config_is_refused_and_nothing_is_lost(finished, synthetic_root):
    before = {f: f.read_bytes() for f in (finished / "runs/a").rglob("*") if f.is_file() and f.name != "train.log"}
    result = salt(finished, *TINY, f"data.root={synthetic_root}", "name=a", "optimizer.lr=0.5")
    assert result.returncode == 1 and "optimizer.lr: 0.001 -> 0.5" in result.stderr and "Traceback" not in result.stderr
    assert all(f.read_bytes() == content for f, content in before.items())
    assert not (finished / "runs/a/error.txt").exists()


def test_submit_and_report(finished):
    submission = finished / "runs/a/submission.csv"
    before = submission.read_bytes()
    submission.unlink()
    result = salt(finished, "runs/a", module="salt.submit")
    assert result.returncode == 0, result.stderr
    assert submission.read_bytes() == before
    result = salt(finished, "runs/a", module="salt.report")
    assert result.returncode == 0 and "out-of-fold map" in result.stdout
    assert (finished / "runs/a/report.png").read_bytes()[:4] == b"\x89PNG"
    result = salt(finished, "runs/a", "--device", "gpu", module="salt.submit")
    assert result.returncode == 1 and "trainer.device" in result.stderr and "Traceback" not in result.stderr
    for module in ("salt.submit", "salt.report"):
        result = salt(finished, "runs/b", module=module)
        assert result.returncode == 1 and "is no run directory" in result.stderr and "Traceback" not in result.stderr


def test_some_folds_are_partial_and_the_others_complete_them(tmp_path, synthetic_root, finished):
    run = tmp_path / "runs" / "a"
    arguments = [*TINY, f"data.root={synthetic_root}", "name=a"]
    result = salt(tmp_path, *arguments, "folds=[1]")
    assert result.returncode == 0 and "the folds [0] are missing" in result.stdout
    score = json.loads((run / "score.json").read_text())
    assert score["partial"] is True and score["missing_folds"] == [0] and score["n"] == 12
    assert len(pd.read_csv(run / "submission.csv")) == 6
    assert salt(tmp_path, *arguments).returncode == 0
    for name in ("oof.csv", "oof.npz", "submission.csv", "fold_0/model.safetensors"):
        assert (run / name).read_bytes() == (finished / "runs/a" / name).read_bytes()


def test_dry_run_says_what_would_happen_and_writes_nothing(tmp_path, synthetic_root):
    result = salt(tmp_path, *TINY, f"data.root={synthetic_root}", "dry_run=true")
    assert result.returncode == 0, result.stderr
    assert (
        "n_folds: 2" in result.stdout and "M parameters on cpu" in result.stdout and "24 train tiles" in result.stdout
    )
    assert not any(f.is_file() for f in tmp_path.rglob("*"))


def test_a_sweep_makes_a_run_for_each_point(tmp_path, synthetic_root):
    tiny = [override for override in TINY if override != "data=synthetic" and "data.synthetic" not in override]
    result = salt(
        tmp_path,
        "-m",
        *tiny,
        f"data.root={synthetic_root}",
        "name=s",
        "loss=bce,lovasz",
        "folds=[0]",
        "dry_run=true",
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("M parameters on cpu") == 2
    result = salt(
        tmp_path,
        "-m",
        *tiny,
        f"data.root={synthetic_root}",
        "name=s",
        "folds=[0]",
        "trainer.epochs=1",
        "loss=bce,lovasz",
        "optimizer.lr=-1,0.01",
    )
    assert result.returncode == 1 and "optimizer.lr" in result.stderr
    scores = sorted((tmp_path / "runs" / "s").glob("*/score.json"))
    assert len(scores) == 2 and all("optimizer.lr=0.01" in str(s) for s in scores)
    assert len(list((tmp_path / "runs" / "s").glob("*optimizer.lr=-1*/error.txt"))) == 2


def test_an_ablation_goes_on_past_a_failed_point_resumes_and_ends_with_its_table(tmp_path, synthetic_root):
    left_out = ("data=synthetic", "data.synthetic", "decoder.channels", "trainer.epochs")
    tiny = [o for o in TINY if not o.startswith(left_out)]
    arguments = ["ablation=architecture", *tiny, f"data.root={synthetic_root}", "trainer.epochs=1"]
    arguments += ["hydra.sweeper.params.decoder='tiramisu,unet_small'"]  # with an encoder named, tiramisu is refused
    folder = tmp_path / "runs" / "ablation_architecture"
    for attempt in ("first", "again"):
        result = salt(tmp_path, *arguments)
        assert result.returncode == 1 and "decoder: cannot build" in result.stderr, attempt
        assert "Traceback" not in result.stderr and "the same command does what is missing" in result.stderr
        assert sorted(p.name for p in folder.iterdir() if p.is_dir()) == ["decoder=tiramisu", "decoder=unet_small"]
        assert "24 tiles" in result.stdout and "no score: decoder=tiramisu (ValueError: " in result.stdout
        assert pd.read_csv(folder / "compare.csv").iloc[:, 0].tolist() == ["decoder=unet_small"]
        assert ("fold 1 is finished already" in result.stdout) == (attempt == "again")
    other = salt(tmp_path, *arguments, "optimizer.lr=0.5")
    assert other.returncode == 1 and "optimizer.lr: 0.001 -> 0.5" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data.root=nowhere"], "there is no folder nowhere. `make data` explains"),
        (["optimizer.lr=0", "trainer.epochs=0"], "2 problem(s)"),
        (["trainer.epoch=3"], "Key 'epoch' is not in struct"),
        (["+trainer.epoch=3"], "trainer.epoch: unknown key; did you mean epochs?"),
        (["loss=lovas"], "lovasz"),
        (
            ["data=synthetic", "trainer.batch_size=900"],
            "more than the 800 training tiles of fold 0",
        ),
        (["encoder.name=resnet43"], "near names: resnet"),
        (["encoder.weights=nowhere.pth"], "there is no file nowhere.pth"),
        (["trainer.device=cuda:7"], "this machine has"),
        (["encoder.name=tu-resnet181", "encoder.weights=null"], "near names: tu-resnet18"),
        (
            ["encoder.weights=null", "loss=bce_then_lovasz", "loss.at=2", "center=dblock", "center.dilations=[]"],
            "loss: c",
        ),
        (
            ["encoder.weights=null", "loss=bce_then_lovasz", "loss.at=2", "center=dblock", "center.dilations=[]"],
            "center: c",
        ),
    ],
)
def test_bad_input_gets_one_message(tmp_path, synthetic_root, arguments, message, monkeypatch, capfd):
    if not any(a.startswith("data") for a in arguments):
        arguments = [f"data.root={synthetic_root}", "trainer.batch_size=4", "data.n_folds=2", *arguments]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["salt-train", *arguments])
    GlobalHydra.instance().clear()
    with pytest.raises(SystemExit, match="1"):  # in this process: to start a new one takes longer than the test
        main()
    error = capfd.readouterr().err
    assert message in error and "Traceback" not in error


def test_no_data_names_the_three_ways(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "SALT_DATA"}
    result = subprocess.run(
        [sys.executable, "-m", "salt.train"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    for way in ("make data", "data.root=", "data=synthetic"):
        assert way in result.stderr


def test_help_lists_the_groups_and_needs_no_torch(tmp_path):
    began = time.perf_counter()
    result = salt(tmp_path, "--help")
    seconds = time.perf_counter() - began
    assert result.returncode == 0, result.stderr
    for line in (
        "loss: bce, bce_dice, bce_lovasz, bce_then_lovasz, bce_to_lovasz, bootstrapped_ce, dice, focal, lovasz,",
        "ablation: architecture, attention, center,",
        "attention: cse, none, scse, sse",
        "data=synthetic",
    ):
        assert line in result.stdout
    code = "import sys, salt.train\ntry: salt.train.main()\nfinally: sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, check=False).returncode == 0
    assert seconds < 5  # under one second on a machine that does nothing else
