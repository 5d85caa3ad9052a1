"""The commands, as a user types them."""

import gc
import json
import re
import shlex
import signal
import subprocess
import sys
import weakref

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import TINY, options, salt

from salt import train
from salt.cli import process
from salt.commands import report, submit
from salt.data import rle
from salt.data.tgs import read_dataset
from salt.scoring import metrics


def test_a_run_writes_everything(finished, synthetic_root):
    run = finished / "runs" / "a"
    data = read_dataset(synthetic_root)
    score = json.loads((run / "score.json").read_text())
    assert {"map", "map_at_0.5", "iou", "threshold", "empty", "n", "partial", "folds"} <= set(score)
    assert score["n"] == 24 and score["partial"] is False and score["missing_folds"] == []
    for row in score["folds"]:
        assert {"fold", "map", "map_at_0.5", "iou", "n", "epochs", "seconds", "images_per_second", "memory_gb"} == set(
            row
        )
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
    result = salt(finished, "runs/a", "--device", "cpu", main=submit.main)  # as it was trained
    assert result.returncode == 0, result.stderr
    assert submission.read_bytes() == before
    result = salt(finished, "runs/a", main=report.main)
    assert result.returncode == 0 and "out-of-fold map" in result.stdout
    assert (finished / "runs/a/report.png").read_bytes()[:4] == b"\x89PNG"
    assert (finished / "runs/a/report.html").read_text().rstrip().endswith("</html>")
    result = salt(finished, "runs/a", "--device", "gpu", main=submit.main)
    assert result.returncode == 1 and "cuda:N" in result.stderr and "Traceback" not in result.stderr
    for main in (submit.main, report.main):
        result = salt(finished, "runs/b", main=main)
        assert result.returncode == 1 and "is no run directory" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.slow
def test_some_folds_are_partial_and_the_others_complete_them(tmp_path, synthetic_root, finished):
    run = tmp_path / "runs" / "a"
    arguments = [*TINY, f"data.root={synthetic_root}", "name=a"]
    result = salt(tmp_path, *arguments, "folds=[1]")
    assert result.returncode == 0 and "fold 0 is not trained" in result.stdout
    score = json.loads((run / "score.json").read_text())
    assert score["partial"] is True and score["missing_folds"] == [0] and score["n"] == 12
    assert len(pd.read_csv(run / "submission.csv")) == 6
    assert salt(tmp_path, *arguments).returncode == 0
    for name in ("oof.csv", "oof.npz", "submission.csv", "fold_0/model.safetensors"):
        assert (run / name).read_bytes() == (finished / "runs/a" / name).read_bytes()


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path, synthetic_root):
    result = salt(tmp_path, *TINY, f"data.root={synthetic_root}", "dry_run=true")
    assert result.returncode == 0, result.stderr
    assert "M parameters on cpu" in result.stdout and "24 train tiles" in result.stdout
    options = next(line for line in result.stdout.splitlines() if " options: " in line).split()
    assert {"loss=bce_dice", "decoder=unet", "center=none", "attention=none"} <= set(options)
    typed = shlex.join(word for word in TINY if word not in ("data=synthetic", "encoder=any"))
    assert f" settings: {typed} data.root=" in result.stdout
    assert re.search(r"2 folds to train: about \d+ s on this machine, by a trial of a few steps", result.stdout)
    assert not list(tmp_path.iterdir())
    result = salt(tmp_path, *TINY, "dry_run=true")  # nor the tiles, which the run itself would generate
    assert result.returncode == 0 and "24 train tiles" in result.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_sweep_makes_a_run_for_each_point(tmp_path, synthetic_root):
    tiny = [override for override in TINY if override != "data=synthetic" and "data.n_t" not in override]
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
    assert not list(tmp_path.iterdir())
    words = [f"data.root={synthetic_root}", "name=s", "folds=[0]", "trainer.epochs=1", "loss=bce,lovasz"]
    result = salt(tmp_path, "-m", *tiny, *words, "optimizer.lr=-1,0.01")
    assert result.returncode == 1 and "2 of the 4 points cannot run" in result.stderr
    assert result.stderr.count("optimizer.lr: input should be greater than 0, found -1") == 2
    assert not list(tmp_path.iterdir())
    assert salt(tmp_path, "-m", *tiny, *words, "optimizer.lr=0.01,0.02").returncode == 0
    assert len(list((tmp_path / "runs" / "s").glob("*/score.json"))) == 4


FAILING = """
import torch
class Fails(torch.nn.Module):
    def forward(self, logits, masks):
        return torch.full((), float("nan")) * logits.mean()
"""


