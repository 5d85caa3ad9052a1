"""What a run records of code, machine and start; it must be fit for sharing."""

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
import torch
from conftest import TINY, salt

from salt.runs import environment
from salt.runs.environment import BY_CODE, VARIABLES, Conditions, code_version, conditions, note_changes
from salt.runs.files import read_json, write_json


def git(folder, *words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    return subprocess.run(["git", "-C", folder, *identity, *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Where Salt's code lies, as this module believes: in nobody's checkout."""
    root = tmp_path / "code"
    (root / "salt").mkdir(parents=True)
    (root / "salt/__init__.py").write_text("")
    monkeypatch.setattr(environment.salt, "__file__", str(root / "salt/__init__.py"))
    code_version.cache_clear()
    yield root
    code_version.cache_clear()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_of_a_checkout_and_whether_it_is_changed(checkout):
    def found():
        code_version.cache_clear()
        return code_version()

    assert found() == {"commit": None, "dirty": None}
    git(checkout, "init", "-q")
    (checkout / "other").write_text("")
    git(checkout, "add", "other")
    git(checkout, "commit", "-q", "-m", "something else")
    assert found() == {"commit": None, "dirty": None}  # as in a venv that lies in another project's checkout
    git(checkout, "add", "salt")
    git(checkout, "commit", "-q", "-m", "code")
    clean = {"commit": git(checkout, "rev-parse", "HEAD").strip(), "dirty": False}
    (checkout / "runs").mkdir()
    (checkout / "runs/score.json").write_text("{}")
    assert found() == clean
    (checkout / "salt/new.py").write_text("")
    assert found() == clean | {"dirty": True}


def test_without_git_there_is_no_commit(checkout, monkeypatch):
    monkeypatch.setenv("PATH", str(checkout))
    assert code_version() == {"commit": None, "dirty": None}


def test_what_bytes_depend_on_is_recorded_without_names(tmp_path, synthetic_root):
    result = salt(tmp_path, *TINY, f"data.root={synthetic_root}", "trainer.epochs=1", "folds=[0]")
    assert result.returncode == 0, result.stderr
    run = tmp_path / "runs/baseline"
    shared = read_json(run / "environment.json")
    assert (shared["precision"], shared["threads"]) == ("float32", torch.get_num_threads())
    assert (shared["launcher"], shared["processes"]) == ("basic", 1)
    assert shared["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    text = (run / "environment.json").read_text()
    assert not any(name in text for name in (str(tmp_path), str(synthetic_root), str(Path.home()), os.getcwd()))
    assert f'"{socket.gethostname()}"' not in text
    private = read_json(run / "local.json")
    assert (private["host"], private["folder"]) == (socket.gethostname(), str(tmp_path))
    assert str(synthetic_root) in private["command"]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_the_number_format_in_use_is_recorded(tiny, tmp_path, precision):
    from salt import crossval

    crossval.run(tiny(f"trainer.precision={precision}", "trainer.epochs=1", "folds=[0]"), tmp_path)
    assert read_json(tmp_path / "environment.json")["precision"] == {"bf16": "bfloat16", "fp32": "float32"}[precision]


def test_what_changes_while_a_run_is_interrupted_is_noted_once(tmp_path, monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "environment.json"
    now = conditions("float32", BY_CODE)
    write_json(file, now.shared | {"data_sha256": "x"})

    def resumed(folds, **changed):
        note_changes(tmp_path, Conditions(now.shared | changed), folds)
        return [{k: v for k, v in entry.items() if k != "date"} for entry in read_json(file).get("resumed", [])]

    assert resumed([0, 1]) == []
    assert resumed([], threads=7) == []  # nothing is computed
    assert resumed([0, 1], launcher="joblib", command="another") == []  # says nothing of the bytes
    first = {"folds": [0, 1], "threads": 7}
    assert resumed([0, 1], threads=7) == resumed([0, 1], threads=7) == [first]
    packages = now.shared["packages"]
    changed = {"packages": packages | {"torch": "0"}, "variables": {"MKL_CBWR": "AVX2"}}
    assert resumed([1], **changed) == [first, {"folds": [1], "variables.MKL_CBWR": "AVX2", "packages.torch": "0"}]
    assert json.loads(file.read_text())["data_sha256"] == "x"


@pytest.mark.slow
def test_a_run_that_goes_on_with_other_threads_says_so(tiny, tmp_path):
    from salt import crossval

    crossval.run(tiny("trainer.epochs=1", "folds=[0]"), tmp_path)
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        crossval.run(tiny("trainer.epochs=1", "folds=[0]"), tmp_path)  # finished: nothing is computed
        assert "resumed" not in read_json(tmp_path / "environment.json")
        crossval.run(tiny("trainer.epochs=1", "folds=[0,1]"), tmp_path)
    finally:
        torch.set_num_threads(before)
    (entry,) = read_json(tmp_path / "environment.json")["resumed"]
    assert entry["folds"] == [1] and entry["threads"] == before + 1
