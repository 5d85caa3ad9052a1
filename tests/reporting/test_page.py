"""report.html: its numbers, and what it does with runs that are damaged, partial or hostile."""

import base64
import json
import re
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import TINY
from conftest import salt as command

from salt import crossval
from salt.commands import report
from salt.data import rle
from salt.data.tgs import read_dataset
from salt.data.tiles import Tiles
from salt.reporting import gallery
from salt.reporting.facts import read_facts
from salt.reporting.page import confusion, page_content, render, write_report_page
from salt.runs.rundir import RunDir
from salt.runs.stacks import as_stack, read_probabilities
from salt.scoring.metrics import is_salt


@pytest.fixture
def copy(finished, tmp_path):
    return RunDir(shutil.copytree(finished / "runs/a", tmp_path / "runs/a"))


def scripts(page):
    """The JSON in a page, by its id, or for an index by its set."""
    found = re.findall(
        r'<script type="application/json" (?:class="tiles-index" data-set|id)="([^"]*)"[^>]*>(.*?)</script>',
        page,
        re.DOTALL,
    )
    return {name: json.loads(text) for name, text in found}


def read(run):
    return (run.path / "report.html").read_text()


def decode(text):
    return cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_GRAYSCALE)


def test_every_tile_is_in_the_page(copy, synthetic_root):
    facts = write_report_page(copy.path, str(synthetic_root))
    assert facts.problems == []
    parts, data = scripts(read(copy)), read_dataset(synthetic_root)
    table = pd.read_csv(copy.path / "oof.csv", dtype={"id": str})
    ids, probabilities = read_probabilities(copy.path / "oof.npz")
    index = parts["held_out"]
    assert index["id"] == ids == table["id"].tolist() and index["fold"] == table["fold"].tolist()
    assert index["score"] == pytest.approx(table["score"].tolist())
    for i, (image, truth, [(probability, prediction)]) in enumerate(parts["held_out-0"]):
        k = data.train.ids.index(ids[i])
        difference = np.abs(decode(image).astype(int) - data.train.images[k])
        assert difference.mean() < 8  # JPEG
        np.testing.assert_array_equal(decode(probability), np.rint(probabilities[i].astype(np.float32) * 255))
        assert truth[:2] == [101, 101]
        np.testing.assert_array_equal(rle.decode(truth[2], (101, 101)), data.train.masks[k])
        salt = is_salt(probabilities[i], table["threshold"][i])
        np.testing.assert_array_equal(rle.decode(prediction[2], (101, 101)), salt)
        assert index["missed"][i] == (data.train.masks[k] > salt).sum() and index["predicted"][i] == salt.any()
        assert index["wrong"][i] == (data.train.masks[k] != salt).sum()
    assert len(parts["held_out-0"]) == len(ids) == 24


def test_the_test_tiles_are_those_of_the_submission(copy, synthetic_root):
    write_report_page(copy.path, str(synthetic_root))
    parts, data = scripts(read(copy)), read_dataset(synthetic_root)
    submission = pd.read_csv(copy.path / "submission.csv", dtype=str, keep_default_na=False).set_index("id")["rle_mask"]
    _, shares = read_probabilities(copy.path / "test.npz")
    assert parts["test"]["id"] == data.test.ids and len(parts["test-0"]) == 6
    for i, (_, truth, [(probability, prediction)]) in enumerate(parts["test-0"]):
        assert prediction == [101, 101, submission[data.test.ids[i]]] and truth is None
        np.testing.assert_array_equal(decode(probability), shares[i])
        p = shares[i] / 255
        assert parts["test"]["unsure"][i] == pytest.approx(np.minimum(p, 1 - p).mean(), abs=1e-4)


def test_the_numbers_are_those_of_the_run(copy, synthetic_root):
    facts = read_facts(copy.path, str(synthetic_root))
    content = page_content(facts)
    score = json.loads((copy.path / "score.json").read_text())
    table = pd.read_csv(copy.path / "oof.csv")
    assert facts.score["interval"][0] < score["map"] < facts.score["interval"][1]
    assert sum(row["n"] for row in content["classes"]) == len(table)
    assert sum(row["share"] for row in content["classes"]) == pytest.approx(1)
    assert sum(row["share"] for row in content["kinds"]) == pytest.approx(1)
    assert content["kinds"][0]["name"] == "perfect" and content["kinds"][0]["share"] == 0
    assert content["seconds"] == pytest.approx(sum(row["seconds"] for row in score["folds"])) and content["memory"]
    for row in content["folds"]:
        assert row["thresholds"] == f"{table['threshold'][table['fold'] == row['fold']].iloc[0]:g}"
    cells = confusion(facts)
    assert sum(cells.values()) == 24 and cells["none_none"] + cells["none_some"] == (table["coverage"] == 0).sum()
    assert cells["none_none"] == ((table["coverage"] == 0) & (table["score"] == 1)).sum()
    assert [row["all_empty"] for row in content["folds"]] == [
        (table["coverage"][table["fold"] == fold] == 0).mean() for fold in (0, 1)
    ]
    page = (write_report_page(copy.path, str(synthetic_root)), read(copy))[1]
    assert f"<strong>{score['map']:.4f}</strong>" in page


