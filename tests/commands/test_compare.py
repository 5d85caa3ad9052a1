import copy
import functools
import json
import random
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import yaml
from conftest import raw_config

from salt.commands import compare
from salt.config import check_config
from salt.reporting.comparison import compare_sweep
from salt.scoring.comparison import bootstrap

N = 20  # tiles of a run made here
FOLDS = np.arange(N) % 2
COVERAGE = np.array([0.4, 0.0, 0.0, 0.1] * 25)
IDS = [f"{i:08d}e1" for i in range(N)]  # read as numbers, they would not be these strings


@functools.cache
def settings(center: str) -> dict:
    raw = raw_config("data=synthetic", "encoder.weights=null", f"center={center}")
    return check_config(raw).model_dump(mode="json", by_alias=True)


def make_run(path: Path, scores=None, center="none", seed=0, ids=IDS, folds=FOLDS, partial=False, **changes) -> Path:
    """A finished run with only the files that are compared."""
    path.mkdir(parents=True)
    config = copy.deepcopy(settings(center)) | {"name": "n", "seed": seed} | changes
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    scores = np.full(len(ids), 0.5) if scores is None else scores
    frame = pd.DataFrame(
        {"id": ids, "fold": folds, "coverage": COVERAGE[: len(ids)], "iou": 1.0, "score": scores, "threshold": 0.5}
    )
    frame.to_csv(path / "oof.csv", index=False)
    (path / "score.json").write_text(json.dumps({"map": float(np.mean(scores)), "n": len(ids), "partial": partial}))
    return path


def make_failed(path: Path, error: str | None = None) -> None:
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump(settings("none")))
    if error is not None:
        (path / "error.txt").write_text(error)


def name_baseline(sweep: Path, baseline: str | None) -> None:
    node = {"hydra": {"callbacks": {"sweep": {"_target_": "salt.runs.sweep.Sweep", "baseline": baseline}}}}
    (sweep / "multirun.yaml").write_text(yaml.safe_dump(node))


def scores_of(seed: int, shift: float = 0.0) -> np.ndarray:
    return np.clip(np.random.default_rng(seed).integers(0, 11, N) / 10 + shift, 0, 1)


