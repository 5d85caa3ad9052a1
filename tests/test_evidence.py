"""The evidence program: what is trained next, how a fold is kept, and what the page makes of the folds."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import raw_config

from salt.config import check_config

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import evidence
import evidence_folds
import evidence_page
from evidence_folds import Measured, Row, Unit

HERE, ELSEWHERE = ("cpu A", "AVX512", "bf16"), ("cpu B", "AVX2", "fp32")
BASE = Row("base", "base", "base", [], [0, 1], [0, 1])
GATE = Row("gate", "article", "attention", ["attention=scse"], [0, 1], [0, 1])
ROWS = {"base": BASE, "gate": GATE}


def measured(row, seed, fold, kind=HERE, scores=None):
    ids = [f"t{fold}{i}" for i in range(40)]
    scores = np.full(40, 0.5) if scores is None else scores
    facts = {"row": row, "seed": seed, "fold": fold, "command": "salt-train", "commit": "c", "torch": "2"}
    facts |= dict(zip(evidence_folds.CONDITIONS, kind, strict=True)) | {"cpu_seconds": 100 + 100 * (row != "base")}
    return Measured(Unit(row, seed, fold), facts, pd.DataFrame({"id": ids, "score": scores, "iou": scores}))


def test_every_row_is_a_config():
    rows = evidence_folds.read_rows()
    for row in rows.values():
        unit = row.units(row.seeds[0])[-1]  # a row's folds differ in folds=[k] alone
        words = evidence.command_of(rows, unit, Path("data"))[1:]
        config = check_config(raw_config(*(word for word in words if not word.startswith("experiment=")), words[0]))
        assert config.trainer.epochs == 4 and config.data.folds == "mosaic" and config.fold_list == [unit.fold]
        assert config.trainer.tta


def test_the_base_comes_first_and_both_sides_are_of_one_kind():
    assert evidence.missing(ROWS, [], HERE[:2])[:4] == [
        Unit("base", 0, 0),
        Unit("gate", 0, 0),
        Unit("base", 0, 1),
        Unit("gate", 0, 1),
    ]
    done = [measured("base", 0, 0, ELSEWHERE), measured("gate", 0, 0, ELSEWHERE), measured("base", 0, 1, ELSEWHERE)]
    todo = evidence.missing(ROWS, done, HERE[:2])
    assert Unit("gate", 0, 0) not in todo and Unit("base", 0, 0) not in todo  # a pair, though of another kind
    assert todo[:2] == [Unit("base", 0, 1), Unit("gate", 0, 1)]  # the other side cannot be used here
    assert evidence.missing(ROWS, done, ELSEWHERE[:2])[0] == Unit("gate", 0, 1)
    apart = [measured("base", 0, 1, HERE), measured("gate", 0, 1, ELSEWHERE)]  # two kinds make no pair
    assert Unit("gate", 0, 1) in evidence.missing(ROWS, apart, HERE[:2])
    everything = [measured(row, seed, fold) for row in ROWS for seed in (0, 1) for fold in (0, 1)]
    assert not evidence.missing(ROWS, everything, HERE[:2])


def test_a_fold_survives_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(evidence_folds, "EVIDENCE", tmp_path)
    fold = measured("gate", 1, 0, scores=np.linspace(0, 1, 40))
    evidence_folds.write_fold(fold)
    (found,) = evidence_folds.read_measured(tmp_path / "folds")
    assert found.unit == fold.unit and found.facts == fold.facts and found.kind == HERE
    pd.testing.assert_frame_equal(found.tiles, fold.tiles, rtol=1e-5)


@pytest.fixture
def noisy():
    """A gate that is worth 0.03 in every fold and seed, and noise of tiles."""
    rng = np.random.default_rng(0)
    tiles = {fold: rng.uniform(0.2, 0.8, 40) for fold in (0, 1)}
    return [
        measured(row, seed, fold, scores=tiles[fold] + 0.03 * (row == "gate") + rng.normal(0, 0.01, 40))
        for row in ROWS
        for seed in (0, 1)
        for fold in (0, 1)
    ]


def test_the_worth_of_a_row(noisy):
    worth = evidence_page.weigh(GATE, noisy, pd.Series(dtype=float))
    table = pd.concat([m.tiles.assign(row=m.unit.row) for m in noisy]).groupby("row")["score"].mean()
    assert worth.difference == pytest.approx(table["gate"] - table["base"])
    assert worth.low < 0.03 < worth.high and worth.high - worth.low < 0.03
    assert worth.verdict == "use it" and worth.over == "sections, seeds" and worth.cost == 2 and worth.n_folds == 2
    one = evidence_page.weigh(GATE, [m for m in noisy if m.unit.seed == 0], pd.Series(dtype=float))
    assert one.over == "sections" and one.seeds == [0]
    half = [m for m in noisy if (m.unit.row, m.unit.seed, m.unit.fold) != ("gate", 1, 1)]
    assert evidence_page.weigh(GATE, half, pd.Series(dtype=float)).seeds == [0]  # seed 1 lacks a fold
    assert evidence_page.weigh(GATE, [m for m in noisy if m.unit.row == "base"], pd.Series(dtype=float)) is None


def test_kinds_of_machines_are_never_mixed(noisy):
    moved = [
        Measured(m.unit, m.facts | dict(zip(evidence_folds.CONDITIONS, ELSEWHERE, strict=True)), m.tiles)
        for m in noisy
        if m.unit.row == "gate"
    ]
    assert evidence_page.weigh(GATE, [m for m in noisy if m.unit.row == "base"] + moved, pd.Series(dtype=float)) is None


def test_holm():
    def worth(name, p):
        return evidence_page.Worth(Row(name, "article", "", [], [0], [0]), 1, [0], 0.5, 0.5, -1, 1, "sections", 1.0, p)

    found = evidence_page.holm([worth("a", 0.01), worth("b", 0.04), worth("c", 0.03), worth("d", 0.9)])
    assert found == pytest.approx({"a": 0.04, "c": 0.09, "b": 0.09, "d": 0.9})  # Holm 1979 by hand


def test_the_page(noisy, tmp_path, monkeypatch):
    for module in (evidence_folds, evidence_page):
        monkeypatch.setattr(module, "EVIDENCE", tmp_path)
    monkeypatch.setattr(evidence_page, "PAGE", tmp_path / "evidence.md")
    monkeypatch.setattr(evidence_page, "read_rows", lambda: ROWS)
    monkeypatch.setattr(evidence_page, "read_measured", lambda: noisy)
    (tmp_path / "protocol.md").write_text("# Worth\n", encoding="utf-8")
    evidence_page.write_page()
    text = (tmp_path / "evidence.md").read_text(encoding="utf-8")
    assert text.startswith("# Worth\n") and "`attention=scse`" in text and "use it" in text
    assert (tmp_path / "article.svg").stat().st_size and json.dumps("Nothing is measured yet.") not in text
