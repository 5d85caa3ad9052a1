"""Training: repeats bit for bit, resumes as if never stopped, and never keeps a broken state."""

import csv
import signal

import numpy as np
import pytest
import torch
from helpers.jobs import make_job
from helpers.stop import stop_after_saving
from safetensors.torch import load_file

from salt import build
from salt.data.folds import assign_folds
from salt.data.load import load_data
from salt.inference.predict import Prediction
from salt.machine import distributed, interrupt
from salt.training import checkpoint
from salt.training import fold as fold_module
from salt.training.fold import train_fold


def train(config, path, data=None):
    """Train fold 0 of a run whose directory is `path`."""
    job = make_job(config, path, data)
    weights = train_fold(job, 0)
    return job.data, job.folds, weights


def files(path):
    return {name: (path / "fold_0" / name).read_bytes() for name in ("model.safetensors", "oof.npz", "metrics.csv")}


@pytest.fixture
def config(tiny):
    return tiny(
        "loss=bce_then_lovasz",
        "hypercolumn=concat",
        "deep-supervision=multiscale",
        "trainer.epochs=3",
        "folds=[0]",
    )


@pytest.mark.slow
def test_two_runs_are_the_same_to_the_byte(config, tmp_path):
    train(config, tmp_path / "a")
    torch.rand(7)  # what other runs of the process drew does not matter
    train(config, tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")


@pytest.mark.parametrize("after", [1, 3])
@pytest.mark.slow
def test_an_interrupted_run_ends_like_an_undisturbed_one(config, tmp_path, monkeypatch, after):
    train(config, tmp_path / "a")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after_saving(patch, after)
        train(config, tmp_path / "b")
    assert not (tmp_path / "b" / "fold_0" / "model.safetensors").exists()
    train(config, tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "saved"), [(0, [1, 2, 3]), (2.5, [3]), (1.5, [2, 3]), (1e9, [3])])
def test_a_checkpoint_is_saved_when_the_last_one_is_old_enough_and_at_the_end(
    config, tmp_path, monkeypatch, seconds, saved
):
    save, epochs = checkpoint.save, []

    def spy(state, path):
        epochs.append(state.epoch)
        save(state, path)

    trainer = config.trainer.model_copy(update={"checkpoint_seconds": float(seconds)})
    monkeypatch.setattr(checkpoint, "save", spy)
    monkeypatch.setattr(fold_module.time, "monotonic", lambda: float(checkpoint_rows(tmp_path)))  # an epoch a second
    train(config.model_copy(update={"trainer": trainer}), tmp_path)
    assert epochs == saved
    assert len(list(csv.DictReader((tmp_path / "fold_0" / "metrics.csv").open()))) == 3  # the table does not wait


def checkpoint_rows(path):
    table = path / "fold_0" / "metrics.csv"
    return len(table.read_text().splitlines()) - 1 if table.exists() else 0