def test_settings_that_differ_from_the_default_run_are_marked(copy, synthetic_root):
    found = {setting.key: setting for setting in read_facts(copy.path, str(synthetic_root)).settings}
    assert found["trainer.epochs"].differs and (found["trainer.epochs"].value, found["trainer.epochs"].default) == (
        2,
        50,
    )
    assert not found["optimizer.lr"].differs and not found["data.tile"].differs


DAMAGE = ["fold_1/metrics.csv", "environment.json", "oof.npz", "test.npz", "submission.csv"]


@pytest.mark.parametrize("content", [b"", b"{\x00", b"id,epoch\nx"])
@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.battery
def test_a_damaged_file_costs_its_part_alone(copy, synthetic_root, name, content):
    (copy.path / name).write_bytes(content)
    if name == "environment.json":
        with pytest.MonkeyPatch.context() as patch:  # the digest of the data lies in it
            patch.setattr(RunDir, "check_data", lambda *_: None)
            facts = write_report_page(copy.path, str(synthetic_root))
    else:
        facts = write_report_page(copy.path, str(synthetic_root))
    assert len(facts.problems) == 1 and name in facts.problems[0]
    page = read(copy)
    assert "Some parts of this page are missing" in page and 'id="by-fold"' in page
    parts = scripts(page)
    assert ("held_out" in parts) == (name != "oof.npz") and ("test" in parts) == (
        name not in ("test.npz", "submission.csv")
    )


@pytest.mark.parametrize("name", ["oof.csv", "score.json"])
def test_without_scores_there_is_no_page(copy, synthetic_root, name):
    (copy.path / name).write_bytes(b"{")
    with pytest.raises(ValueError, match=name):
        write_report_page(copy.path, str(synthetic_root))
    assert not (copy.path / "report.html").exists()


def test_without_data_the_rest_is_there(copy):
    facts = write_report_page(copy.path, "nowhere")
    assert len(facts.problems) == 1 and "there is no folder nowhere" in facts.problems[0]
    page = read(copy)
    assert "The tiles are not shown" in page and not scripts(page) and 'id="learning"' in page


def test_text_is_escaped(copy, synthetic_root, tmp_path):
    evil = '</script><script>alert("x")</script>&'
    renamed = RunDir(copy.path.rename(tmp_path / evil.replace("/", "%")))
    environment = json.loads((renamed.path / "environment.json").read_text())
    changed = {"gpu": evil, "command": [evil], "packages": {evil: evil}}
    (renamed.path / "environment.json").write_text(json.dumps(environment | changed))
    config = yaml.safe_load((renamed.path / "config.yaml").read_text())
    config["loss"][evil] = evil
    (renamed.path / "config.yaml").write_text(yaml.safe_dump(config))
    (renamed.path / "fold_0/metrics.csv").write_text(evil)
    write_report_page(renamed.path, str(synthetic_root))
    page = read(renamed)
    assert "alert" in page and "<script>alert" not in page and page.count("<script") == page.count("</script>")


def test_ids_are_escaped(finished, synthetic_root):
    evil = "</script><b>$x$"
    facts = read_facts(finished / "runs/a", str(synthetic_root))
    facts.table.loc[0, "id"] = evil
    assert "<b>" not in json.dumps(page_content(facts)["galleries"]["test"]["columns"])
    page = render("report.html.j2", **page_content(facts))
    assert evil not in page and scripts(page)["held_out"]["id"][0] == evil


def test_the_same_run_gives_the_same_page(copy, synthetic_root):
    pages = {(write_report_page(copy.path, str(synthetic_root)), read(copy))[1] for _ in range(2)}
    assert len(pages) == 1


def predicted(shapes):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    names = [f"t{i}" for i in range(len(shapes))]
    whole = Tiles(
        names, as_stack(images), as_stack([(i > 127).astype(np.uint8) for i in images]), np.full(len(shapes), np.nan)
    )
    probabilities = as_stack([(i / 255).astype(np.float16) for i in images])
    return gallery.Predicted(whole, np.arange(len(shapes)), probabilities, [p > 0.5 for p in probabilities])


