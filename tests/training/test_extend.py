"""accept=[trainer.epochs]: a run, finished or not, goes on to more epochs."""

import json
import shutil
import signal

import pandas as pd
import pytest
import torch
import yaml
from conftest import TINY, salt
from safetensors.torch import load_file

from salt import crossval
from salt.machine import interrupt
from salt.training import checkpoint, extend
from salt.training import fold as fold_module

MORE = ("trainer.epochs=4", "accept=[trainer.epochs]")


@pytest.fixture
def start(finished, synthetic_root, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)

    def train(*overrides):
        return salt(tmp_path, *TINY, f"data.root={synthetic_root}", "name=a", *overrides)

    return train


@pytest.mark.slow
def test_a_finished_run_goes_on(start, tmp_path):
    run = tmp_path / "runs/a"
    old = pd.read_csv(run / "fold_1/metrics.csv")
    weights = load_file(run / "fold_1/model.safetensors")
    before = {name: (run / name).read_bytes() for name in ("oof.npz", "submission.csv", "submission.json")}
    refused = start("trainer.epochs=4")
    assert refused.returncode == 1 and "trainer.epochs: 2 -> 4" in refused.stderr
    ended = start(*MORE)
    assert ended.returncode == 0, ended.stderr
    new = pd.read_csv(run / "fold_1/metrics.csv")
    pd.testing.assert_frame_equal(new[:2], old)
    assert new["epoch"].tolist() == [1, 2, 3, 4] and new["loss"].notna().all()
    assert 0 < new["lr"][2] < new["lr"].max()  # in the second half of a cosine over 4 epochs
    score = json.loads((run / "score.json").read_text())
    assert [row["epochs"] for row in score["folds"]] == [4, 4]
    assert score["folds"][1]["seconds"] == json.loads((run / "fold_1/timing.json").read_text())["seconds"]
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["epochs"] == 4
    assert "trainer.epochs: 2 -> 4" in json.loads((run / "environment.json").read_text())["changes"]
    after = load_file(run / "fold_1/model.safetensors")
    assert any(not torch.equal(after[name], weights[name]) for name in weights)
    assert all((run / name).read_bytes() != content for name, content in before.items() if name != "submission.csv")
    assert not list(run.glob("fold_*/*.pt"))
    again = start("trainer.epochs=4")
    assert again.returncode == 0 and "fold 1 is finished already" in again.stdout
    lower = start("trainer.epochs=3", "accept=[trainer.epochs]")
    assert lower.returncode == 1 and "fold_0 has 4 already; expected 4 or more" in lower.stderr


def test_it_begins_with_the_weights_that_were_the_result(start, tmp_path):
    weights = load_file(tmp_path / "runs/a/fold_0/model.safetensors")
    seen = []

    def spy(fold, state, batch):
        seen.append({name: value.clone() for name, value in state.model.state_dict().items()})
        return step(fold, state, batch)

    step = fold_module.train_step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fold_module, "train_step", spy)
        ended = start(*MORE, "folds=[0]")
    assert ended.returncode == 0 and "Fold 1 has fewer than trainer.epochs=4" in ended.stdout + ended.stderr
    assert all(torch.equal(seen[0][name], weights[name]) for name in weights)


@pytest.mark.parametrize("where", ["before the checkpoint", "before done is removed", "in the last epoch"])
@pytest.mark.slow
def test_killed_anywhere_it_ends_with_the_same_bytes(start, tmp_path, where):
    other = shutil.copytree(tmp_path / "runs/a", tmp_path / "kept")
    assert start(*MORE).returncode == 0
    names = ["oof.npz", "fold_0/model.safetensors", "fold_1/model.safetensors", "fold_0/metrics.csv"]
    expected = [(tmp_path / "runs/a" / name).read_bytes() for name in names]
    shutil.rmtree(tmp_path / "runs/a")
    shutil.copytree(other, tmp_path / "runs/a")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ZeroDivisionError):
        if where == "before the checkpoint":
            patch.setattr(checkpoint, "save", lambda *_: 1 / 0)
        elif where == "before done is removed":
            remove = extend.remove
            patch.setattr(extend, "remove", lambda *files: 1 / 0 if "done" in files[-1].name else remove(*files))
        else:
            step = fold_module.train_step
            patch.setattr(fold_module, "train_step", lambda f, state, b: 1 / (3 - state.epoch) and step(f, state, b))
        start(*MORE)
    assert (tmp_path / "runs/a/score.json").exists() == (where != "in the last epoch")
    assert start(*MORE).returncode == 0
    for name, content in zip(names, expected, strict=True):
        assert (tmp_path / "runs/a" / name).read_bytes() == content, name


