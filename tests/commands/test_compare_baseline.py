"""Seeds that are one row, and the row to compare with."""

import numpy as np
import pandas as pd
import pytest
from test_compare import FOLDS, command, csv_of, make_failed, make_run, name_baseline, rows_of, scores_of, settings

from salt.comparing.seeds import Side, seed_margin, widen
from salt.comparing.tables import compare_sweep
from salt.scoring.bootstrap import bootstrap


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
    spreads = [np.std([a.mean(), b.mean()], ddof=1) for a, b in (parts[2:], parts[:2])]
    assert [row[-1] for row in rows.values()] == [f"2 ({spread:.4f})" for spread in spreads]
    assert csv_of(tmp_path)["seed_spread"].astype(float).tolist() == pytest.approx(spreads)
    assert rows["center=conv"][1] == f"{difference.mean():+.4f}"
    sides = [Side(np.stack(pair), FOLDS) for pair in (parts[:2], parts[2:])]
    low, high = widen(difference.mean(), *bootstrap(difference[None], FOLDS)[0], seed_margin(sides))
    assert rows["center=conv"][2] == f"[{low:+.4f}, {high:+.4f}]"
    assert csv_of(tmp_path)["interval_over"].tolist() == ["", "tiles, seeds"]


def spread_over_seeds(folder, spread, n=2):
    """Runs of two settings: by tile the second is better by 0.067 without exception, by seed both vary."""
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


def test_with_one_seed_it_is_resolved_for_the_tiles_only(tmp_path):
    assert spread_over_seeds(tmp_path / "a", 0.094, n=1)[3] == "tiles only"
    spread_over_seeds(tmp_path / "b", 0.001)
    for name in "xy":  # one seed each, since the same one twice is no second seed
        make_run(tmp_path / f"b/center=dblock{name}", np.full(20, 0.9), "dblock", seed=1)
    rows = rows_of(compare_sweep(tmp_path / "b", "center=none"))
    assert [cells[3] for label, cells in rows.items() if label.startswith("center=dblock")] == ["tiles only"] * 2
    assert csv_of(tmp_path / "b")["interval_over"].tolist() == ["", "tiles", "tiles", "tiles, seeds"]


def test_all_tiles_empty_need_no_seed(tmp_path):
    spread_over_seeds(tmp_path, 0.01)
    text = compare_sweep(tmp_path, "center=none")
    table = pd.read_csv(tmp_path / "compare.csv").set_index("run")
    assert table.loc["all empty", "interval_over"] == "tiles, seeds" and "single seed" not in " ".join(text.split())


def test_where_and_how_a_run_worked_is_no_other_setting(tmp_path):
    trainer = settings("none")["trainer"]
    make_run(tmp_path / "a", seed=0)
    make_run(tmp_path / "b", seed=1, trainer=trainer | {"device": "cuda", "workers": 3})
    make_run(tmp_path / "c", seed=2, trainer=trainer | {"epochs": trainer["epochs"] + 1})
    assert {label: row[-1] for label, row in rows_of(compare_sweep(tmp_path, None)).items()} == {
        "a": "2 (0.0000)",
        "c": "1",
    }


def test_a_repeated_seed_is_no_second_seed(tmp_path):
    make_run(tmp_path / "a", scores_of(1), seed=0)
    make_run(tmp_path / "b", scores_of(2), seed=0)
    make_run(tmp_path / "c", scores_of(3), seed=1)
    rows = rows_of(compare_sweep(tmp_path, None))
    assert {label: row[-1].split()[0] for label, row in rows.items()} == {"a": "2", "b": "1"}
    assert rows["a"][0] == f"{np.mean([scores_of(1), scores_of(3)]):.4f}"


def test_a_sweep_over_nothing_but_seeds(tmp_path):
    make_run(tmp_path / "seed=0", seed=0)
    make_run(tmp_path / "seed=1", seed=1)
    rows = rows_of(compare_sweep(tmp_path, "seed=1"))
    assert {label: row[-1].split()[0] for label, row in rows.items()} == {tmp_path.name: "2"}


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
    assert {file.name for file in tmp_path.glob("compare.*")} == {
        "compare.html",
        "compare.md",
        "compare.csv",
        "compare.png",
    }


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
