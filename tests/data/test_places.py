"""mosaic.csv: which tiles lie in one section, and what that changes in a run."""

import logging
import types

import numpy as np
import pandas as pd
import pytest
from conftest import TINY, raw_config, salt

from salt.config import check_config
from salt.data.folds import MOSAIC, assign_folds, known_sections
from salt.data.source import source_of

IDS = [f"t{i}" for i in range(12)]


@pytest.fixture
def root(tmp_path):
    """A folder with a table in which tiles 0 to 3 and 4 to 6 lie together, 7 to 9 alone, and 10 and 11 are lacking."""
    (tmp_path / "mosaic.csv").write_text(
        "id,mosaic,row,column,confidence\n"
        + "".join(f"t{i},{0 if i < 4 else 1 if i < 7 else i},0,{i},1\n" for i in range(10))
        + "elsewhere,0,5,5,1\n"
    )
    return tmp_path


def data_of(root, *overrides):
    return check_config(raw_config(*TINY, f"data.root={root}", *overrides))


def tiles():
    return types.SimpleNamespace(ids=IDS, coverage=np.array([0, 0.5] * 6), lines=None)


def test_the_sections_of_the_tiles(root):
    sections = known_sections(data_of(root).data, IDS)
    assert len(set(sections[:4])) == len(set(sections[4:7])) == 1 and len(set(sections)) == 7
    assert known_sections(data_of(root / "other").data, IDS) is None
    assert (known_sections(data_of("x", f"data.mosaic={root / 'mosaic.csv'}").data, IDS) == sections).all()


def test_beside_a_zip(tmp_path):
    (tmp_path / "all.zip").touch()
    for root, expected in (("all.zip", "mosaic.csv"), ("folder", "folder/mosaic.csv")):
        assert source_of(data_of(tmp_path / root).data).table(MOSAIC) == tmp_path / expected


def test_mosaic_folds_keep_sections_whole(root):
    folds = assign_folds(data_of(root, "data.folds=mosaic"), tiles())
    assert len(set(folds[:4])) == len(set(folds[4:7])) == 1 and set(folds) == {0, 1}


def test_random_folds_split_them_and_say_so(root, caplog):
    with caplog.at_level(logging.INFO):
        folds = assign_folds(data_of(root), tiles())
    assert len(set(folds[:4])) == 2
    assert "sections have tiles in several folds" in caplog.text and "data.folds=mosaic" in caplog.text


@pytest.mark.parametrize(
    ("content", "overrides", "message"),
    [
        (None, ["data.folds=mosaic"], "data.folds=mosaic: there is no file .*mosaic.csv; salt-data mosaic"),
        ("id,place\nt0,1\n", ["data.folds=mosaic"], "mosaic.csv is damaged, expected the columns id,mosaic,row,column"),
        ("id,mosaic,row,column\nz,0,0,0\n", ["data.folds=mosaic"], "mosaic.csv has none of the 12 training tiles"),
        (
            "id,mosaic,row,column\nt0,0,0,0\nt0,1,0,0\n",
            ["data.folds=mosaic"],
            "mosaic.csv is damaged: id t0 occurs twice",
        ),
        (None, ["data.mosaic=nowhere.csv"], "data.mosaic: there is no file nowhere.csv"),
    ],
)
def test_refused(tmp_path, content, overrides, message):
    if content is not None:
        (tmp_path / "mosaic.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        assign_folds(data_of(tmp_path, *overrides), tiles())


def test_a_table_that_no_setting_asks_for_stops_nothing(tmp_path, caplog):
    (tmp_path / "mosaic.csv").write_text("id,place\nt0,1\n")
    assert set(assign_folds(data_of(tmp_path), tiles())) == {0, 1}
    assert "mosaic.csv is damaged" in caplog.text


def test_ids_and_names_are_text(tmp_path):
    (tmp_path / "mosaic.csv").write_text("id,mosaic,row,column\nNA,NA,0,0\nb,NA,0,1\n007,null,0,2\n")
    sections = known_sections(data_of(tmp_path).data, ["NA", "007", "b"])
    assert sections[0] == sections[2] != sections[1]


@pytest.mark.slow
def test_a_run_with_sections_to_its_score(synthetic_root, tmp_path):
    ids = pd.read_csv(synthetic_root / "train.csv", dtype=str)["id"]
    table = pd.DataFrame({"id": ids, "mosaic": np.arange(len(ids)) // 2, "row": 0, "column": np.arange(len(ids)) % 2})
    table.to_csv(tmp_path / "places.csv", index=False)
    words = [*TINY, f"data.root={synthetic_root}", "data.folds=mosaic", "trainer.epochs=1", "report=true"]
    ended = salt(tmp_path, *words, f"data.mosaic={tmp_path / 'places.csv'}", "name=a")
    assert ended.returncode == 0, ended.stderr
    scored = pd.read_csv(tmp_path / "runs/a/oof.csv")
    assert (scored.groupby("section")["fold"].nunique() == 1).all() and (scored["section"].value_counts() == 2).all()
    score = pd.read_json(tmp_path / "runs/a/score.json", typ="series")
    low, high = score["interval"]
    assert low <= score["map"] <= high and score["interval_over"] == "sections"
    assert score["fold_spread"] == pytest.approx(abs(score["folds"][0]["map"] - score["folds"][1]["map"]) / 2**0.5)
    page = (tmp_path / "runs/a/report.html").read_text()
    assert "whole sections of neighbouring tiles" in page and f"{low:.4f}" in page
