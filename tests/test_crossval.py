import dataclasses
import gc
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.jobs import make_job

from salt import crossval
from salt.data.folds import assign_folds, keep_folds, write_folds
from salt.data.load import load_data
from salt.data.tiles import Dataset
from salt.job import Launch
from salt.machine import device as runtime_module
from salt.machine import distributed
from salt.machine.device import explain_out_of_memory
from salt.models.segmenter import Segmenter
from salt.out_of_fold import write_scores
from salt.runs.ensemble import read_ensemble
from salt.runs.files import write_json, write_text
from salt.runs.stacks import save_stack


@pytest.fixture
def tiles(tiny):
    train = load_data(tiny()).train
    images = train.images.copy()
    images[5] = 77  # a tile of one grey value
    return dataclasses.replace(train, images=images)


def job_of(config, tiles, path):
    """A job without a network, whose training tiles are these."""
    return make_job(config, path, Dataset(tiles, tiles), model=torch.nn.Identity())


def pretend_trained(job, *folds):
    tiles = job.data.train
    for fold in folds:
        index, path = job.held_out(fold), job.directory.fold_path(fold)
        probabilities = np.clip(tiles.masks[index] * 0.5 + 0.3, 0, 1).astype(np.float16)
        save_stack(path / "oof.npz", np.array([tiles.ids[i] for i in index]), probabilities=probabilities)
        write_json(path / "timing.json", {"epochs": 1, "seconds": 1.0, "images_per_second": 2.0, "memory_gb": None})
        write_text(path / "done", "")


def test_tiles_that_are_there_are_read_without_a_lock(tiny, tmp_path):
    root = tmp_path / "tiles"
    load_data(tiny(f"data.root={root}"))
    assert {file.name for file in tmp_path.iterdir()} == {"tiles", ".tiles.lock"}
    (tmp_path / ".tiles.lock").unlink()
    load_data(tiny(f"data.root={root}"))
    assert [file.name for file in tmp_path.iterdir()] == ["tiles"]


@pytest.mark.parametrize("policy", ["empty", "model"])
def test_constant_tiles_follow_the_setting_and_count(tiny, tiles, tmp_path, policy):
    job = job_of(tiny(f"data.constant_tiles={policy}"), tiles, tmp_path)
    pretend_trained(job, 0, 1)
    score = write_scores(job)
    assert score["n"] == 24
    with np.load(tmp_path / "oof.npz") as oof:
        constant = oof["probabilities"][oof["ids"].tolist().index(tiles.ids[5])]
    assert constant.any() == (policy == "model")


def test_missing_folds_are_named_and_the_rest_scored(tiny, tiles, tmp_path):
    job = job_of(tiny("data.n_folds=3", "data.constant_tiles=model"), tiles, tmp_path)
    pretend_trained(job, 0, 2)
    write_scores(job)
    score = json.loads((tmp_path / "score.json").read_text())
    assert score["partial"] is True and score["missing_folds"] == [1]
    assert [row["fold"] for row in score["folds"]] == [0, 2] and score["n"] == 16
    assert set(pd.read_csv(tmp_path / "oof.csv")["fold"]) == {0, 2}
    assert score["map"] == 1.0  # 0.8 on salt, 0.3 elsewhere: every threshold between finds the truth


@pytest.mark.parametrize("better", [False, True])
def test_a_run_that_is_no_better_than_all_tiles_empty_is_told(tiny, tiles, tmp_path, caplog, better):
    job = job_of(tiny("data.n_folds=2"), tiles, tmp_path)
    pretend_trained(job, 0, 1)
    for file in () if better else sorted(tmp_path.glob("fold_*/oof.npz")):
        with np.load(file) as oof:
            parts = {**oof, "probabilities": np.zeros_like(oof["probabilities"])}
        np.savez(file, **parts)
    empty = write_scores(job)["map_all_empty"]
    message = f"This run is no better than predicting every tile empty, which scores {empty:.4f}."
    assert (message in caplog.messages) == (not better)


@pytest.mark.parametrize(
    ("batch_size", "processes", "lower"), [(32, 1, 16), (7, 1, 3), (12, 4, 8), (128, 4, 64), (2, 1, 2)]
)
def test_a_lower_batch_size_is_one_that_the_processes_can_share(tiny, monkeypatch, batch_size, processes, lower):
    monkeypatch.setattr(distributed, "world_size", lambda: processes)
    trainer = tiny(f"trainer.batch_size={batch_size}").trainer
    with pytest.raises(ValueError, match=rf"trainer.batch_size={lower} 'accept="), explain_out_of_memory(trainer):
        raise RuntimeError("CUDA out of memory")


def test_given_folds_are_used_as_they_are(tiny, tiles, tmp_path):
    given = np.arange(24) % 2
    write_folds(tmp_path / "folds.csv", tiles.ids, given)
    assert (assign_folds(tiny(f"data.folds={tmp_path / 'folds.csv'}"), tiles) == given).all()