def rows_of(text: str) -> dict[str, list[str]]:
    """The cells of the printed table by label, in order, without the last row, which no run made."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    assert cells[0] == ["run", "score", "difference", "95 % interval", "resolved", "seeds"]
    assert [row[0] for row in cells].count("all empty") == 1
    return {row[0]: row[1:] for row in cells[2:] if row[0] != "all empty"}


def csv_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "compare.csv", keep_default_na=False).set_index("run").drop("all empty")


def command(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["salt-compare", *map(str, arguments)])
    compare.main()


# ---- the bootstrap


def test_interval_like_a_loop_over_resamples():
    rng = np.random.default_rng(1)
    folds = np.array([0] * 7 + [1] * 12 + [4] * 3)
    difference = rng.normal(0.1, 0.3, len(folds)) + 0.2 * folds
    draw, means = random.Random(2), []
    for _ in range(8000):
        total = 0.0
        for fold in (0, 1, 4):
            tiles = [d for d, f in zip(difference, folds, strict=True) if f == fold]
            total += sum(tiles[draw.randrange(len(tiles))] for _ in tiles)
        means.append(total / len(folds))
    means.sort()
    expected = [means[200], means[7799]]
    deviation = np.std(means)
    np.testing.assert_allclose(bootstrap(difference[None], folds)[0], expected, atol=0.08 * deviation)


def test_interval_of_one_fold_is_the_standard_error():
    rng = np.random.default_rng(3)
    difference = rng.normal(0.02, 0.4, 1500)
    low, high = bootstrap(difference[None], np.zeros(1500, dtype=np.int64))[0]
    half = 1.959964 * difference.std() / np.sqrt(1500)
    assert (high - low) / 2 == pytest.approx(half, rel=0.03)
    assert (high + low) / 2 == pytest.approx(difference.mean(), abs=0.05 * half)


def test_interval_of_one_fold_like_scipy():
    difference = np.random.default_rng(6).choice(np.arange(-10, 11) / 10, 800)
    ours = bootstrap(difference[None], np.zeros(800, dtype=np.int64))[0]
    rng = np.random.default_rng(7)
    theirs = scipy.stats.bootstrap((difference,), np.mean, n_resamples=10_000, method="percentile", rng=rng)
    np.testing.assert_allclose(ours, theirs.confidence_interval, atol=0.06 * theirs.standard_error)


def test_interval_covers_the_true_difference():
    rng, hits, runs = np.random.default_rng(4), 0, 400
    folds = np.repeat([0, 1], 60)
    for _ in range(runs):
        difficulty = rng.normal(0, 1, 120)  # shared by the two runs; pairing takes it out
        a = difficulty + rng.normal(0, 0.3, 120)
        b = difficulty + 0.1 * folds + rng.normal(0.05, 0.3, 120)
        low, high = bootstrap((b - a)[None], folds, n_resamples=500)[0]
        hits += low <= 0.1 <= high
        assert high - low < 0.25  # unpaired: 4 * sqrt(2 * 1.09 / 120) = 0.54
    assert 0.91 <= hits / runs <= 0.98


def test_folds_keep_their_size():
    difference = np.array([[0.3] * 5 + [-0.1] * 11, [0.1] * 5 + [-1 / 22] * 11])
    np.testing.assert_allclose(
        bootstrap(difference, np.array([0] * 5 + [3] * 11)),
        np.array([[(5 * 0.3 - 11 * 0.1) / 16] * 2, [0.0, 0.0]]),
        atol=1e-12,
    )


def test_one_draw_for_all_rows_and_repeatable():
    difference = np.random.default_rng(5).normal(0, 1, (1, 30))
    folds = np.arange(30) % 3
    both = bootstrap(np.concatenate([difference, 2 * difference, difference]), folds)
    np.testing.assert_array_equal(both[0], both[2])
    np.testing.assert_allclose(both[1], 2 * both[0], atol=1e-11)
    np.testing.assert_allclose(bootstrap(difference, folds), both[:1], atol=1e-11)


# ---- the table


def test_scores_differences_and_order(tmp_path):
    a, b, c = scores_of(1), scores_of(2), np.minimum(scores_of(1) + 0.1, 1)
    shuffled = np.random.default_rng(0).permutation(N)  # the rows of a file may stand in any order
    make_run(tmp_path / "a", a, "none")
    make_run(tmp_path / "b", b[shuffled], "conv", ids=[IDS[i] for i in shuffled], folds=FOLDS[shuffled])
    make_run(tmp_path / "c", c, "dblock")
    text = compare_sweep(tmp_path, "b")
    rows = rows_of(text)
    assert list(rows) == ["b", "c", "a"]
    assert rows["b"] == [f"{b.mean():.4f}", "baseline", "", "", "1"]
    assert rows["a"][:2] == [f"{a.mean():.4f}", f"{np.mean(a - b):+.4f}"]
    head = text.splitlines()[0]
    assert head == "20 tiles scored in 2 folds (0, 1); differences are to b (as asked)"
    assert "effects under 0.005 need several seeds" in text and "from seed to seed" in text

    again = rows_of(compare_sweep(tmp_path, "a"))
    assert again["c"][3] == "yes" and list(again) == ["a", "c", "b"]
    table = csv_of(tmp_path)
    assert list(table.columns) == ["score", "difference", "low", "high", "resolved", "seeds"]
    assert float(table.loc["c", "score"]) == pytest.approx(c.mean())
    assert float(table.loc["c", "difference"]) == pytest.approx(np.mean(c - a))
    low, high = float(table.loc["c", "low"]), float(table.loc["c", "high"])
    assert 0 < low < np.mean(c - a) < high
    assert again["c"][2] == f"[{low:+.4f}, {high:+.4f}]"
    assert table.loc["a", ["low", "high", "resolved"]].tolist() == ["", "", ""]


def test_one_row_is_what_all_tiles_empty_would_score(tmp_path):
    make_run(tmp_path / "a", scores_of(1))
    make_run(tmp_path / "b", scores_of(2), "conv")
    text = compare_sweep(tmp_path, "a")
    empty = (COVERAGE[:N] == 0).astype(float)  # 1 for a tile without salt, 0 for a missed one
    low, high = bootstrap((empty - scores_of(1))[None], FOLDS)[0]
    table = pd.read_csv(tmp_path / "compare.csv").set_index("run")
    assert table.loc["all empty"].drop("resolved").tolist() == pytest.approx(
        [empty.mean(), (empty - scores_of(1)).mean(), low, high, 0]
    )
    line = next(line for line in text.splitlines() if line.startswith("| all empty "))
    assert line.split()[4:7:2] == [f"{empty.mean():.4f}", f"{np.mean(empty - scores_of(1)):+.4f}"]


@pytest.mark.parametrize(("shift", "resolved"), [(0.2, "yes"), (-0.2, "yes"), (0.0, "no")])
def test_resolved_if_the_interval_excludes_zero(tmp_path, shift, resolved):
    make_run(tmp_path / "a", np.full(N, 0.5))
    make_run(tmp_path / "b", 0.5 + shift + np.tile([0.1, 0.1, -0.1, -0.1], N // 4), "conv")
    assert rows_of(compare_sweep(tmp_path, None))["b"][3] == resolved


def test_folds_that_cancel_are_not_resolved_by_rounding(tmp_path):
    folds = np.repeat([0, 1], [3, 7])
    scores = np.where(folds == 0, 0.5 + 0.7, 0.5 - 0.3) * 0.5  # mean 0.25, whatever is drawn
    make_run(tmp_path / "a", np.full(10, 0.25), ids=IDS[:10], folds=folds)
    make_run(tmp_path / "b", scores, "conv", ids=IDS[:10], folds=folds)
    assert rows_of(compare_sweep(tmp_path, None))["b"][1:4] == ["+0.0000", "[+0.0000, +0.0000]", "no"]


def test_ids_stay_text(tmp_path):
    ids = ["NA", "nan", "007", "7", "1e3"]
    for name, center in (("a", "none"), ("b", "conv")):
        make_run(tmp_path / name, center=center, ids=ids, folds=np.zeros(5, int))
    assert compare_sweep(tmp_path, None).startswith("5 tiles")


def test_identical_runs_do_not_differ(tmp_path):
    make_run(tmp_path / "a", scores_of(1), "none")
    make_run(tmp_path / "b", scores_of(1), "conv")
    text = compare_sweep(tmp_path, None)
    assert rows_of(text)["b"][1:4] == ["+0.0000", "[+0.0000, +0.0000]", "no"]
    assert csv_of(tmp_path).loc["b", "difference"] == 0
    assert "differences are to a (the first run)" in text


def test_the_files_hold_the_text_and_a_picture(tmp_path):
    for i in range(30):
        make_run(tmp_path / f"loss=$\\no_formula{i}$", scores_of(i), data=settings("none")["data"] | {"fold_seed": i})
    text = compare_sweep(tmp_path, None)
    assert text.startswith((tmp_path / "compare.md").read_text().rstrip("\n"))
    assert text.endswith(f"written in {tmp_path}: compare.md, compare.csv, compare.png")
    assert len(csv_of(tmp_path)) == 30
    height, width, _ = cv2.imread(str(tmp_path / "compare.png")).shape
    assert height > 30 * 20 and width > 500
    assert not list(tmp_path.glob(".*"))


def test_the_table_is_printed_where_it_cannot_be_written(tmp_path, monkeypatch, capsys):
    make_run(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "compare.md").mkdir()  # in the way
    command(monkeypatch, "a")
    said = capsys.readouterr().out
    assert "| a " in said and "not written: " in said and "compare.md cannot be written" in said


def test_a_table_of_one_run(tmp_path, monkeypatch, capsys):
    make_run(tmp_path / "only", scores_of(1))
    command(monkeypatch, tmp_path / "only", "--out", tmp_path / "made" / "here")
    assert list(rows_of(capsys.readouterr().out)) == ["only"]
    assert (tmp_path / "made" / "here" / "compare.png").is_file()
    assert list(rows_of(compare_sweep(tmp_path, None))) == ["only"]


def test_partial_runs_of_the_same_tiles(tmp_path):
    make_run(tmp_path / "a", ids=IDS[:8], folds=np.zeros(8, int), partial=True)
    make_run(tmp_path / "b", ids=IDS[:8], folds=np.zeros(8, int), center="conv", partial=True)
    assert compare_sweep(tmp_path, None).startswith("8 tiles scored in 1 fold (0), partial; ")


# ---- seeds


def test_seeds_are_one_row(tmp_path):
    parts = [scores_of(i) for i in range(4)]
    make_run(tmp_path / "center=conv,seed=0", parts[0], "conv", seed=0, name="x")
    make_run(tmp_path / "center=conv,seed=1", parts[1], "conv", seed=1, name="y")
    make_run(tmp_path / "center=none,seed=0", parts[2], "none", seed=0)
    make_run(tmp_path / "center=none,seed=1", parts[3], "none", seed=1)
    name_baseline(tmp_path, "center=none")
    text = compare_sweep(tmp_path, None)
    rows = rows_of(text)
    difference = (parts[0] + parts[1]) / 2 - (parts[2] + parts[3]) / 2
    assert "differences are to center=none (the sweep's baseline)" in text
    assert list(rows) == ["center=none", "center=conv"]
    assert [row[-1] for row in rows.values()] == ["2", "2"]
    assert rows["center=conv"][1] == f"{difference.mean():+.4f}"
    low, high = bootstrap(difference[None], FOLDS)[0]
    assert rows["center=conv"][2] == f"[{low:+.4f}, {high:+.4f}]"


def test_where_and_how_a_run_worked_is_no_other_setting(tmp_path):
    trainer = settings("none")["trainer"]
    make_run(tmp_path / "a", seed=0)
    make_run(tmp_path / "b", seed=1, trainer=trainer | {"device": "cuda", "workers": 3})
    make_run(tmp_path / "c", seed=2, trainer=trainer | {"epochs": trainer["epochs"] + 1})
    assert {label: row[-1] for label, row in rows_of(compare_sweep(tmp_path, None)).items()} == {"a": "2", "c": "1"}


def test_a_repeated_seed_is_no_second_seed(tmp_path):
    make_run(tmp_path / "a", scores_of(1), seed=0)
    make_run(tmp_path / "b", scores_of(2), seed=0)
    make_run(tmp_path / "c", scores_of(3), seed=1)
    rows = rows_of(compare_sweep(tmp_path, None))
    assert {label: row[-1] for label, row in rows.items()} == {"a": "2", "b": "1"}
    assert rows["a"][0] == f"{np.mean([scores_of(1), scores_of(3)]):.4f}"


def test_a_sweep_over_nothing_but_seeds(tmp_path):
    make_run(tmp_path / "seed=0", seed=0)
    make_run(tmp_path / "seed=1", seed=1)
    assert [row[-1] for row in rows_of(compare_sweep(tmp_path, "seed=1")).values()] == ["2"]


# ---- the baseline


@pytest.mark.parametrize(
    "asked", ["center=conv", "center=conv,seed=4", "{}/center=conv,seed=4", "{}/center=conv,seed=4/"]
)
def test_the_baseline_by_any_of_its_names(tmp_path, asked):
    make_run(tmp_path / "center=conv,seed=3", center="conv", seed=3)
    make_run(tmp_path / "center=conv,seed=4", center="conv", seed=4)
    make_run(tmp_path / "center=none,seed=3", center="none", seed=3)
    assert "are to center=conv (as asked)" in compare_sweep(tmp_path, asked.format(tmp_path))


@pytest.mark.parametrize("asked", ["encoder.weights=a/b.pth", "encoder.weights=a%2Fb.pth"])
def test_the_baseline_of_a_sweep_over_paths(tmp_path, asked):
    make_run(tmp_path / "encoder.weights=a%2Fb.pth", center="conv")
    make_run(tmp_path / "encoder.weights=null")
    assert "are to encoder.weights=a%2Fb.pth (as asked)" in compare_sweep(tmp_path, asked)
    name_baseline(tmp_path, asked)
    assert "are to encoder.weights=a%2Fb.pth (the sweep's baseline)" in compare_sweep(tmp_path, None)


def test_an_unknown_baseline_names_the_labels(tmp_path):
    for label, center in {"a": "none", "b": "conv"}.items():
        make_run(tmp_path / label, center=center)
    with pytest.raises(ValueError, match=r"^baseline='x', expected a or b$"):
        compare_sweep(tmp_path, "x")
    make_run(tmp_path / "c", center="dblock")
    with pytest.raises(ValueError, match=r"^baseline='x', expected one of a, b, c$"):
        compare_sweep(tmp_path, "x")
    assert not (tmp_path / "compare.md").exists()


def test_the_first_run_given_is_the_baseline(tmp_path, monkeypatch, capsys):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", center="conv")
    monkeypatch.chdir(tmp_path)
    command(monkeypatch, "b", "a")
    assert "are to b (the first run)" in capsys.readouterr().out
    assert {file.name for file in tmp_path.glob("compare.*")} == {"compare.md", "compare.csv", "compare.png"}


@pytest.mark.parametrize("baseline", [None, "b"])
def test_a_sweep_may_name_no_baseline(tmp_path, baseline):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", center="conv")
    name_baseline(tmp_path, baseline)
    expected = "b (the sweep's baseline)" if baseline else "a (the first run)"
    assert f"are to {expected}" in compare_sweep(tmp_path, None)
    assert "are to a (as asked)" in compare_sweep(tmp_path, "a")


def test_a_failed_baseline_of_the_sweep_is_replaced_and_said(tmp_path):
    make_failed(tmp_path / "center=none")
    make_run(tmp_path / "center=conv", center="conv")
    name_baseline(tmp_path, "center=none")
    for asked in (None, "center=none"):  # the sweep itself asks for its own
        text = compare_sweep(tmp_path, asked)
        assert "are to center=conv (the first run; center=none has no score)" in text


def test_equal_names_in_two_sweeps_are_told_apart(tmp_path, monkeypatch, capsys):
    make_run(tmp_path / "x" / "a")
    make_run(tmp_path / "y" / "a", center="conv")
    command(monkeypatch, tmp_path / "x" / "a", tmp_path / "y" / "a", "--out", tmp_path)
    assert list(rows_of(capsys.readouterr().out)) == [str(tmp_path / "x" / "a"), str(tmp_path / "y" / "a")]


# ---- runs that are not compared

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


def test_failed_points_are_listed(tmp_path):
    make_run(tmp_path / "center=none")
    make_failed(tmp_path / "center=asp_oc", TRACEBACK)
    make_failed(tmp_path / "center=conv")
    make_failed(tmp_path / "center=fpa", "")
    (tmp_path / "center=x").mkdir()
    (tmp_path / "center=x" / "error.txt").write_text("killed\n")  # refused before it had a config
    problems = (
        'Traceback (most recent call last):\n  File "a"\nValueError: the config has 2 problems:\n  epochs: a\n  b\n'
    )
    make_failed(tmp_path / "center=y", problems)
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
    with pytest.raises(ValueError, match=r"no run with a score\n- no score: a \(ValueError: dilations"):
        compare_sweep(tmp_path, None)


# ---- refusals


def test_other_tiles_are_refused(tmp_path):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", center="conv", ids=[*IDS[:-3], "x", "y", "z"], partial=True)
    with pytest.raises(ValueError, match="different tiles") as caught:
        compare_sweep(tmp_path, None)
    message = str(caught.value)
    assert f"{tmp_path / 'a'} and {tmp_path / 'b'}" in message and f"{tmp_path / 'b'} is partial" in message
    assert len(re.findall(r"\d{8}e1|\b[xyz]\b", message.split("only one has")[1])) == 5 and "(6 tiles)" in message


def test_other_folds_are_refused(tmp_path):
    make_run(tmp_path / "a")
    moved = FOLDS.copy()
    moved[[2, 5]] = 1 - moved[[2, 5]]
    make_run(tmp_path / "b", center="conv", folds=moved)
    with pytest.raises(ValueError, match=f"different folds: {IDS[2]}, {IDS[5]};") as caught:
        compare_sweep(tmp_path, None)
    assert f"{tmp_path / 'a'} and {tmp_path / 'b'}" in str(caught.value)


HEAD = "id,fold,coverage,score\n"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("oof.csv", None, "oof.csv does not exist"),
        ("oof.csv", "", "oof.csv is damaged: No columns"),
        ("oof.csv", HEAD, "oof.csv is damaged: no tiles"),
        ("oof.csv", "id,iou\na,0.1\n", "oof.csv is damaged: it lacks the columns fold, coverage, score"),
        ("oof.csv", HEAD + "a,0,0,much\n", "oof.csv is damaged: .*much"),
        ("oof.csv", HEAD + "a,zero,0,0.1\n", "oof.csv is damaged: .*zero"),
        ("oof.csv", HEAD + "a,0,0,\n", "oof.csv is damaged: "),
        ("oof.csv", HEAD + "a,0,0\n", "oof.csv is damaged: "),
        ("oof.csv", HEAD + "a,0,0,nan\n", "oof.csv is damaged: "),
        ("oof.csv", HEAD + "a,0,0,1.5\n", "oof.csv is damaged: a score is not within"),
        ("oof.csv", HEAD + "a,0,0,1\na,1,0,1\n", "oof.csv is damaged: tile a stands in it twice"),
        ("oof.csv", HEAD + "a,0,0,1\nb,0,0,1,1,1\n", "oof.csv is damaged: "),
        ("oof.csv", b"\xff\xfe\x00\x01", "oof.csv is damaged: "),
        ("score.json", None, r"has no score.json yet \(OSError: disk full\): finish the run"),
        ("score.json", "{", "score.json is damaged: "),
        ("score.json", "[]", "score.json is damaged: "),
        ("config.yaml", None, "is no run directory, it has no config.yaml"),
        ("config.yaml", "", "config.yaml is damaged: it holds no settings"),
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
        command(monkeypatch, run, make_run(tmp_path / "b", center="conv"), "--out", tmp_path / "out")
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
        (tmp_path / "empty",): "empty is no run directory, it has no config.yaml",
        (run, sweep): r"s is no run directory.*to compare the runs in it \(p, q\) give it alone",
        (run, tmp_path / "." / "s" / ".." / "a"): "one run is given more than once",
        (run, "--baseline", "b"): "baseline='b', expected a",
        (run, "--out", file / "x"): "Not a directory",
    }
    for arguments, message in cases.items():
        with pytest.raises(SystemExit, match=f"^salt-compare: .*{message}"):
            command(monkeypatch, *arguments)
    with pytest.raises(ValueError, match="empty holds no runs"):
        compare_sweep(tmp_path / "empty", None)
    (sweep / "multirun.yaml").write_text("hydra: [")
    with pytest.raises(ValueError, match=r"multirun.yaml is damaged"):
        compare_sweep(sweep, None)


def test_the_command_is_quick_to_start_and_ends_with_its_code(tmp_path):
    make_run(tmp_path / "a")
    code = "import sys, salt.commands.compare; salt.commands.compare.main(); sys.exit('torch' in sys.modules)"
    good = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert good.returncode == 0 and "| a " in good.stdout, good.stderr
    bad = subprocess.run([sys.executable, "-m", "salt.commands.compare", "nowhere"], capture_output=True, text=True)
    assert bad.returncode == 1 and bad.stderr.endswith("salt-compare: nowhere does not exist\n")
    assert "Traceback" not in bad.stderr