def table_of(n):
    return pd.DataFrame(
        {
            "id": [f"t{i}" for i in range(n)],
            "fold": 0,
            "coverage": 0.5,
            "iou": 0.5,
            "score": np.arange(n) % 11 / 10,
            "threshold": 0.5,
        }
    )


def test_of_too_many_tiles_a_sample_of_all_ranks_is_shown(monkeypatch):
    monkeypatch.setattr(gallery, "MOST_HELD_OUT", 11)
    found = gallery.held_out_gallery(table_of(110), predicted([(8, 8)] * 110))
    assert found.n_all == 110 and len(found.table) == 11 and found.side is None
    assert sorted(found.table["score"]) == pytest.approx(np.arange(11) / 10)
    assert sum(len(json.loads(chunk)) for chunk in found.chunks) == 11


def test_large_images_are_shrunk_and_then_fewer(monkeypatch):
    shapes = [(300, 600), (50, 40), (600, 300)]
    monkeypatch.setattr(gallery, "LARGEST", 150)
    found = gallery.held_out_gallery(table_of(3), predicted(shapes))
    assert found.side == 150 and len(found.table) == 3
    tiles = json.loads(found.chunks[0])
    assert [decode(tile[0]).shape for tile in tiles] == [(75, 150), (50, 40), (150, 75)]
    assert [tile[1][:2] for tile in tiles] == [[75, 150], [50, 40], [150, 75]]
    assert [tile[2][0][1][:2] for tile in tiles] == [tile[1][:2] for tile in tiles]
    monkeypatch.setattr(gallery, "SMALLEST", 120)
    monkeypatch.setattr(gallery, "MOST_HELD_OUT", 2)
    monkeypatch.setattr(gallery, "MOST_PIXELS", 60 * 120)
    found = gallery.held_out_gallery(table_of(3), predicted(shapes))
    assert found.side == 120 and len(found.table) == 2


@pytest.mark.slow
def test_report_false_leaves_it_out_and_a_failing_page_does_not_fail_the_run(synthetic_root, tmp_path, monkeypatch):
    settings = [*TINY, f"data.root={synthetic_root}", "trainer.epochs=1", "name=a"]
    assert command(tmp_path, *settings, "folds=[0]").returncode == 0
    assert not (tmp_path / "runs/a/report.html").exists()
    ended = command(tmp_path, *settings, "folds=[0]", "report=true")
    assert ended.returncode == 0 and "runs/a/report.html: open it in a browser" in ended.stdout
    page = (tmp_path / "runs/a/report.html").read_text()
    assert "Partial: fold 1 is not trained" in page
    monkeypatch.setattr(crossval, "write_report_page", lambda *_, **__: 1 / 0)
    ended = command(tmp_path, *settings, "report=true")
    assert ended.returncode == 0 and "runs/a/report.html: ZeroDivisionError" in ended.stdout
    assert (tmp_path / "runs/a/report.html").read_text() == page  # the old one is kept


def test_salt_report_writes_it(copy, synthetic_root, tmp_path):
    ended = command(tmp_path, "runs/a", "--root", str(synthetic_root), main=report.main)
    assert ended.returncode == 0 and "report.html" in ended.stdout and "lacks a part" not in ended.stdout
    assert scripts(read(copy))["held_out"]["id"]


def test_places_in_sections_are_in_the_page_if_the_data_has_them(copy, synthetic_root, tmp_path):
    data = shutil.copytree(synthetic_root, tmp_path / "data")
    ids = read_dataset(data).train.ids
    rows = [f"{ids[0]},s1,0,0,1", f"{ids[1]},s1,0,1,1", f"{ids[2]},s2,-3,4,0.9", "other,s2,0,0,1"]
    (data / "mosaic.csv").write_text("\n".join(["id,mosaic,row,column,confidence", *rows]))
    assert write_report_page(copy.path, str(data)).problems == []
    index = scripts(read(copy))["held_out"]
    places = dict(zip(index["id"], zip(index["mosaic"], index["row"], index["column"], strict=True), strict=True))
    assert (
        places.pop(ids[0]) == ("s1", 0, 0)
        and places.pop(ids[1]) == ("s1", 0, 1)
        and places.pop(ids[2]) == ("s2", -3, 4)
    )
    assert set(places.values()) == {(None, None, None)}
    (data / "mosaic.csv").write_text("id,mosaic\na,b\n")
    (problem,) = write_report_page(copy.path, str(data)).problems
    assert "mosaic.csv is damaged" in problem
