"""compare.html: its numbers, and the tiles on which two runs differ."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import salt

from salt.commands import compare
from salt.data import rle
from salt.reporting import gallery
from salt.runs.stacks import read_probabilities, save_stack
from salt.scoring.metrics import is_salt


@pytest.fixture
def runs(finished, tmp_path):
    """Two runs of the same tiles: the second predicts other probabilities."""
    for name in "ab":
        shutil.copytree(finished / "runs/a", tmp_path / "runs" / name)
    other = tmp_path / "runs/b"
    ids, probabilities = read_probabilities(other / "oof.npz")
    changed = np.random.default_rng(0).random(probabilities.shape).astype(np.float16)
    save_stack(other / "oof.npz", np.array(ids), probabilities=changed)
    table = pd.read_csv(other / "oof.csv", dtype={"id": str})
    table["score"] = np.arange(len(table)) % 11 / 10
    table.to_csv(other / "oof.csv", index=False)
    config = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(config.replace("seed: 0", "seed: 1", 1).replace("epochs: 2", "epochs: 3"))
    return tmp_path


def compare_in(folder, *words):
    return salt(folder, *words, "--out", "out", main=compare.main)


def read(folder):
    page = (folder / "compare.html").read_text()
    found = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    return page, [json.loads(text) for text in found]


def test_the_tiles_that_changed_most_are_side_by_side(runs, synthetic_root):
    ended = compare_in(runs, "runs/a", "runs/b", "--root", synthetic_root)
    assert ended.returncode == 0 and "compare.html" in ended.stdout, ended.stderr
    page, (index, tiles) = read(runs / "out")
    tables = [pd.read_csv(runs / f"runs/{name}/oof.csv", dtype={"id": str}).set_index("id") for name in "ab"]
    change = tables[1]["score"] - tables[0]["score"]
    assert sorted(index["id"]) == sorted(change.index) and len(tiles) == 24
    assert index["change"] == pytest.approx([round(change[i], 2) for i in index["id"]])
    sizes = np.abs(index["change"])
    assert (np.diff(sizes) <= 1e-9).all()
    for name, place in (("a", 0), ("b", 1)):
        ids, probabilities = read_probabilities(runs / f"runs/{name}/oof.npz")
        for k in (0, 9, 23):
            i = ids.index(index["id"][k])
            expected = is_salt(probabilities[i], tables[place]["threshold"].iloc[i])
            np.testing.assert_array_equal(rle.decode(tiles[k][2][place][1][2], (101, 101)), expected)
    assert "a, the baseline" in page and "Tiles that changed" in page


def test_only_the_most_changed_ones_are_shown(runs, synthetic_root, monkeypatch):
    monkeypatch.setattr(gallery, "MOST_CHANGED", 5)
    ended = compare_in(runs, "runs/a", "runs/b", "--root", synthetic_root)
    assert ended.returncode == 0
    page, (index, _) = read(runs / "out")
    assert len(index["id"]) == 5 and "Of 24 scored tiles the 5 that changed most are in this page" in page


def test_without_data_the_numbers_are_there(runs):
    ended = compare_in(runs, "runs/a", "runs/b", "--root", "nowhere")
    assert ended.returncode == 0
    page, found = read(runs / "out")
    assert found == [] and "there is no folder nowhere" in page and "Cost and score" in page


def test_names_are_escaped(runs, synthetic_root):
    evil = "<script>alert(1)<&$x$"
    (runs / "runs/b").rename(runs / "runs" / evil)
    ended = compare_in(runs, "runs/a", f"runs/{evil}", "--root", synthetic_root)
    assert ended.returncode == 0, ended.stderr
    page, _ = read(runs / "out")
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)&lt;&amp;$x$" in page


def test_three_runs_show_no_tiles_and_unknown_times_are_dashes(runs):
    third = shutil.copytree(runs / "runs/b", runs / "runs/c")
    (third / "config.yaml").write_text((third / "config.yaml").read_text().replace("epochs: 3", "epochs: 4"))
    score = json.loads((third / "score.json").read_text())
    for row in score["folds"]:
        del row["seconds"], row["images_per_second"], row["memory_gb"]
    (third / "score.json").write_text(json.dumps(score))
    assert compare_in(runs, "runs/a", "runs/b", "runs/c").returncode == 0
    page, found = read(runs / "out")
    assert found == [] and page.count("<td>-</td>") == 3 * 2 + 1  # of c and "all empty", which has no seed either
    assert "there is no" not in page
