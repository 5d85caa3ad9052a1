"""salt-submit and salt-report on a finished run."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import TINY, salt

from salt.commands import compare, report, submit
from salt.data.synthetic import Synthetic
from salt.inference import submission
from salt.machine import device
from salt.models.segmenter import Segmenter


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished / "runs/a", tmp_path / "runs/a")


def test_a_submission_of_other_folds_than_the_score_is_refused(copy):
    (copy / "fold_1/done").unlink()
    (copy / "submission.csv").unlink()
    for main in (submit.main, report.main):
        result = salt(copy, ".", main=main)
        assert result.returncode == 1 and "out-of-fold map" not in result.stdout
        assert "score.json is of the folds [0, 1], but the folds [0] are finished" in result.stderr
        assert "salt-train command trains what is missing" in result.stderr
    assert not (copy / "submission.csv").exists()


@pytest.mark.parametrize(("command", "work"), [(submit, "submit_ensemble"), (report, "report"), (compare, "compare")])
def test_ctrl_c_ends_the_other_commands_with_one_line(copy, tmp_path, monkeypatch, command, work):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, work, interrupted)
    result = salt(tmp_path, "runs/a", main=command.main)
    assert result.returncode == 130 and result.stderr.count("\n") == 1 and "stopped by Ctrl-C" in result.stderr


def test_a_submission_may_be_predicted_in_smaller_batches(copy, synthetic_root, tmp_path, monkeypatch):
    models = []
    monkeypatch.setattr(submission, "make_submission", lambda model, tiles: models.append(model))
    cpu = ["--root", synthetic_root, "--device", "cpu"]  # auto would multiply the size on a GPU
    for extra in ([], ["--batch-size", "3"]):
        assert salt(tmp_path, "runs/a", *cpu, *extra, main=submit.main).returncode == 0
    assert [model.predictors[0].engine.runtime.predict_batch_size for model in models] == [4, 3]
    result = salt(tmp_path, "runs/a", "--root", synthetic_root, "--batch-size", "0", main=submit.main)
    assert result.returncode == 1 and "batch_size" in result.stderr


def test_a_submission_needs_no_compiler_and_takes_another_number_format(copy, synthetic_root, tmp_path, monkeypatch):
    (copy / "config.yaml").write_text((copy / "config.yaml").read_text().replace("compile: false", "compile: true"))
    assert "compile: true" in (copy / "config.yaml").read_text()
    engines = []
    monkeypatch.setattr(submission, "make_submission", lambda model, tiles: engines.append(model.predictors[0].engine))
    monkeypatch.setattr(device, "missing_compiler", lambda device: "a compiler")
    cpu = ["--root", synthetic_root, "--device", "cpu"]
    for extra in ([], ["--precision", "bf16"]):
        result = salt(tmp_path, "runs/a", *cpu, *extra, main=submit.main)
        assert result.returncode == 0, result.stderr
    assert [engine.runtime.dtype for engine in engines] == [torch.float32, torch.bfloat16]
    assert all(isinstance(network, Segmenter) for engine in engines for network in engine.networks)  # not compiled
    result = salt(tmp_path, "runs/a", *cpu, "--precision", "half", main=submit.main)
    assert result.returncode == 1 and "precision" in result.stderr and "bf16" in result.stderr


def test_only_salt_train_generates_tiles(copy, tmp_path):
    result = salt(tmp_path, "runs/a", "--root", "typo", main=submit.main)
    assert result.returncode == 1 and "there is no folder typo" in result.stderr and "--root" in result.stderr
    assert salt(tmp_path, "runs/a", "--root", "typo", main=report.main).returncode == 0
    assert [file.name for file in tmp_path.iterdir()] == ["runs"]


@pytest.mark.slow
def test_a_report_needs_no_data(copy, synthetic_root, tmp_path):
    Synthetic(tmp_path / "other", n_train=24, n_test=6, seed=7).prepare()
    (copy / "report.png").unlink(missing_ok=True)
    for root, reason in (("nowhere", "there is no folder nowhere"), ("other", "was trained on other data than other")):
        result = salt(tmp_path, "runs/a", "--root", root, main=report.main)
        score = json.loads((copy / "score.json").read_text())
        assert result.returncode == 0 and f"out-of-fold map {score['map']:.4f}" in result.stdout
        (line,) = [line for line in result.stdout.splitlines() if line.startswith("report.html lacks a part: ")]
        assert reason in line and "--root FOLDER" in line and "data.root" not in line
        assert not (copy / "report.png").exists()
    synthetic_root = shutil.copytree(synthetic_root, tmp_path / "moved = (1)")
    assert "lacks a part" not in salt(tmp_path, "runs/a", "--root", synthetic_root, main=report.main).stdout
    assert (copy / "report.png").exists()
    (copy / "oof.npz").write_bytes(b"x")
    result = salt(tmp_path, "runs/a", "--root", synthetic_root, main=report.main)
    assert result.returncode == 0 and "oof.npz is damaged" in result.stdout


@pytest.mark.slow
def test_a_run_on_a_read_only_disk_is_reported_but_not_submitted(copy, synthetic_root, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    shutil.copytree(synthetic_root, tmp_path / "data")
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*unshare, f"mount -t tmpfs none {disk}"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets a test mount nothing")
    mounted = f"mount -t tmpfs none {disk} && cp -r {tmp_path}/runs {tmp_path}/data {disk} && "
    mounted += f'mount -o remount,ro {disk} && cd {disk} && "$@"'

    def run(module, *arguments):
        command = [*unshare, mounted, "sh", sys.executable, "-m", f"salt.{module}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    reported = run("commands.report", "runs/a", "--root", "data")
    assert reported.returncode == 0 and "out-of-fold map" in reported.stdout and reported.stderr == ""
    assert "not written: runs/a/report.html cannot be written" in reported.stdout
    submitted = run("commands.submit", "runs/a", "--root", "data")
    assert submitted.returncode == 1 and submitted.stderr.startswith("salt-submit: ")
    assert "Read-only" in submitted.stderr and submitted.stderr.count("\n") == 1 and submitted.stdout == ""
    planned = run("train", *TINY, "data.root=data", "name=new", "dry_run=true")
    assert planned.returncode == 0 and "24 train tiles" in planned.stdout, planned.stderr
