"""salt-blend: the weighted mean of runs, which is reported, compared, submitted and loaded as a run is."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import TINY
from conftest import salt as run

import salt
from salt.commands import blend as command
from salt.commands import compare, report, submit
from salt.data.tgs import read_dataset
from salt.inference import blend
from salt.runs.ensemble import Member
from salt.runs.rundir import RunDir
from salt.scoring import metrics


@pytest.fixture(scope="module")
def runs(finished, synthetic_root):
    ended = run(finished, *TINY, f"data.root={synthetic_root}", "name=b", "seed=1", "loss=lovasz")
    assert ended.returncode == 0, ended.stderr
    ended = run(finished, "runs/a", "runs/b", "--out", "runs/ab", "--root", synthetic_root, main=command.main)
    assert ended.returncode == 0, ended.stderr
    return finished / "runs"


def oof(path):
    with np.load(path / "oof.npz") as file:
        return file["ids"], file["probabilities"].astype(np.float64)


def test_the_score_is_that_of_the_weighted_mean(runs, synthetic_root):
    tiles = read_dataset(synthetic_root).train
    (ids, a), (_, b), (_, both) = (oof(runs / name) for name in ("a", "b", "ab"))
    table = pd.read_csv(runs / "ab/oof.csv", dtype={"id": str})
    masks = tiles.masks[[tiles.ids.index(i) for i in ids]]
    assert table["id"].tolist() == ids.tolist()
    for fold in (0, 1):
        here = (table["fold"] == fold).to_numpy()
        shares = (both - b)[here][np.abs(a - b)[here] > 0.05] / (a - b)[here][np.abs(a - b)[here] > 0.05]
        if len(shares):  # one weight for all tiles of a fold
            assert shares.std() < 0.02 and -0.01 < shares.mean() < 1.01
        scores = metrics.score_table(both[here].astype(np.float16), masks[here])
        column = metrics.THRESHOLDS.tolist().index(table["threshold"][here].unique().item())
        np.testing.assert_allclose(table["score"][here], scores[:, column])
    assert json.loads((runs / "ab/score.json").read_text())["map"] == pytest.approx(table["score"].mean())


def test_weights_have_the_least_cross_entropy():
    rng = np.random.default_rng(0)
    masks = (rng.random((40, 30, 30)) < 0.4).astype(np.uint8)
    stacks = [np.clip(masks * s + rng.normal(0.3, 0.25, masks.shape), 0.01, 0.99) for s in (0.5, 0.3, -0.2)]
    weights = blend.choose_weights(stacks, masks)
    assert (weights >= 0).all() and weights.sum() == pytest.approx(1) and weights[2] < 0.02

    def cross_entropy(share):
        p = share * stacks[0] + (1 - share) * stacks[1]
        return -np.log(np.where(masks == 1, p, 1 - p)).mean()

    shares = np.linspace(0, 1, 201)
    best = shares[np.argmin([cross_entropy(share) for share in shares])]
    assert blend.choose_weights(stacks[:2], masks)[0] == pytest.approx(best, abs=0.05)


@pytest.mark.parametrize(("score", "says"), [(0.75, "map 0.7500, 0.0500 less than b alone ("), (0.85, "map 0.8500;")])
def test_a_blend_that_scores_less_than_one_of_its_runs_says_so(score, says):
    members = [Member(RunDir(Path(name)), None, {"map": value}) for name, value in (("a", 0.7), ("b", 0.8))]
    text = command.describe_blend(Path("ab"), members, np.array([0.4, 0.6]), score)
    assert "0.60  b  (map 0.8000)" in text and says in text


def test_weights_and_threshold_of_a_fold_ignore_its_tiles():
    rng = np.random.default_rng(0)
    masks = (rng.random((20, 30, 30)) < 0.4).astype(np.uint8)
    stacks = [np.clip(masks * s + rng.normal(0.3, 0.25, masks.shape), 0, 1).astype(np.float16) for s in (0.5, 0.3)]
    folds = np.arange(20) % 2
    _, before, first = blend.blend(stacks, masks, folds)
    masks[folds == 0] = 1 - masks[folds == 0]
    _, after, second = blend.blend(stacks, masks, folds)
    assert np.array_equal(before[folds == 0], after[folds == 0])
    same = first.table["threshold"][folds == 0].to_numpy() == second.table["threshold"][folds == 0].to_numpy()
    assert same.all() and not np.array_equal(before[folds == 1], after[folds == 1])


def test_commands_take_it_as_a_run(runs, synthetic_root):
    images = read_dataset(synthetic_root).test.images
    words = ["--root", synthetic_root]
    assert {path.name for path in (runs / "ab").iterdir() if path.suffix != ".lock"} == {
        *("blend.json", "oof.csv", "oof.npz", "score.json")
    }
    printed = run(runs, "ab", *words, main=report.main).stdout
    assert "out-of-fold map" in printed and "lacks a part" not in printed and "fold_" not in printed
    table = run(runs, "a", "ab", "--out", ".", main=compare.main)
    assert table.returncode == 0 and "The runs differ in: blend" in table.stdout, table.stdout  # not in the seed alone
    ended = run(runs, "ab", *words, "--device", "cpu", main=submit.main)
    assert ended.returncode == 0, ended.stderr
    assert len(pd.read_csv(runs / "ab/submission.csv")) == 6
    content = json.loads((runs / "ab/blend.json").read_text())
    weights = [part["weight"] for part in content["runs"]]
    page = (runs / "ab/report.html").read_text()
    assert all(f"<td>{weight:.3f}</td>" in page for weight in weights) and "Settings that" not in page
    parts = [salt.load(runs / name, "cpu").predict(images) for name in ("a", "b")]
    expected = sum(w * part for w, part in zip(weights, parts, strict=True))
    np.testing.assert_allclose(salt.load(runs / "ab", "cpu").predict(images), expected, atol=1e-6)


def test_what_does_not_fit_is_refused(runs, synthetic_root, tmp_path):
    def refused(*words):
        ended = run(runs, *words, "--root", synthetic_root, main=command.main)
        assert ended.returncode == 1 and ended.stderr.count("\n") == 1
        return ended.stderr

    assert "expected two or more runs" in refused("a", "--out", "new")
    assert "this folder holds something else" in refused("a", "b", "--out", "a")
    assert "ab is a blend" in refused("a", "ab", "--out", "new")
    for file, before, after, message in (
        ("folds.csv", ",0", ",2", "have different folds (folds.csv)"),
        ("config.yaml", "nodata: null", "nodata: 3.0", "have different data.amplitudes or data.nodata"),
        ("environment.json", '"data_sha256": "', '"data_sha256": "0', "have different data (environment.json)"),
    ):
        other = shutil.copytree(runs / "b", tmp_path / file)
        text = (other / file).read_text()
        (other / file).write_text(text.replace(before, after))
        assert before in text and message in refused("a", other, "--out", "new")
    assert not (runs / "new").exists()
    trained = run(runs.parent, *TINY, f"data.root={synthetic_root}", "name=ab")
    assert trained.returncode == 1 and "runs/ab holds results but lacks config.yaml" in trained.stderr


def test_a_run_that_changed_since_is_noticed(runs, synthetic_root, tmp_path):
    shutil.copytree(runs, tmp_path / "runs")
    file = tmp_path / "runs/b/fold_0/model.safetensors"
    file.write_bytes((tmp_path / "runs/b/fold_1/model.safetensors").read_bytes())
    with pytest.raises(ValueError, match="has other weights than when"):
        salt.load(tmp_path / "runs/ab", "cpu")


def test_each_run_treats_constant_tiles_as_in_its_training(runs, tmp_path):
    shutil.copytree(runs, tmp_path / "runs")
    file = tmp_path / "runs/b/config.yaml"
    file.write_text(file.read_text().replace("constant_tiles: empty", "constant_tiles: model"))
    weight = json.loads((runs / "ab/blend.json").read_text())["runs"][1]["weight"]
    image = np.full((101, 101), 7, np.uint8)
    part = salt.load(tmp_path / "runs/b", "cpu").predict(image)
    assert part.min() > 0 and weight > 0
    np.testing.assert_array_equal(salt.load(tmp_path / "runs/ab", "cpu").predict(image), np.float32(weight) * part)


def test_a_run_without_weight_is_not_loaded(runs, tmp_path):
    shutil.copytree(runs, tmp_path / "runs")
    file = tmp_path / "runs/ab/blend.json"
    content = json.loads(file.read_text())
    content["runs"][0]["weight"], content["runs"][1]["weight"] = 0.0, 1.0
    file.write_text(json.dumps(content))
    both, b = (salt.load(tmp_path / "runs" / name, "cpu") for name in ("ab", "b"))
    image = np.arange(101 * 101, dtype=np.uint8).reshape(101, 101)
    assert len(both.predictors) == 1
    np.testing.assert_array_equal(both.predict(image), b.predict(image))


def test_an_unfinished_or_damaged_blend_is_refused_and_can_be_made_again(runs, synthetic_root, tmp_path):
    shutil.copytree(runs, tmp_path / "runs")
    (tmp_path / "runs/ab/score.json").unlink()
    ended = run(tmp_path, "runs/ab", "--root", synthetic_root, main=submit.main)
    assert ended.returncode == 1 and "runs/ab/score.json is missing" in ended.stderr
    (tmp_path / "runs/ab/blend.json").write_text('{"runs": [{"weight": 1}]}')
    ended = run(tmp_path, "runs/ab", "--root", synthetic_root, main=submit.main)
    assert ended.returncode == 1 and "runs/ab/blend.json is damaged" in ended.stderr
    shutil.rmtree(tmp_path / "runs/ab")
    (tmp_path / "runs/ab").mkdir()
    (tmp_path / "runs/ab/.collect.lock").touch()  # of a command that was killed
    words = ("runs/a", "runs/b", "--out", "runs/ab", "--root", synthetic_root)
    assert run(tmp_path, *words, main=command.main).returncode == 0
    assert (tmp_path / "runs/ab/score.json").read_bytes() == (runs / "ab/score.json").read_bytes()


def test_a_new_blend_leaves_nothing_of_an_old_one(runs, synthetic_root):
    folder = shutil.copytree(runs / "ab", runs / "again")
    left = ("submission.csv", "submission.json", "test.npz", "report.html", "report.png")
    for name in left:
        (folder / name).write_text("of other weights")
    words = ("runs/a", "runs/b", "--out", "runs/again", "--root", synthetic_root)
    assert run(runs.parent, *words, main=command.main).returncode == 0
    assert not any((folder / name).exists() for name in left)


def test_the_sections_are_those_of_the_first_run(runs, synthetic_root, tmp_path):
    shutil.copytree(runs / "a", tmp_path / "a")
    table = pd.read_csv(tmp_path / "a/oof.csv", dtype={"id": str})
    table.assign(section=np.arange(len(table)) // 2)[::-1].to_csv(tmp_path / "a/oof.csv", index=False)
    command.blend_runs([tmp_path / "a", runs / "b"], tmp_path / "ab", str(synthetic_root))
    blended = pd.read_csv(tmp_path / "ab/oof.csv", dtype={"id": str})
    assert blended["section"].tolist() == (np.arange(len(table)) // 2).tolist()
