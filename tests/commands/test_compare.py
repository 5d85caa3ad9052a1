"""The table of a comparison, its files, and seeds that are one row."""

import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pytest
from helpers.compared import (
    COVERAGE,
    FOLDS,
    IDS,
    N,
    csv_of,
    make_run,
    random_scores,
    rows_of,
    salt_compare,
    settings,
    write_multirun,
)

from salt.comparing.comparison import Side, seed_margin, widen
from salt.comparing.tables import compare_sweep
from salt.scoring.bootstrap import bootstrap


def test_scores_differences_and_order(tmp_path):
    a, b, c = random_scores(1), random_scores(2), np.minimum(random_scores(1) + 0.1, 1)
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
    assert "smaller effects need several seeds" in text

    again = rows_of(compare_sweep(tmp_path, "a"))
    assert again["c"][3] == "tiles only" and list(again) == ["a", "c", "b"]
    table = csv_of(tmp_path)
    assert list(table.columns) == [
        *("score", "difference", "low", "high", "resolved", "interval_over", "seeds", "seed_spread")
    ]
    assert float(table.loc["c", "score"]) == pytest.approx(c.mean())
    assert float(table.loc["c", "difference"]) == pytest.approx(np.mean(c - a))
    low, high = float(table.loc["c", "low"]), float(table.loc["c", "high"])
    assert 0 < low < np.mean(c - a) < high
    assert again["c"][2] == f"[{low:+.4f}, {high:+.4f}]"
    assert table.loc["a", ["low", "high", "resolved"]].tolist() == ["", "", ""]


def test_one_row_is_what_all_tiles_empty_would_score(tmp_path):
    make_run(tmp_path / "a", random_scores(1))
    make_run(tmp_path / "b", random_scores(2), "conv")
    text = compare_sweep(tmp_path, "a")
    empty = (COVERAGE[:N] == 0).astype(float)  # 1 for a tile without salt, 0 for a missed one
    low, high = bootstrap((empty - random_scores(1))[None], FOLDS)[0]
    table = pd.read_csv(tmp_path / "compare.csv").set_index("run")
    assert table.loc["all empty"].drop(["resolved", "interval_over", "seed_spread"]).tolist() == pytest.approx(
        [empty.mean(), (empty - random_scores(1)).mean(), low, high, 0]
    )
    line = next(line for line in text.splitlines() if line.startswith("| all empty "))
    assert line.split()[4:7:2] == [f"{empty.mean():.4f}", f"{np.mean(empty - random_scores(1)):+.4f}"]


@pytest.mark.parametrize(("shift", "resolved"), [(0.2, "tiles only"), (-0.2, "tiles only"), (0.0, "no")])
def test_one_seed_resolves_nothing_but_tiles(tmp_path, shift, resolved):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", 0.5 + shift + np.tile([0.1, 0.1, -0.1, -0.1], N // 4), "conv")
    assert rows_of(compare_sweep(tmp_path, None))["b"][3] == resolved


@pytest.mark.parametrize("scores", [np.full(10, 0.25), np.repeat([0.6, 0.1], [3, 7])], ids=["equal", "folds cancel"])
def test_rounding_resolves_nothing(tmp_path, scores):
    folds = np.repeat([0, 1], [3, 7])
    make_run(tmp_path / "a", 0.25, ids=IDS[:10], folds=folds)
    make_run(tmp_path / "b", scores, "conv", ids=IDS[:10], folds=folds)
    assert rows_of(compare_sweep(tmp_path, None))["b"][1:4] == ["+0.0000", "[+0.0000, +0.0000]", "no"]


def test_ids_stay_text(tmp_path):
    for name, center in (("a", "none"), ("b", "conv")):
        make_run(tmp_path / name, center=center, ids=["NA", "nan", "007", "7", "1e3"], folds=np.zeros(5, int))
    assert compare_sweep(tmp_path, None).startswith("5 tiles")


def test_partial_runs_of_the_same_tiles(tmp_path):
    for name, center in (("a", "none"), ("b", "conv")):
        make_run(tmp_path / name, center=center, ids=IDS[:8], folds=np.zeros(8, int), partial=True)
    assert compare_sweep(tmp_path, None).startswith("8 tiles scored in 1 fold (0), partial; ")


def test_the_files_hold_the_text_and_a_picture(tmp_path):
    for i in range(30):
        data = settings("none")["data"] | {"fold_seed": i}
        make_run(tmp_path / f"loss=$\\no_formula{i}$", random_scores(i), data=data)
    text = compare_sweep(tmp_path, None)
    assert text.startswith((tmp_path / "compare.md").read_text().rstrip("\n"))
    assert len(csv_of(tmp_path)) == 30
    height, width, _ = cv2.imread(str(tmp_path / "compare.png")).shape
    assert height > 30 * 20 and width > 500
    assert {file.name for file in tmp_path.iterdir() if file.is_file()} == {
        *("compare.html", "compare.md", "compare.csv", "compare.png")
    }


def test_the_table_is_printed_if_it_cannot_be_written(tmp_path, monkeypatch, capsys):
    make_run(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "compare.md").mkdir()  # in the way
    salt_compare(monkeypatch, "a")
    said = capsys.readouterr().out
    assert "| a " in said and "compare.md cannot be written" in said