@pytest.mark.parametrize("noted", [True, False])
@pytest.mark.slow
def test_a_run_that_is_not_finished_takes_the_longer_schedule(tiny, tmp_path, noted):
    step, rates = fold_module.train_step, {}

    def watch(key):
        def spy(fold, state, batch):
            rates.setdefault(key, {})[state.epoch, state.current.steps] = state.schedule.get_last_lr()[0]
            if key == "stopped" and (state.epoch, state.current.steps) == (1, 0):
                signal.raise_signal(signal.SIGTERM)
            return step(fold, state, batch)

        return spy

    for key, run, overrides in (
        ("whole", "whole", ["trainer.epochs=4"]),
        ("stopped", "raised", ["trainer.epochs=2"]),
        ("raised", "raised", list(MORE)),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fold_module, "train_step", watch(key))
            config = tiny("folds=[0]", "trainer.checkpoint_seconds=0", *overrides)
            if key == "stopped":
                with pytest.raises(interrupt.Interrupted), interrupt.handled():
                    crossval.run(config, tmp_path / run)
                if not noted:  # as versions did that knew no other number of epochs
                    file = tmp_path / run / "fold_0/last.pt"
                    content = torch.load(file, weights_only=True)
                    torch.save({key: value for key, value in content.items() if key != "epochs"}, file)
            else:
                crossval.run(config, tmp_path / run)
    assert min(rates["raised"]) in ((1, 1), (1, 2))
    for at, rate in rates["raised"].items():
        assert rate == pytest.approx(rates["whole"][at], rel=1e-9)


def test_a_dry_run_counts_what_is_missing_alone(start, tiny, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(crossval, "estimate_seconds", lambda *given: (asked.append(given[3]), 60.0)[1])
    (tmp_path / "runs/a/fold_1/done").unlink()
    for epochs in (4, 2):
        more = (f"trainer.epochs={epochs}", "accept=[trainer.epochs]")
        crossval.run(tiny("name=a", "dry_run=true", *more), tmp_path / "runs/a")
    assert asked == [{0: 2, 1: 0}, {1: 0}]


def test_cycles_cannot_change(start):
    ended = start(*MORE, "schedule=cosine_restarts", "schedule.cycles=2")
    assert (
        ended.returncode == 1 and "accept: trainer.epochs cannot change with schedule=cosine_restarts" in ended.stderr
    )


@pytest.mark.parametrize("name", ["metrics.csv", "timing.json"])
def test_a_damaged_file_is_named(start, tmp_path, name):
    (tmp_path / "runs/a/fold_0" / name).write_text("epoch,loss\nx,1\n" if name == "metrics.csv" else '{"epochs": 2}')
    ended = start(*MORE)
    assert ended.returncode == 1 and name in ended.stderr, ended.stderr
    assert (tmp_path / "runs/a/fold_0/done").exists()


@pytest.mark.slow
def test_a_plateau_keeps_the_rate_that_it_had(start, tmp_path):
    settings = ("name=p", "schedule=plateau", "schedule.patience=0", "schedule.factor=0.5", "optimizer.lr=0.001")
    assert start(*settings).returncode == 0
    for fold in (0, 1):
        file = tmp_path / f"runs/p/fold_{fold}/metrics.csv"
        table = pd.read_csv(file)
        table.assign(loss=[1.0, 2.0]).to_csv(file, index=False)
    assert start(*settings, *MORE).returncode == 0
    assert pd.read_csv(tmp_path / "runs/p/fold_1/metrics.csv")["lr"][2] == 0.0005


def test_a_raise_by_mistake_can_be_taken_back(start, tmp_path):
    weights = (tmp_path / "runs/a/fold_0/model.safetensors").read_bytes()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(fold_module, "train_step", lambda *_: 1 / 0)
        start("trainer.epochs=400", "accept=[trainer.epochs]")
    ended = start("trainer.epochs=2", "accept=[trainer.epochs]")
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "runs/a/fold_0/model.safetensors").read_bytes() == weights


def test_a_checkpoint_with_more_epochs_than_the_run_is_refused(tiny, tmp_path):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(fold_module, "finish", lambda *_: 1 / 0)
        crossval.run(tiny("folds=[0]"), tmp_path)
    with pytest.raises(ValueError, match=r"last.pt cannot be used: 2 epochs are done, trainer.epochs=1"):
        crossval.run(tiny("folds=[0]", "trainer.epochs=1", "accept=[trainer.epochs]"), tmp_path)


def test_the_epochs_of_a_fold_without_its_times_are_those_of_its_table(start, tmp_path):
    file = tmp_path / "runs/a/fold_0/timing.json"
    for text in ("{", '{"epochs": null}'):
        file.write_text(text)
        assert extend.epochs_done(file.parent, default=7) == 2
    (file.parent / "metrics.csv").unlink()
    assert extend.epochs_done(file.parent, default=7) == 7