@pytest.mark.slow
def test_an_ablation_skips_a_failed_point_resumes_and_ends_with_its_table(tmp_path, synthetic_root):
    left_out = ("data=synthetic", "data.n_t", "trainer.epochs")
    tiny = [o for o in TINY if not o.startswith(left_out)]
    (tmp_path / "own/loss").mkdir(parents=True)
    (tmp_path / "own/loss/fails.yaml").write_text("_target_: failing.Fails\n")
    (tmp_path / "failing.py").write_text(FAILING)
    arguments = ["ablation=loss", *tiny, f"data.root={synthetic_root}", "trainer.epochs=1", "--config-dir=own"]
    arguments += ["loss=fails,bce"]  # what only a batch can tell
    folder = tmp_path / "runs" / "ablation_loss"
    for attempt in ("first", "again"):
        result = salt(tmp_path, *arguments)
        assert result.returncode == 1 and result.stderr.count("a dummy batch gives the loss nan") == 1, attempt
        assert "Error executing job" not in result.stderr and "HYDRA_FULL_ERROR" not in result.stderr
        assert "Traceback" not in result.stderr and "run the same command again to resume" in result.stderr
        assert sorted(p.name for p in folder.iterdir() if p.is_dir()) == ["loss=bce", "loss=fails"]
        assert "24 tiles" in result.stdout and "no score: loss=fails (ValueError: " in result.stdout
        assert pd.read_csv(folder / "compare.csv").iloc[:, 0].tolist() == ["loss=bce", "all empty"]
        assert ("fold 1 is finished already" in result.stdout) == (attempt == "again")
    other = salt(tmp_path, *arguments, "optimizer.lr=0.5")
    assert other.returncode == 1 and "optimizer.lr: 0.001 -> 0.5" in other.stderr


@pytest.mark.parametrize(
    "words", [["seed=1", "--cfg", "job", "loss=dice"], ["seed=1", "-c", "job", "loss=dice", "--resolve"]]
)
def test_options_may_stand_between_settings(tmp_path, words):
    result = salt(tmp_path, *words)
    shown = yaml.safe_load(result.stdout)
    assert result.returncode == 0 and shown["seed"] == 1 and shown["loss"]["_target_"].endswith("Dice")


def test_help_lists_the_groups_and_needs_no_torch(tmp_path):
    result = salt(tmp_path, "--help")
    assert result.returncode == 0, result.stderr
    text = " ".join(result.stdout.split())  # long lists are wrapped
    for group in ("loss", "attention", "deep-supervision", "ablation"):
        assert f" {group}: {', '.join(options(group))} " in text
    assert "data=synthetic" in text
    code = "import sys, salt.train\ntry: salt.train.main()\nfinally: sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("module", "argument"), [("train", "--help"), ("train", "--cfg=all"), ("commands.report", "runs/a")]
)
def test_a_closed_pipe_ends_the_command_silently(finished, module, argument):
    command = [sys.executable, "-m", f"salt.{module}", argument]
    with subprocess.Popen(command, cwd=finished, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()  # as `| head` does
        assert process.stderr.read() == b""
    assert process.returncode == -signal.SIGPIPE  # 141 in a shell


@pytest.mark.slow
def test_a_run_continues_if_nobody_reads_its_output(tmp_path, synthetic_root):
    overrides = [*TINY, f"data.root={synthetic_root}", "trainer.epochs=1", "folds=[0]"]
    command = [sys.executable, "-m", "salt.train", *overrides]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        process.stdout.close()
    assert (tmp_path / "runs/baseline/submission.csv").is_file()


def test_an_error_that_is_kept_holds_no_memory():
    class Large:
        pass

    held = []

    def fails():
        network = Large()
        held.append(weakref.ref(network))
        raise torch.OutOfMemoryError("CUDA out of memory")

    def explains():
        network = Large()
        held.append(weakref.ref(network))
        try:
            fails()
        except RuntimeError as error:
            raise ValueError("lower the batch size") from error

    try:
        explains()
    except ValueError as error:
        kept = error
    assert all(network() is not None for network in held)
    process.forget_variables(kept)
    gc.collect()
    assert [network() for network in held] == [None, None] and str(kept) == "lower the batch size"


def test_ctrl_c_before_a_run_is_one_line(tmp_path, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "run", interrupted)
    result = salt(tmp_path, "data=synthetic")
    assert (result.returncode, result.stderr) == (130, "stopped by Ctrl-C\n")
