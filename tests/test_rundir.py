import json

import pytest

from salt.rundir import RunDir, weight_files


def test_claim_writes_once_and_accepts_the_same(tmp_path):
    run, config = (
        RunDir(tmp_path),
        {"name": "a", "folds": "all", "accept": [], "data": {"root": "a"}, "trainer": {"epochs": 2, "device": "cpu"}},
    )
    run.claim(config, "digest")
    run.claim(config | {"name": "moved", "folds": [0], "trainer": {"epochs": 2, "device": "cuda"}}, "digest")
    assert json.loads((tmp_path / "environment.json").read_text())["data_sha256"] == "digest"


def test_claim_refuses_another_config_and_names_the_keys(tmp_path):
    run = RunDir(tmp_path)
    run.claim({"seed": 0, "trainer": {"epochs": 2}, "loss": {"at": 0.5}}, "digest")
    with pytest.raises(
        ValueError, match=r"trainer.epochs: 2 -> 3\n  loss.at: 0.5 -> \(none\)\n  loss.phi: \(none\) -> relu"
    ):
        run.claim({"seed": 0, "trainer": {"epochs": 3}, "loss": {"phi": "relu"}, "accept": []}, "digest")


def test_claim_refuses_other_data(tmp_path):
    config = {"data": {"root": "somewhere"}, "accept": []}
    RunDir(tmp_path).claim(config, "digest")
    with pytest.raises(ValueError, match="other data than somewhere"):
        RunDir(tmp_path).claim(config, "another")


def test_read_config_names_the_runs_below(tmp_path):
    (tmp_path / "loss=bce").mkdir()
    (tmp_path / "loss=bce" / "config.yaml").write_text("")
    with pytest.raises(ValueError, match=r"no run directory.*runs below it: .*loss=bce"):
        RunDir(tmp_path).read_config()


def test_folds_without_their_config_are_not_adopted(tmp_path):
    (tmp_path / "fold_0").mkdir()
    with pytest.raises(ValueError, match=r"has folds but lacks config.yaml"):
        RunDir(tmp_path).claim({"data": {"root": "a"}}, "digest")


def test_a_failure_is_kept_until_the_next_start(tmp_path):
    run = RunDir(tmp_path)
    with pytest.raises(KeyError), run.errors_kept():
        raise KeyError("x")
    assert "KeyError: 'x'" in (tmp_path / "error.txt").read_text()
    with run.errors_kept():
        assert not (tmp_path / "error.txt").exists()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"data_sha256": '])
def test_a_damaged_record_is_named(tmp_path, content):
    config = {"data": {"root": "somewhere"}, "accept": []}
    RunDir(tmp_path).claim(config, "digest")
    (tmp_path / "environment.json").write_text(content)
    with pytest.raises(ValueError, match=r"environment\.json is (missing or )?damaged"):
        RunDir(tmp_path).claim(config, "digest")


def test_a_finished_fold_that_names_no_weights_is_refused(tmp_path):
    (tmp_path / "done").write_text("")
    with pytest.raises(ValueError, match=r"done is damaged: it names no weights\. Delete .* to train"):
        weight_files(tmp_path)


def test_of_several_failures_the_first_is_kept(tmp_path):
    first, second = RunDir(tmp_path).errors_kept(), RunDir(tmp_path).errors_kept()
    with pytest.raises(ZeroDivisionError), second:
        with pytest.raises(KeyError), first:  # another process, which fails first
            raise KeyError("the cause")
        raise ZeroDivisionError("the consequence")
    text = (tmp_path / "error.txt").read_text()
    assert "the cause" in text and "the consequence" not in text
