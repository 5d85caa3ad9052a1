"""restart=true, restart=finished, and the folder that SALT_RUNS names."""

import shutil

import pytest
from conftest import TINY, salt


@pytest.fixture
def run(finished, synthetic_root, tmp_path):
    shutil.copytree(finished / "runs", tmp_path / "runs")
    return lambda *words: salt(tmp_path, *TINY, f"data.root={synthetic_root}", "name=a", *words)


def test_finished_folds_are_deleted_only_if_asked_for(run, tmp_path):
    folder = tmp_path / "runs" / "a"
    refused = run("restart=true", "seed=1")
    assert refused.returncode == 1 and "restart=finished" in refused.stderr and (folder / "fold_0" / "done").exists()
    before = (folder / "fold_0" / "model.safetensors").read_bytes()
    again = run("restart=finished", "seed=1", "folds=[0]")
    assert again.returncode == 0 and f"deleting {folder / 'fold_1'}" in again.stdout
    assert (folder / "fold_0" / "model.safetensors").read_bytes() != before and not (folder / "fold_1").exists()
    log = (folder / "train.log").read_text(encoding="utf-8")
    assert log.count("options: ") == log.count("fold 0: epoch 2") == 1  # all of the new run, and nothing of the old one


def test_an_unfinished_run_is_deleted(run, tmp_path):
    folder = tmp_path / "runs" / "a"
    for fold in (0, 1):
        (folder / f"fold_{fold}" / "done").unlink()
    (folder / "mine.txt").write_text("x", encoding="utf-8")
    assert run("restart=true", "seed=1", "folds=[1]").returncode == 0
    assert not (folder / "mine.txt").exists() and not (folder / "fold_0").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["restart=finished", "dry_run=true"], "dry_run"),
        (["-m", "restart=finished", "folds=[0],[1]"], "restart"),
        (["restart=all"], "restart"),
        (["restart=finished", "init=runs/a"], "init"),
        (["restart=finished", "init=nowhere"], "init"),
        (["restart=finished", "data.mosaic=nowhere.csv"], "data.mosaic"),
        (["restart=finished", "data.folds=runs/a/folds.csv"], "data.folds"),
        (["restart=finished", "encoder.name=resnet43"], "resnet43"),
        (["restart=finished", "+loss.phi=1"], "phi"),
        (["restart=finished", "data.root=runs"], "runs"),
        (["restart=finished", "data.root=runs/a/data"], "lies in"),
        (["restart=finished", "trainer.batch_size=900"], "training tiles"),
    ],
)
def test_nothing_is_deleted_by_mistake(run, tmp_path, words, message):
    log = (tmp_path / "runs" / "a" / "train.log").read_bytes()
    refused = run(*words)
    assert refused.returncode == 1 and message in refused.stderr
    assert (tmp_path / "runs" / "a" / "fold_1" / "done").exists()
    assert (tmp_path / "runs" / "a" / "train.log").read_bytes() == log


def test_a_folder_that_is_no_run_stays(run, tmp_path):
    (tmp_path / "runs" / "b").mkdir()
    (tmp_path / "runs" / "b" / "score.json").write_text("{}", encoding="utf-8")
    refused = run("name=b", "restart=finished")
    assert refused.returncode == 1 and (tmp_path / "runs" / "b" / "score.json").exists()


def test_runs_lie_where_the_variable_says(run, tmp_path, monkeypatch):
    monkeypatch.setenv("SALT_RUNS", str(tmp_path / "far" / "away"))
    assert run("folds=[0]").returncode == 0
    assert (tmp_path / "far" / "away" / "a" / "score.json").exists()
