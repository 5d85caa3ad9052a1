import json
import subprocess
import sys

import pytest

from salt.runs.rundir import Digests, RunDir, weight_files


def test_claim_writes_once_and_accepts_the_same(tmp_path):
    run, config = (
        RunDir(tmp_path),
        {"name": "a", "folds": "all", "accept": [], "data": {"root": "a"}, "trainer": {"epochs": 2, "device": "cpu"}},
    )
    run.claim(config, Digests("digest"))
    run.claim(config | {"name": "moved", "folds": [0], "trainer": {"epochs": 2, "device": "cuda"}}, Digests("digest"))
    assert json.loads((tmp_path / "environment.json").read_text())["data_sha256"] == "digest"


def test_claim_refuses_another_config_and_names_the_keys(tmp_path):
    run = RunDir(tmp_path)
    run.claim({"seed": 0, "trainer": {"epochs": 2}, "loss": {"at": 0.5}}, Digests("digest"))
    other = {"seed": 0, "trainer": {"epochs": 2}, "loss": {"phi": "relu"}, "accept": []}
    with pytest.raises(ValueError, match=r"  loss.at: 0.5 -> \(none\)\n  loss.phi: \(none\) -> relu\n") as error:
        run.claim(other, Digests("digest"))
    assert "init=" not in str(error.value)
    with pytest.raises(ValueError, match=rf"trainer.epochs: 2 -> 3\n.*\(with init={tmp_path} it starts") as error:
        run.claim(other | {"trainer": {"epochs": 3}, "loss": {"at": 0.5}}, Digests("digest"))
    assert "loss" not in str(error.value)


def test_claim_refuses_other_data(tmp_path):
    config = {"data": {"root": "somewhere"}, "accept": []}
    RunDir(tmp_path).claim(config, Digests("digest"))
    with pytest.raises(ValueError, match="other data than somewhere"):
        RunDir(tmp_path).claim(config, Digests("another"))


def test_read_config_names_the_runs_below(tmp_path):
    (tmp_path / "loss=bce").mkdir()
    (tmp_path / "loss=bce" / "config.yaml").write_text("")
    with pytest.raises(ValueError, match=r"no run directory.*runs below it: .*loss=bce"):
        RunDir(tmp_path).read_config()


def test_folds_without_their_config_are_not_adopted(tmp_path):
    (tmp_path / "fold_0").mkdir()
    with pytest.raises(ValueError, match=r"holds results but lacks config.yaml"):
        RunDir(tmp_path).claim({"data": {"root": "a"}}, Digests("digest"))


def test_a_failure_is_kept_until_the_next_start(tmp_path):
    run = RunDir(tmp_path)
    with pytest.raises(KeyError), run.record_failure():
        raise KeyError("x")
    assert "KeyError: 'x'" in (tmp_path / "error.txt").read_text()
    with run.record_failure():
        assert not (tmp_path / "error.txt").exists()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"data_sha256": '])
def test_a_damaged_record_is_named(tmp_path, content):
    config = {"data": {"root": "somewhere"}, "accept": []}
    RunDir(tmp_path).claim(config, Digests("digest"))
    (tmp_path / "environment.json").write_text(content)
    with pytest.raises(ValueError, match=r"environment\.json is (missing or )?damaged"):
        RunDir(tmp_path).claim(config, Digests("digest"))


def test_a_finished_fold_that_names_no_weights_is_refused(tmp_path):
    (tmp_path / "done").write_text("")
    with pytest.raises(ValueError, match=r"done is damaged: it names no weights\. Delete .* to train"):
        weight_files(tmp_path)


def test_of_several_failures_the_first_is_kept(tmp_path):
    first, second = RunDir(tmp_path).record_failure(), RunDir(tmp_path).record_failure()
    with pytest.raises(ZeroDivisionError), second:
        with pytest.raises(KeyError), first:  # another process, which fails first
            raise KeyError("the cause")
        raise ZeroDivisionError("the consequence")
    text = (tmp_path / "error.txt").read_text()
    assert "the cause" in text and "the consequence" not in text


def test_a_check_writes_nothing_and_returns_what_is_accepted(tmp_path):
    run = RunDir(tmp_path / "new")
    config = {"accept": ["trainer.clip"], "data": {"root": "a"}, "trainer": {"clip": 1.0}}
    assert run.check(config, Digests("digest")) == [] and not run.path.exists()
    run.claim(config, Digests("digest"))
    before = {file: file.read_bytes() for file in run.path.iterdir()}
    other = config | {"trainer": {"clip": 2.0}}
    assert run.check(other) == run.check(other, Digests("digest")) == ["trainer.clip: 1.0 -> 2.0"]
    with pytest.raises(ValueError, match="other data than a"):
        run.check(other, Digests("another"))
    with pytest.raises(ValueError, match=r"trainer.clip: 1.0 -> 2.0"):
        run.check(other | {"accept": []})
    assert before == {file: file.read_bytes() for file in run.path.iterdir()}


def test_the_first_fold_that_is_not_finished_must_be_free(tmp_path):
    run = RunDir(tmp_path)
    code = "import sys; from pathlib import Path; from salt.runs.files import locked\n"
    code += "with locked(Path('fold_1'), 'fold'): print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        run.check_free([0, 1])
        (tmp_path / "fold_0").mkdir()
        (tmp_path / "fold_0/done").touch()
        with pytest.raises(ValueError, match=f"fold_1 is in use by process {other.pid} on "):
            run.check_free([0, 1])
        (tmp_path / "fold_1/done").touch()
        run.check_free([0, 1])
        other.stdin.close()


def test_a_score_of_other_folds_than_the_finished_ones_is_refused(tmp_path):
    run = RunDir(tmp_path)
    with pytest.raises(ValueError, match=r"has no score\.json yet"):
        run.read_score(3)
    score = {
        "gains": {},
        "interval": [0.4, 0.6],
        "map": 0.5,
        "n": 2,
        "threshold": 0.5,
        "folds": [{"fold": 0}, {"fold": 2}],
    }
    (tmp_path / "score.json").write_text(json.dumps(score))
    for fold in (0, 2):
        (tmp_path / f"fold_{fold}").mkdir()
        (tmp_path / f"fold_{fold}/done").touch()
    assert run.read_score(3) == score
    (tmp_path / "fold_1").mkdir()
    (tmp_path / "fold_1/done").touch()
    with pytest.raises(ValueError, match=r"of the folds \[0, 2\], but the folds \[0, 1, 2\] are finished"):
        run.read_score(3)
