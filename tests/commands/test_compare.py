import copy
import functools
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import raw_config

from salt.commands import compare
from salt.comparing.tables import compare_sweep
from salt.config import check_config
from salt.scoring.bootstrap import bootstrap

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
    node = {"hydra": {"callbacks": {"sweep": {"_target_": "salt.cli.sweep.Sweep", "baseline": baseline}}}}
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
    assert "smaller effects need several seeds" in text and "from seed to seed" in text

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
    make_run(tmp_path / "a", scores_of(1))
    make_run(tmp_path / "b", scores_of(2), "conv")
    text = compare_sweep(tmp_path, "a")
    empty = (COVERAGE[:N] == 0).astype(float)  # 1 for a tile without salt, 0 for a missed one
    low, high = bootstrap((empty - scores_of(1))[None], FOLDS)[0]
    table = pd.read_csv(tmp_path / "compare.csv").set_index("run")
    assert table.loc["all empty"].drop(["resolved", "interval_over", "seed_spread"]).tolist() == pytest.approx(
        [empty.mean(), (empty - scores_of(1)).mean(), low, high, 0]
    )
    line = next(line for line in text.splitlines() if line.startswith("| all empty "))
    assert line.split()[4:7:2] == [f"{empty.mean():.4f}", f"{np.mean(empty - scores_of(1)):+.4f}"]


@pytest.mark.parametrize(("shift", "resolved"), [(0.2, "tiles only"), (-0.2, "tiles only"), (0.0, "no")])
def test_one_seed_resolves_nothing_but_tiles(tmp_path, shift, resolved):
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
    assert text.endswith(f"written in {tmp_path}: compare.html, compare.md, compare.csv, compare.png")
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


# ---- the baseline


# ---- runs that are not compared


# ---- refusals


def test_the_command_is_quick_to_start_and_ends_with_its_code(tmp_path):
    make_run(tmp_path / "a")
    code = "import sys, salt.commands.compare; salt.commands.compare.main(); sys.exit('torch' in sys.modules)"
    good = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert good.returncode == 0 and "| a " in good.stdout, good.stderr
    bad = subprocess.run([sys.executable, "-m", "salt.commands.compare", "nowhere"], capture_output=True, text=True)
    assert bad.returncode == 1 and bad.stderr.endswith("salt-compare: nowhere does not exist\n")
    assert "Traceback" not in bad.stderr
