"""Runs that are not compared, and why."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from helpers.compared import FOLDS, IDS, N, make_failed, make_run, random_scores, rows_of, salt_compare

from salt.comparing.comparison import read_entries
from salt.comparing.tables import compare_sweep
from salt.scoring.bootstrap import bootstrap

TRACEBACK = """Traceback (most recent call last):
  File "x.py", line 1, in f
KeyError: 'inner'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "y.py", line 2, in g
    raise ValueError
ValueError: dilations=[], expected one or more
  and a second line
"""
PROBLEMS = 'Traceback (most recent call last):\n  File "a"\nValueError: the config has 2 problems:\n  epochs: a\n  b\n'


def test_failed_points_are_listed(tmp_path):
    make_run(tmp_path / "center=none")
    for name, error in (("asp_oc", TRACEBACK), ("conv", None), ("fpa", ""), ("x", "killed\n"), ("y", PROBLEMS)):
        make_failed(tmp_path / f"center={name}", error)
    (tmp_path / "center=x" / "config.yaml").unlink()  # refused before it had a config
    (tmp_path / "pictures").mkdir()
    text = compare_sweep(tmp_path, None)
    assert [line for line in text.splitlines() if "no score" in line] == [
        "- no score: center=asp_oc (ValueError: dilations=[], expected one or more)",
        "- no score: center=conv",
        "- no score: center=fpa",
        "- no score: center=x (killed)",
        "- no score: center=y (ValueError: the config has 2 problems: epochs: a)",
    ]
    assert list(rows_of(text)) == ["center=none"] and "no score" in (tmp_path / "compare.md").read_text()


def test_a_sweep_without_any_score_says_why(tmp_path):
    make_failed(tmp_path / "a", TRACEBACK)
    with pytest.raises(ValueError, match=r"- no score: a \(ValueError: dilations"):
        compare_sweep(tmp_path, None)


def test_other_tiles_are_refused(tmp_path):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", center="conv", ids=[*IDS[:-3], "x", "y", "z"], partial=True)
    with pytest.raises(ValueError, match="different tiles") as caught:
        compare_sweep(tmp_path, None)
    message = str(caught.value)
    assert f"{tmp_path / 'a'} and {tmp_path / 'b'}" in message and f"{tmp_path / 'b'} is partial" in message
    assert "6 tiles" in message and len(re.findall(r"\d{8}e1|\b[xyz]\b", message.split("6 tiles")[1])) == 5


def test_other_folds_are_refused(tmp_path):
    make_run(tmp_path / "a")
    moved = FOLDS.copy()
    moved[[2, 5]] = 1 - moved[[2, 5]]
    make_run(tmp_path / "b", center="conv", folds=moved)
    with pytest.raises(ValueError, match=f"different folds: 2 tiles .{IDS[2]}, {IDS[5]}.;") as caught:
        compare_sweep(tmp_path, None)
    assert f"{tmp_path / 'a'} and {tmp_path / 'b'}" in str(caught.value)


def test_runs_with_other_folds_are_compared_if_asked(tmp_path, monkeypatch):
    run = make_run(tmp_path / "a", random_scores(1))
    other = make_run(tmp_path / "b", random_scores(2), center="conv", folds=1 - FOLDS % 2 * (np.arange(N) > 4))
    with pytest.raises(SystemExit, match=r"different folds.*--across-folds"):
        salt_compare(monkeypatch, run, other, "--out", tmp_path / "out")
    salt_compare(monkeypatch, run, other, "--out", tmp_path / "out", "--across-folds")
    table = pd.read_csv(tmp_path / "out" / "compare.csv").set_index("run")
    assert table["difference"]["b"] == pytest.approx((random_scores(2) - random_scores(1)).mean())
    low, high = bootstrap((random_scores(2) - random_scores(1))[None], np.zeros(N, dtype=np.int64))[0]
    assert table.loc["b", ["low", "high"]].tolist() == pytest.approx([low, high])  # drawn from all tiles together


def test_a_run_with_other_folds_is_no_other_seed(tmp_path):
    runs = [make_run(tmp_path / "a", seed=0), make_run(tmp_path / "b", seed=1, folds=1 - FOLDS)]
    assert [len(entry.runs) for entry in read_entries(runs, across_folds=True)] == [1, 1]


def test_training_tiles_alone_must_be_the_same_if_they_are_known(tmp_path):
    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b", center="conv")
    (a / "environment.json").write_text(json.dumps({"data_sha256": "1", "train_sha256": "t"}))
    (b / "environment.json").write_text(json.dumps({"data_sha256": "2", "train_sha256": "t"}))
    compare_sweep(tmp_path, None)
    for other in ({"data_sha256": "2", "train_sha256": "u"}, {"data_sha256": "2"}):
        (b / "environment.json").write_text(json.dumps(other))
        with pytest.raises(ValueError, match="different data"):
            compare_sweep(tmp_path, None)


def test_sections_come_from_any_run_that_knows_them(tmp_path):
    make_run(tmp_path / "a", random_scores(1))
    path = make_run(tmp_path / "b", random_scores(2), center="conv") / "oof.csv"
    pd.read_csv(path, dtype={"id": str}).assign(section=np.arange(N) // 2).to_csv(path, index=False)
    assert "whole sections" in compare_sweep(tmp_path, None)


HEAD = "id,fold,coverage,score\n"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("oof.csv", None, "oof.csv does not exist"),
        ("oof.csv", "", "oof.csv is damaged: No columns"),
        ("oof.csv", HEAD, "oof.csv is damaged: no tiles"),
        ("oof.csv", "id,iou\na,0.1\n", "oof.csv is damaged: .*fold, coverage, score"),
        ("oof.csv", HEAD + "a,0,0,much\n", "oof.csv is damaged: .*much"),
        ("oof.csv", HEAD + "a,zero,0,0.1\n", "oof.csv is damaged: .*zero"),
        ("oof.csv", HEAD + "a,0,0\n", "oof.csv is damaged: "),
        ("oof.csv", HEAD + "a,0,0,nan\n", "oof.csv is damaged: "),
        ("oof.csv", HEAD + "a,0,0,1.5\n", "oof.csv is damaged: a score"),
        ("oof.csv", HEAD + "a,0,0,1\na,1,0,1\n", "oof.csv is damaged: tile a .*twice"),
        ("oof.csv", HEAD + "a,0,0,1\nb,0,0,1,1,1\n", "oof.csv is damaged: "),
        ("oof.csv", b"\xff\xfe\x00\x01", "oof.csv is damaged: "),
        ("score.json", None, r".*score.json .*\(OSError: disk full\)"),
        ("score.json", "{", "score.json is .*damaged: "),
        ("score.json", "[]", "score.json is damaged: "),
        ("config.yaml", None, ".*no config.yaml"),
        ("config.yaml", "", "config.yaml is damaged: .*no settings"),
        ("config.yaml", "a: [", "config.yaml is damaged: "),
        ("config.yaml", b"\xff", "config.yaml is damaged: "),
    ],
)
def test_damaged_runs_are_one_message(tmp_path, monkeypatch, file, content, message):
    run = make_run(tmp_path / "a")
    (run / "error.txt").write_text("Traceback (most recent call last):\n  File\nOSError: disk full\n")
    (run / file).unlink()
    if content is not None:
        (run / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SystemExit) as ended:
        salt_compare(monkeypatch, run, make_run(tmp_path / "b", center="conv"), "--out", tmp_path / "out")
    assert re.match(f"salt-compare: {re.escape(str(run))}[ /]{message}", str(ended.value).replace("\n", " "))
    assert not (tmp_path / "out").exists()


def test_wrong_paths_are_one_message(tmp_path, monkeypatch):
    run, file, sweep = make_run(tmp_path / "a"), tmp_path / "file", tmp_path / "s"
    make_run(sweep / "p")
    make_run(sweep / "q", center="conv")
    file.touch()
    (tmp_path / "empty").mkdir()
    cases = {
        (tmp_path / "nowhere",): "nowhere does not exist",
        (file,): "file is no folder",
        (tmp_path / "empty",): "empty .*no config.yaml",
        (run, sweep): r"s is no run directory.*\(p, q\)",
        (run, tmp_path / "." / "s" / ".." / "a"): "more than once",
        (run, "--baseline", "b"): "baseline='b'",
        (run, "--out", file / "x"): "Not a directory",
    }
    for arguments, message in cases.items():
        with pytest.raises(SystemExit, match=f"^salt-compare: .*{message}"):
            salt_compare(monkeypatch, *arguments)
    with pytest.raises(ValueError, match="empty holds no runs"):
        compare_sweep(tmp_path / "empty", None)
    (sweep / "multirun.yaml").write_text("hydra: [")
    with pytest.raises(ValueError, match=r"multirun.yaml is damaged"):
        compare_sweep(sweep, None)
