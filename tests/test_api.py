"""`salt.fit` and `salt.Run`, used as in a notebook."""

import hashlib
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from conftest import TINY
from conftest import salt as command

import salt


def digest(folder):
    files = [*sorted(folder.glob("fold_*/model.safetensors")), folder / "oof.csv", folder / "submission.csv"]
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("notebook")


@pytest.fixture(scope="module")
def run(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return salt.fit([*TINY, "name=a"])


@pytest.mark.slow
def test_a_run_gives_the_bytes_of_the_command_also_the_second_in_a_process(run, folder, monkeypatch):
    monkeypatch.chdir(folder)
    again = salt.fit([*TINY, "name=again"])
    assert command(folder, *TINY, "name=command").returncode == 0
    assert digest(run.path) == digest(again.path) == digest(folder / "runs" / "command")


def test_frames_have_the_right_types(run):
    score, oof, submission = run.score, run.oof(), run.submission()
    assert list(score.index) == ["0", "1", "all"] and score.loc["all", "map"] == run.map == oof["score"].mean()
    assert score.loc["0", "map"] == oof["score"][oof["fold"] == 0].mean()
    assert pd.api.types.is_integer_dtype(oof["fold"]) and pd.api.types.is_float_dtype(oof["iou"])
    assert all(isinstance(text, str) for text in [*submission["rle_mask"], *submission["id"], *oof["id"]])
    assert run.config.trainer.epochs == 2 and repr(run) == f"salt.Run({str(run.path)!r})"


def test_the_same_call_trains_nothing_again(run, folder, monkeypatch):
    monkeypatch.chdir(folder)
    weights = run.path / "fold_0" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    assert salt.fit([*TINY, "name=a"]).map == run.map and weights.stat().st_mtime_ns == before


@pytest.mark.slow
def test_an_interrupted_call_saves_and_the_same_call_resumes_to_the_same_bytes(run, folder):
    settings = [*TINY, "name=stopped", "trainer.epochs=4"]
    call = f"""
import salt
try:
    salt.fit({settings})
except KeyboardInterrupt:
    print("interrupted")
salt.fit({settings})
"""
    checkpoint = folder / "runs" / "stopped" / "fold_0" / "last.pt"
    process = subprocess.Popen([sys.executable, "-c", call], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not checkpoint.is_file() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0 and "interrupted" in out.decode().split("\n"), err.decode()
    assert command(folder, *settings, "name=whole").returncode == 0
    assert digest(folder / "runs" / "stopped") == digest(folder / "runs" / "whole")


def test_compare_is_paired_with_this_run(run, folder, monkeypatch):
    monkeypatch.chdir(folder)
    other = salt.fit([*TINY, "name=dice", "loss=dice"])
    for given in (other, other.path, str(other.path)):
        table = run.compare(given).set_index("run")
        assert table.loc["dice", "difference"] == pytest.approx(other.map - run.map)
        assert pd.isna(table.loc["a", "low"]) and table.loc["dice", "low"] <= table.loc["dice", "high"]


def test_load_predicts(run):
    image = salt.load(run.path).ensemble.first.config  # the same run
    assert image == run.config and run.load(device="cpu").threshold == run.score.loc["all", "threshold"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["loss=nope"], "unknown option"),
        (["trainer.epochz=3"], "trainer.epochs"),
        (["loss=bce,dice"], "sweep"),
        (["ablation=loss"], "sweep"),
        (["data.root=nowhere"], "nowhere"),
        ([*TINY, "name=../a"], "name"),
    ],
)
def test_what_is_wrong_is_the_message_of_the_command(folder, monkeypatch, words, message):
    monkeypatch.chdir(folder)
    with pytest.raises(ValueError, match=message) as refused:
        salt.fit(words)
    if message != "sweep":
        assert str(refused.value) in command(folder, *words).stderr


def test_a_run_without_results(folder, monkeypatch):
    monkeypatch.chdir(folder)
    dry = salt.fit([*TINY, "name=dry", "dry_run=true"])
    assert not dry.path.exists()
    for ask in (lambda: dry.map, dry.oof, dry.submission):
        with pytest.raises(ValueError, match="dry"):
            ask()


def test_import_and_names_need_no_torch():
    code = "import sys, salt; salt.fit, salt.Run; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