def test_a_table_of_one_run(tmp_path, monkeypatch, capsys):
    make_run(tmp_path / "only", random_scores(1))
    salt_compare(monkeypatch, tmp_path / "only", "--out", tmp_path / "made" / "here")
    assert list(rows_of(capsys.readouterr().out)) == ["only"]
    assert (tmp_path / "made" / "here" / "compare.png").is_file()
    assert list(rows_of(compare_sweep(tmp_path, None))) == ["only"]


def test_the_command_is_quick_to_start_and_ends_with_its_code(tmp_path):
    make_run(tmp_path / "a")
    code = "import sys, salt.commands.compare; salt.commands.compare.main(); sys.exit('torch' in sys.modules)"
    good = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert good.returncode == 0 and "| a " in good.stdout, good.stderr
    bad = subprocess.run([sys.executable, "-m", "salt.commands.compare", "nowhere"], capture_output=True, text=True)
    assert bad.returncode == 1 and "nowhere" in bad.stderr and bad.stderr.count("\n") == 1


# ---- seeds


def test_seeds_are_one_row(tmp_path):
    parts = [random_scores(i) for i in range(4)]
    for i, (center, seed) in enumerate([("conv", 0), ("conv", 1), ("none", 0), ("none", 1)]):
        make_run(tmp_path / f"center={center},seed={seed}", parts[i], center, seed=seed, name=str(i))
    write_multirun(tmp_path, baseline="center=none")
    text = compare_sweep(tmp_path, None)
    rows = rows_of(text)
    difference = (parts[0] + parts[1]) / 2 - (parts[2] + parts[3]) / 2
    assert "differences are to center=none (the sweep's baseline)" in text
    assert list(rows) == ["center=none", "center=conv"]
    spreads = [np.std([a.mean(), b.mean()], ddof=1) for a, b in (parts[2:], parts[:2])]
    assert [row[-1] for row in rows.values()] == [f"2 ({spread:.4f})" for spread in spreads]
    assert csv_of(tmp_path)["seed_spread"].astype(float).tolist() == pytest.approx(spreads)
    assert rows["center=conv"][1] == f"{difference.mean():+.4f}"
    sides = [Side(np.stack(pair), FOLDS) for pair in (parts[:2], parts[2:])]
    low, high = widen(difference.mean(), *bootstrap(difference[None], FOLDS)[0], seed_margin(sides))
    assert rows["center=conv"][2] == f"[{low:+.4f}, {high:+.4f}]"
    assert csv_of(tmp_path)["interval_over"].tolist() == ["", "tiles, seeds"]


def spread_over_seeds(folder, spread, n=2):
    """The row of a setting that is better by 0.067 on each tile; both settings vary by seed."""
    base = np.linspace(0.2, 0.7, 20)
    for center, more in (("none", 0), ("conv", 0.067)):
        for seed in range(n):
            scores = base + more + spread * (seed - (n - 1) / 2)
            make_run(folder / f"center={center},seed={seed}", scores, center, seed=seed)
    rows = rows_of(compare_sweep(folder, "center=none"))
    return next(cells for label, cells in rows.items() if label.startswith("center=conv"))


@pytest.mark.parametrize(("spread", "verdict"), [(0.094, "no"), (0.0094, "yes")])
def test_a_difference_within_the_spread_of_the_seeds_is_not_resolved(tmp_path, spread, verdict):
    row = spread_over_seeds(tmp_path, spread)
    assert row[1] == "+0.0670" and row[3] == verdict
    table = pd.read_csv(tmp_path / "compare.csv").set_index("run")
    assert table.loc["all empty", "interval_over"] == "tiles, seeds"  # which needs no seed
    assert "single seed" not in (tmp_path / "compare.md").read_text()


def test_with_one_seed_it_is_resolved_for_the_tiles_only(tmp_path):
    assert spread_over_seeds(tmp_path / "a", 0.094, n=1)[3] == "tiles only"
    spread_over_seeds(tmp_path / "b", 0.001)
    for name in "xy":  # one seed each, since the same one twice is no second seed
        make_run(tmp_path / f"b/center=dblock{name}", 0.9, "dblock", seed=1)
    rows = rows_of(compare_sweep(tmp_path / "b", "center=none"))
    assert [cells[3] for label, cells in rows.items() if label.startswith("center=dblock")] == ["tiles only"] * 2
    assert csv_of(tmp_path / "b")["interval_over"].tolist() == ["", "tiles", "tiles", "tiles, seeds"]


def test_device_and_workers_are_no_other_setting(tmp_path):
    trainer = settings("none")["trainer"]
    make_run(tmp_path / "a", seed=0)
    make_run(tmp_path / "b", seed=1, trainer=trainer | {"device": "cuda", "workers": 3})
    make_run(tmp_path / "c", seed=2, trainer=trainer | {"epochs": trainer["epochs"] + 1})
    rows = rows_of(compare_sweep(tmp_path, None))
    assert {label: row[-1] for label, row in rows.items()} == {"a": "2 (0.0000)", "c": "1"}


def test_a_repeated_seed_is_no_second_seed(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_run(tmp_path / name, random_scores(ord(name)), seed=seed)
    rows = rows_of(compare_sweep(tmp_path, None))
    assert {label: row[-1].split()[0] for label, row in rows.items()} == {"a": "2", "b": "1"}
    assert rows["a"][0] == f"{np.mean([random_scores(ord('a')), random_scores(ord('c'))]):.4f}"