@pytest.mark.slow
def test_a_run_killed_long_after_its_checkpoint_ends_like_an_undisturbed_one(config, tmp_path, monkeypatch):
    train(config, tmp_path / "a")
    trainer = config.trainer.model_copy(update={"checkpoint_seconds": 1e9})
    end = fold_module.finish_epoch

    def killed(fold, state):
        end(fold, state)
        if state.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fold_module, "finish_epoch", killed)
        train(config.model_copy(update={"trainer": trainer}), tmp_path / "b")
    assert not (tmp_path / "b/fold_0/last.pt").exists() and checkpoint_rows(tmp_path / "b") == 2
    train(config, tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_the_files_of_a_fold(config, tmp_path):
    data, folds, _ = train(config, tmp_path)
    with np.load(tmp_path / "fold_0" / "oof.npz", allow_pickle=False) as oof:
        assert oof["ids"].tolist() == [i for i, f in zip(data.train.ids, folds, strict=True) if f == 0]
        assert oof["probabilities"].shape == (12, 101, 101) and oof["probabilities"].dtype == np.float16
        assert 0 <= oof["probabilities"].min() < oof["probabilities"].max() <= 1
    # no file needs pickle
    assert torch.load(tmp_path / "fold_0" / "last.pt", weights_only=True)["epoch"] == 3
    assert torch.load(tmp_path / "fold_0" / "previous.pt", weights_only=True)["epoch"] == 2
    assert all(torch.isfinite(v).all() for v in load_file(tmp_path / "fold_0" / "model.safetensors").values())


def test_the_table_of_metrics(config, tmp_path):
    train(
        config.model_copy(update={"trainer": config.trainer.model_copy(update={"validate_every": 2})}),
        tmp_path,
    )
    rows = list(csv.DictReader((tmp_path / "fold_0" / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert rows[0]["map_at_0.5"] == "" and float(rows[1]["map_at_0.5"]) >= 0 and float(rows[2]["iou"]) >= 0


class Broken(torch.nn.Module):
    """A loss that is not finite in some of its calls (the check of the build is no call here)."""

    def __init__(self, calls):
        super().__init__()
        self.calls, self.count = calls, 0

    def forward(self, logits, masks, known=None):
        self.count += 1
        bad = float("nan") if self.count in self.calls else 1
        return torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), masks) * bad


def test_a_step_without_a_finite_loss_changes_no_weight(tiny, tmp_path, monkeypatch, caplog):
    config = tiny("trainer.epochs=1", "folds=[0]", "averaging=none")
    weights = []
    for calls in ((2,), (2, 3)):  # the third and last step as well
        monkeypatch.setattr(build, "build_loss", lambda config, calls=calls: Broken(calls))
        train(config, tmp_path / str(len(calls)))
        weights.append(load_file(tmp_path / str(len(calls)) / "fold_0" / "model.safetensors"))
    assert "skipped a step: loss nan" in caplog.text and "in epoch 1; tiles of the batch: " in caplog.text
    parameters = [name for name in weights[0] if "running" not in name and "num_batches" not in name]
    assert all(torch.isfinite(weights[1][name]).all() for name in parameters)
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in parameters)
    with (tmp_path / "2" / "fold_0" / "metrics.csv").open() as file:
        assert np.isfinite(float(next(csv.DictReader(file))["loss"]))


def test_too_many_steps_without_a_finite_loss_stop_and_name_the_batch(tiny, tmp_path, monkeypatch):
    config = tiny("trainer.epochs=3", "folds=[0]")
    monkeypatch.setattr(build, "build_loss", lambda config: Broken((4, 5, 6)))
    with pytest.raises(ValueError, match=r"3 steps .* loss nan, .* in epoch 2; tiles of the batch: ") as e:
        train(config, tmp_path)
    assert len(str(e.value).split("batch: ")[1].split(". ")[0].split(", ")) == 4
    state = torch.load(tmp_path / "fold_0" / "last.pt", weights_only=True)
    assert state["epoch"] == 1 and all(torch.isfinite(v).all() for v in state["model"].values())


def test_statistics_that_are_not_finite_are_never_kept(config, tmp_path, monkeypatch):
    step, calls = fold_module.train_step, []

    def spoil(fold, state, batch):
        value = step(fold, state, batch)
        calls.append(1)
        if len(calls) == 6:  # the last step of the second epoch: its loss was finite
            next(state.average.module.buffers()).data.fill_(float("nan"))
        return value

    monkeypatch.setattr(fold_module, "train_step", spoil)
    with pytest.raises(ValueError, match=r"is not finite after epoch 2"):
        train(config, tmp_path)
    assert torch.load(tmp_path / "fold_0" / "last.pt", weights_only=True)["epoch"] == 1


@pytest.mark.parametrize("constant_tiles", ["empty", "model"])
def test_the_validation_predicts_constant_tiles_as_the_score_does(tiny, tmp_path, monkeypatch, constant_tiles):
    def salt_everywhere(predictor, tiles, positions, *_):
        return Prediction(np.ones((len(positions), 101, 101), np.float32), None)

    config = tiny("data.n_folds=2", "trainer.epochs=1", f"data.constant_tiles={constant_tiles}")
    data = load_data(config)
    held_out = np.flatnonzero(assign_folds(config, data.train) == 0)
    empties = held_out[~data.train.masks[held_out].any((1, 2))]
    data.train.images[empties[0]] = 7
    monkeypatch.setattr(fold_module.Predictor, "predict", salt_everywhere)
    train(config, tmp_path, data)
    row = next(csv.DictReader((tmp_path / "fold_0" / "metrics.csv").open()))
    assert len(empties) > 1
    assert float(row["empty"]) == pytest.approx(1 / len(empties) if constant_tiles == "empty" else 0)


@pytest.mark.parametrize("averaging", ["ema", "swa"])
@pytest.mark.parametrize("at", [2, *(pytest.param(at, marks=pytest.mark.slow) for at in (3, 7))])
def test_a_run_that_a_signal_stops_goes_on_after_the_same_step(tiny, tmp_path, monkeypatch, at, averaging):
    config = tiny(f"averaging={averaging}", "augment=mixup", "schedule=plateau", "trainer.epochs=3", "folds=[0]")
    train(config, tmp_path / "a")
    step, calls = fold_module.train_step, []

    def stopped(fold, state, batch):
        calls.append(1)
        if len(calls) == at:
            signal.raise_signal(signal.SIGTERM)
        return step(fold, state, batch)

    with (
        monkeypatch.context() as patch,
        pytest.raises(interrupt.Interrupted, match="SIGTERM"),
        interrupt.handle_signals(),
    ):
        patch.setattr(fold_module, "train_step", stopped)
        train(config, tmp_path / "b")
    content = torch.load(tmp_path / "b" / "fold_0" / "last.pt", weights_only=True)
    assert content["epoch"] * 3 + content["current"]["steps"] in (at, at + 1) and len(calls) <= at + 1
    train(config, tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["train_step", "read_outcome"])
@pytest.mark.parametrize("epoch", [1, 2])
def test_a_signal_in_the_last_step_of_an_epoch_is_saved_before_the_validation(
    tiny, tmp_path, monkeypatch, epoch, moment
):
    # what compiles the network for the validation may have died of the same signal
    config = tiny("trainer.epochs=2", "folds=[0]")
    train(config, tmp_path / "a")
    own, calls = getattr(fold_module, moment), []

    def stopped(*arguments):
        calls.append(1)
        if len(calls) == 3 * epoch:
            signal.raise_signal(signal.SIGTERM)
        return own(*arguments)

    def broken(fold, state):
        if len(calls) == 3 * epoch:
            raise RuntimeError("the pool of compilers is not usable")
        return validate(fold, state)

    validate = fold_module.validate
    with (
        monkeypatch.context() as patch,
        pytest.raises(interrupt.Interrupted, match="SIGTERM"),
        interrupt.handle_signals(),
    ):
        patch.setattr(fold_module, moment, stopped)
        patch.setattr(fold_module, "validate", broken)
        train(config, tmp_path / "b")
    content = torch.load(tmp_path / "b" / "fold_0" / "last.pt", weights_only=True)
    assert (content["epoch"], content["current"]["steps"]) == (epoch - 1, 3)
    train(config, tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_a_stopped_fold_waits_for_the_other_processes_after_its_state_is_saved(tiny, tmp_path, monkeypatch):
    # torchrun stops all ranks as soon as one ends: a rank that did not wait would end the save of rank 0
    order, save = [], checkpoint.save
    monkeypatch.setattr(fold_module, "train_epoch", lambda *_: True)
    monkeypatch.setattr(checkpoint, "save", lambda *args: order.append("save") or save(*args))
    monkeypatch.setattr(distributed, "barrier", lambda: order.append("barrier"))
    with pytest.raises(interrupt.Interrupted):
        train(tiny("trainer.epochs=2"), tmp_path)
    assert order[-2:] == ["save", "barrier"]


@pytest.mark.parametrize(
    ("schedule", "averaging", "augment"),
    [
        ("cosine_restarts", "ema", "mixup"),
        ("plateau", "swa", "cutmix"),
    ],
)
@pytest.mark.slow
def test_an_interrupted_run_of_other_options_ends_like_an_undisturbed_one(
    tiny, tmp_path, monkeypatch, schedule, averaging, augment
):
    overrides = [f"schedule={schedule}", f"averaging={averaging}", f"augment={augment}", "hypercolumn=concat"]
    extra = ["schedule.cycles=4", "schedule.snapshots=3"] if schedule == "cosine_restarts" else []
    config = tiny(*overrides, *extra, "optimizer=sgd", "trainer.clip=1.0", "trainer.epochs=4")
    train(config, tmp_path / "a")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after_saving(patch, 3)
        train(config, tmp_path / "b")
    train(config, tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")