def test_other_folds_than_the_run_began_with_are_refused(tiles, tmp_path):
    keep_folds(tmp_path / "folds.csv", tiles.ids, np.arange(24) % 2, 2)
    keep_folds(tmp_path / "folds.csv", tiles.ids, np.arange(24) % 2, 2)
    with pytest.raises(ValueError, match=r"folds.csv differs"):
        keep_folds(tmp_path / "folds.csv", tiles.ids, 1 - np.arange(24) % 2, 2)


@pytest.mark.parametrize("damage", ["lost", "empty", "truncated", "foreign"])
def test_damaged_predictions_of_a_fold_are_named(tiny, tiles, tmp_path, damage):
    job = job_of(tiny(), tiles, tmp_path)
    pretend_trained(job, 0, 1)
    file, other = (tmp_path / f"fold_{fold}/oof.npz" for fold in (1, 0))
    content = {"empty": b"", "truncated": file.read_bytes()[:100], "foreign": other.read_bytes()}
    file.unlink() if damage == "lost" else file.write_bytes(content[damage])
    told = "missing" if damage == "lost" else "damaged: "
    with pytest.raises(ValueError, match=rf"fold_1/oof\.npz is {told}.*Delete .*fold_1 to train this fold again"):
        write_scores(job)


def test_predictions_that_cannot_be_read_are_not_called_damaged(tiny, tiles, tmp_path, monkeypatch):
    job = job_of(tiny("folds=[0]"), tiles, tmp_path)
    pretend_trained(job, 0)

    def fails(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", fails)
    with pytest.raises(PermissionError, match=r"oof\.npz"):
        write_scores(job)


def test_lost_times_of_a_fold_are_told_and_stop_nothing(tiny, tiles, tmp_path, caplog):
    job = job_of(tiny(), tiles, tmp_path)
    pretend_trained(job, 0, 1)
    (tmp_path / "fold_0/timing.json").unlink()
    rows = write_scores(job)["folds"]
    assert "fold_0/timing.json is missing or damaged" in caplog.text
    assert [row["seconds"] for row in rows] == [None, 1.0] and [row["n"] for row in rows] == [12, 12]


@pytest.fixture
def submitted(monkeypatch):
    """The finished folds of each submission that is made."""
    submitted, make = [], crossval.make_submission

    def spy(network, tiles):
        submitted.append([int(file.parent.name.removeprefix("fold_")) for file in network.ensemble.first.files])
        make(network, tiles)

    monkeypatch.setattr(crossval, "make_submission", spy)
    return submitted


def test_a_submission_that_is_not_written_names_the_missing_folds(tiny, tmp_path, submitted, caplog):
    caplog.set_level("INFO")
    crossval.run(tiny("data.n_folds=3", "folds=[1]", "trainer.epochs=1"), tmp_path, Launch(in_parts=True))
    command = f"salt-submit {tmp_path}"
    assert f"no submission.csv while the folds [0, 2] are missing; {command} writes one" in caplog.messages
    assert submitted == []


@pytest.mark.slow
def test_a_submission_keeps_step_with_the_score_of_a_run_in_parts(tiny, tmp_path, submitted):
    for folds, in_parts in (("[0]", True), ("[1]", False), ("[2]", True)):
        crossval.run(tiny("data.n_folds=3", f"folds={folds}", "trainer.epochs=1"), tmp_path, Launch(in_parts=in_parts))
    assert submitted == [[0, 1], [0, 1, 2]]
    (tmp_path / "fold_2/done").unlink()
    crossval.run(tiny("data.n_folds=3", "folds=[1]", "trainer.epochs=1"), tmp_path, Launch(in_parts=True))
    assert submitted[2:] == [[0, 1]]


@pytest.mark.slow
def test_a_fold_that_another_process_finishes_meanwhile_is_not_in_the_submission(tiny, tmp_path, monkeypatch):
    options = "data.n_folds=2", "trainer.epochs=1"
    crossval.run(tiny(*options), tmp_path)
    done, load_engine = tmp_path / "fold_1/done", crossval.load_engine
    names, used = done.read_text(), []
    done.unlink()

    def load_while_another_fold_ends(config, files, *rest):
        done.write_text(names)
        used.extend(f"{file.parent.name}/{file.name}" for file in files)
        return load_engine(config, files, *rest)

    monkeypatch.setattr(crossval, "load_engine", load_while_another_fold_ends)
    crossval.run(tiny(*options, "folds=[0]"), tmp_path)
    record = json.loads((tmp_path / "submission.json").read_text())
    assert used == list(record["weights_sha256"]) == ["fold_0/model.safetensors"]
    used.clear()
    crossval.run(tiny(*options), tmp_path)  # finds that the fold is missing, and predicts again
    assert used == ["fold_0/model.safetensors", "fold_1/model.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [False, True])
def test_rank_0_alone_decides_about_folds_score_and_submission(tiny, tmp_path, monkeypatch, fresh):
    config = tiny("data.n_folds=2", "trainer.epochs=1")
    crossval.run(config, tmp_path)
    score = read_ensemble(tmp_path).score
    (tmp_path / "submission.csv").unlink()  # what another rank would find on the disk
    (tmp_path / "fold_0/done").rename(tmp_path / "done")
    told, submitted = iter([True, True, score | {"map": 0.25}, fresh]), []

    def from_main(function):
        if len(submitted) == 0 and (answer := next(told)) is not score:
            return answer
        return pytest.fail("asked more than this")

    def make(network, tiles):
        submitted.append(network.ensemble.score["map"])

    (tmp_path / "done").rename(tmp_path / "fold_0/done")
    monkeypatch.setattr(distributed, "from_main", from_main)
    monkeypatch.setattr(crossval, "train_fold", pytest.fail)
    monkeypatch.setattr(crossval, "write_scores", pytest.fail)
    monkeypatch.setattr(crossval, "make_submission", make)
    assert crossval.run(config, tmp_path) == 0.25
    assert next(told, None) is None and submitted == ([] if fresh else [0.25])


@pytest.mark.slow
def test_a_finished_run_predicts_again_only_what_is_not_fresh(tiny, tmp_path, submitted):
    config = tiny("trainer.epochs=1")
    crossval.run(config, tmp_path)
    kept = (tmp_path / "submission.csv").read_bytes()
    assert len(submitted) == 1 and json.loads((tmp_path / "submission.json").read_text())["weights_sha256"].keys() == {
        "fold_0/model.safetensors",
        "fold_1/model.safetensors",
    }
    crossval.run(config, tmp_path)
    assert len(submitted) == 1
    weights, other = tmp_path / "fold_0/model.safetensors", tmp_path / "fold_1/model.safetensors"

    def write(name, content):
        return lambda: (tmp_path / name).write_bytes(content)

    record = json.loads((tmp_path / "submission.json").read_text())
    changes = [
        write("submission.csv", b""),
        write("submission.json", b"{"),
        (tmp_path / "submission.csv").unlink,
        (tmp_path / "submission.json").unlink,
        write("submission.json", json.dumps(record | {"threshold": 0.05}).encode()),
        write("fold_0/model.safetensors", other.read_bytes()),
        write("fold_0/model.safetensors", weights.read_bytes()),
    ]
    for i, change in enumerate(changes):
        change()
        crossval.run(config, tmp_path)
        assert len(submitted) == 2 + i, i
    assert (tmp_path / "submission.csv").read_bytes() == kept
    weights.unlink()
    with pytest.raises(ValueError, match=r"fold_0/model\.safetensors cannot be used: .*Delete .*fold_0 to train"):
        crossval.run(config, tmp_path)


def test_a_finished_fold_keeps_no_checkpoint(tiny, tmp_path):
    config = tiny("folds=[0]", "trainer.epochs=1")
    crossval.run(config, tmp_path)
    assert sorted(file.name for file in (tmp_path / "fold_0").iterdir() if file.suffix != ".lock") == [
        *("done", "metrics.csv", "metrics.png", "model.safetensors", "oof.npz", "timing.json")
    ]
    (tmp_path / "fold_0/last.pt").write_bytes(b"left by a process that was killed just before")
    crossval.run(config, tmp_path)
    assert not (tmp_path / "fold_0/last.pt").exists()


@pytest.mark.slow
def test_all_folds_and_the_submission_share_one_compiled_network(tiny, tmp_path, monkeypatch):
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    compile = torch.compile
    monkeypatch.setattr(runtime_module, "missing_compiler", lambda device: None)  # none is used here
    monkeypatch.setattr(torch, "compile", lambda model, **options: compile(model, backend=backend, **options))
    counts = []
    for folds in ("[0]", "[0,1]"):
        graphs.clear()
        crossval.run(tiny("trainer.epochs=1", "trainer.compile=true", f"folds={folds}"), tmp_path / folds)
        counts.append(len(graphs))
    assert counts[0] == counts[1] > 0
    assert (tmp_path / "[0]/fold_0/oof.npz").read_bytes() == (tmp_path / "[0,1]/fold_0/oof.npz").read_bytes()


def test_no_network_is_left_when_a_run_gives_its_memory_back(tiny, tmp_path, monkeypatch):
    collect, left = gc.collect, []

    def networks():
        collect()
        return sum(type(thing) is Segmenter for thing in gc.get_objects())

    before = networks()
    monkeypatch.setattr(runtime_module.gc, "collect", lambda: left.append(networks()))
    crossval.run(tiny("trainer.epochs=1", "folds=[0]"), tmp_path)
    assert left[-1] == before
