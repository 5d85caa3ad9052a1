"""Download and upload against a stand-in for the command kaggle, which answers as the real one does."""

import os
import shutil

import pytest
import yaml
from conftest import salt

from salt.commands import data as data_command
from salt.commands import submit as submit_command
from salt.data import kaggle

PROGRAM = """#!/bin/sh
echo "$@" >> "{folder}/calls"
{answer}
"""
ANSWERS = {
    "no token": (
        'echo "401 Client Error: Unauthorized for url" >&2; exit 1',
        r"no valid token \(401\).*kaggle.com/settings",
    ),
    "no token, version 2.2": (
        'printf "Authentication required to call the Kaggle API.\\n Save to ~/.kaggle/access_token\\n"; exit 1',
        "no valid token",
    ),
    "rules": (
        """echo "403 Client Error: Forbidden - You must accept this competition's rules" >&2; exit 1""",
        r"kaggle refuses \(403\).*tgs-salt-identification-challenge/rules",
    ),
    "failure in the text alone": (
        'echo "100% 235k/235k"; echo "Could not submit to competition"',
        "kaggle failed: Could",
    ),
    "another competition": ('echo "Could not find competition - please specify one"', "kaggle failed: Could not find"),
    "the network": ('echo "Max retries exceeded with url" >&2; exit 1', "kaggle failed: Max retries exceeded"),
    "a warning beside the reason": (
        'echo "DeprecationWarning: old" >&2; echo "400 - Bad Request"; exit 1',
        "kaggle failed: 400 - Bad Request",
    ),
    "silence": ("exit 3", "kaggle failed: it printed nothing"),
}


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    def answer(script):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "kaggle").write_text(PROGRAM.format(folder=folder, answer=script))
        (folder / "kaggle").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return folder / "calls"

    return answer


@pytest.mark.parametrize("case", ANSWERS)
def test_every_failure_is_one_line_and_a_failing_exit_code(stand_in, tmp_path, case):
    script, message = ANSWERS[case]
    stand_in(script)
    with pytest.raises(ValueError, match=message):
        kaggle.upload(tmp_path / "submission.csv", "first try")
    ended = salt(tmp_path, "download", "tgs", main=data_command.main)
    assert ended.returncode == 1 and ended.stderr.startswith("salt-data: kaggle") and ended.stderr.count("\n") == 1


def test_a_missing_command_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(kaggle.sys, "executable", str(tmp_path / "python"))
    ended = salt(tmp_path, "download", main=data_command.main)
    assert ended.returncode == 1
    assert "the command kaggle is missing: pip install 'salt-segmentation[kaggle]'" in ended.stderr


def test_the_command_of_an_environment_that_is_not_activated_is_found(stand_in, tmp_path, monkeypatch):
    calls = stand_in("echo Successfully submitted to TGS Salt Identification Challenge")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(kaggle.sys, "executable", str(tmp_path / "bin/python"))
    assert kaggle.upload(tmp_path / "submission.csv", "first try").startswith("Successfully")
    assert calls.exists()


def test_a_download(stand_in, tmp_path):
    calls = stand_in('shift 5; echo zip > "$1/tgs-salt-identification-challenge.zip"')
    ended = salt(tmp_path, "download", main=data_command.main)
    assert ended.returncode == 0 and (tmp_path / "data/tgs/tgs-salt-identification-challenge.zip").exists()
    assert calls.read_text() == "competitions download -c tgs-salt-identification-challenge -p data/tgs\n"
    stand_in("echo done")
    ended = salt(tmp_path, "download", "elsewhere", main=data_command.main)
    assert ended.returncode == 1 and "elsewhere holds no archive" in ended.stderr


def test_an_upload(stand_in, tmp_path):
    calls = stand_in('echo "100% 235k/235k"; echo "Successfully submitted to TGS Salt Identification Challenge"')
    answer = kaggle.upload(tmp_path / "submission.csv", "first try")
    assert answer == "Successfully submitted to TGS Salt Identification Challenge"
    path = tmp_path / "submission.csv"
    assert calls.read_text() == f"competitions submit -c tgs-salt-identification-challenge -f {path} -m first try\n"
    stand_in('echo "something new"')
    with pytest.raises(ValueError, match=r"did not confirm the upload of .*: something new"):
        kaggle.upload(path, "second try")


def of_source(settings, target):
    return {key: value for key, value in settings.items() if key not in ("n_train", "n_test", "seed", "cache")} | {
        "_target_": target
    }


@pytest.mark.parametrize("target", ["salt.data.folder.Folder", None])
def test_a_submission_for_other_data_is_not_sent(finished, stand_in, target):
    calls = stand_in("echo Successfully submitted")
    settings = yaml.safe_load((finished / "runs/a/config.yaml").read_text())
    if target:
        settings["data"] = of_source(settings["data"], target)
    run = shutil.copytree(finished / "runs/a", finished / f"runs/other{target}")
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    before = (run / "submission.csv").stat().st_mtime_ns
    ended = salt(finished, run, "--upload", main=submit_command.main)
    assert ended.returncode == 1 and "was trained on other data than the competition's" in ended.stderr
    assert not calls.exists() and (run / "submission.csv").stat().st_mtime_ns == before  # nothing was predicted


def test_what_an_upload_lacks_is_said_before_anything_is_predicted(finished, synthetic_root, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(kaggle.sys, "executable", str(tmp_path / "python"))
    settings = yaml.safe_load((finished / "runs/a/config.yaml").read_text())
    settings["data"] = of_source(settings["data"], "salt.data.tgs.TGS")  # as if it were the competition's
    run = shutil.copytree(finished / "runs/a", finished / "runs/without_kaggle")
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    before = (run / "submission.csv").stat().st_mtime_ns
    words = [run, "--root", synthetic_root, "--device", "cpu"]
    ended = salt(finished, *words, "--upload", main=submit_command.main)
    assert ended.returncode == 1 and ended.stderr.startswith("salt-submit: the command kaggle is missing")
    ended = salt(finished, *words, "--message", "first try", main=submit_command.main)
    assert ended.returncode == 1 and "add --upload" in ended.stderr
    assert (run / "submission.csv").stat().st_mtime_ns == before


def test_salt_submit_uploads_what_it_wrote(finished, synthetic_root, stand_in):
    calls = stand_in('echo "Successfully submitted to TGS"')
    settings = yaml.safe_load((finished / "runs/a/config.yaml").read_text())
    settings["data"] = of_source(settings["data"], "salt.data.tgs.TGS")  # as if it were the competition's
    (finished / "runs/a/config.yaml").write_text(yaml.safe_dump(settings))
    words = ["runs/a", "--root", synthetic_root, "--device", "cpu"]
    ended = salt(finished, *words, "--upload", main=submit_command.main)
    assert ended.returncode == 0 and "Successfully submitted to TGS" in ended.stdout, ended.stderr
    assert "-f runs/a/submission.csv -m a, out-of-fold map 0." in calls.read_text()
    assert salt(finished, *words, "--upload", "--message", "mine", main=submit_command.main).returncode == 0
    assert calls.read_text().splitlines()[-1].endswith("-m mine")
    n_calls = len(calls.read_text().splitlines())
    assert salt(finished, *words, main=submit_command.main).returncode == 0
    assert len(calls.read_text().splitlines()) == n_calls
