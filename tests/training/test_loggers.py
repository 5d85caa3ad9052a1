"""logger=...: what other programs are told while a run trains, and that a run does not depend on them."""

import logging

import numpy as np
import pandas as pd
import pytest
from conftest import TINY
from conftest import salt as command

from salt.components import build_part
from salt.runs.rundir import differences
from salt.runs.stacks import as_stack
from salt.training import checkpoint, loggers
from salt.training.loggers import NoLogger, SafeLogger, spread, tiles_picture


def train(folder, root, *words):
    return command(folder, *TINY, f"data.root={root}", "name=a", "folds=[0]", *words)


def events(folder):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(folder))
    found.Reload()
    return found


@pytest.mark.slow
def test_tensorboard_has_the_numbers_of_metrics_csv_and_pictures(synthetic_root, tmp_path):
    ended = train(
        tmp_path,
        synthetic_root,
        "logger=tensorboard",
        "logger.n_images=3",
        "trainer.validate_every=2",
        "trainer.epochs=3",
    )
    assert ended.returncode == 0, ended.stderr
    found = events(tmp_path / "runs/a/fold_0/tensorboard")
    table = pd.read_csv(tmp_path / "runs/a/fold_0/metrics.csv")
    assert set(found.Tags()["scalars"]) == {"lr", "loss", "map_at_0.5", "iou", "empty"}
    for key in ("lr", "loss", "map_at_0.5"):
        rows = table.dropna(subset=[key])
        assert [event.step for event in found.Scalars(key)] == rows["epoch"].tolist()
        assert [event.value for event in found.Scalars(key)] == pytest.approx(rows[key].tolist(), rel=1e-6)
    pictures = found.Images("held-out tiles")
    assert [picture.step for picture in pictures] == [2, 3]
    assert (pictures[0].width, pictures[0].height) == (3 * loggers.SHOWN_SIDE, 2 * loggers.SHOWN_SIDE)


@pytest.mark.slow
def test_a_run_that_goes_on_has_each_epoch_once(synthetic_root, tmp_path):
    save = checkpoint.save
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ZeroDivisionError):  # an epoch is shown but not saved
        patch.setattr(checkpoint, "save", lambda state, path: 1 / (2 - state.epoch) and save(state, path))
        train(tmp_path, synthetic_root, "logger=tensorboard", "trainer.epochs=3")
    ended = train(tmp_path, synthetic_root, "logger=tensorboard", "trainer.epochs=3")
    assert ended.returncode == 0, ended.stderr
    assert "resumes after epoch 1" in ended.stdout
    assert [event.step for event in events(tmp_path / "runs/a/fold_0/tensorboard").Scalars("loss")] == [1, 2, 3]


@pytest.mark.slow
def test_wandb_offline_has_the_numbers(synthetic_root, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="the package wandb is not installed")
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    ended = train(tmp_path, synthetic_root, "logger=wandb", "logger.n_images=2")
    assert ended.returncode == 0 and "failed, the run" not in ended.stdout, ended.stdout
    (run,) = (tmp_path / "runs/a/fold_0/wandb").glob("offline-run-*")
    (file,) = run.glob("run-*.wandb")
    content = file.read_bytes()
    assert b"map_at_0.5" in content and b"held-out tiles" in content and b"fold 0" in content
    assert list(run.glob("files/media/images/*.png"))


def test_the_logger_may_change_when_a_run_goes_on(tiny):
    one, other = (
        tiny(*words).model_dump(mode="json", by_alias=True)
        for words in ([], ["logger=tensorboard", "logger.n_images=2"])
    )
    assert one["logger"] != other["logger"] and differences(one, other) == []


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_told_before_the_run_begins(synthetic_root, tmp_path, monkeypatch, name):
    monkeypatch.setattr(loggers, "find_spec", lambda _: None)
    ended = train(tmp_path, synthetic_root, f"logger={name}")
    assert ended.returncode == 1
    assert "logger: cannot build" in ended.stderr and f"pip install 'salt-segmentation[{name}]'" in ended.stderr
    assert not (tmp_path / "runs").exists()


def test_a_wrong_mode_is_refused(tiny):
    with pytest.raises(ValueError, match="mode='of', expected offline or online"):
        build_part("logger", tiny("logger=wandb", "logger.mode=of").logger.node())


@pytest.fixture(scope="module")
def undisturbed(synthetic_root, tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed")
    assert train(path, synthetic_root).returncode == 0
    return (path / "runs/a/fold_0/model.safetensors").read_bytes()


@pytest.mark.parametrize("method", ["start", "epoch", "picture", "end"])
@pytest.mark.slow
def test_a_logger_that_fails_does_not_stop_the_run(synthetic_root, tmp_path, monkeypatch, undisturbed, method):
    def fail(*_):
        raise RuntimeError("no space\nmore")

    monkeypatch.setattr(loggers.TensorBoard, method, fail)
    ended = train(tmp_path, synthetic_root, "logger=tensorboard")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("TensorBoard failed, the run continues without it: RuntimeError: no space\n") == 1
    assert (tmp_path / "runs/a/fold_0/model.safetensors").read_bytes() == undisturbed


def test_after_a_failure_nothing_more_is_called(caplog):
    calls = []

    class Broken(NoLogger):
        n_images = 5

        def epoch(self, numbers):
            calls.append(numbers)
            raise OSError("full")

    logger = SafeLogger(Broken())
    assert logger.n_images == 5
    with caplog.at_level(logging.WARNING):
        logger.call("epoch", {"epoch": 1})
        logger.call("epoch", {"epoch": 2})
    assert len(calls) == 1 and len(caplog.messages) == 1 and logger.n_images == 0


def test_tiles_are_taken_from_little_to_much_salt():
    coverage = np.array([0.5, 0, 0.1, 0.9, 0, 0.3])
    assert spread(coverage, 2).tolist() == [2, 3] and spread(coverage, 9).tolist() == [2, 5, 0, 3]
    assert len(spread(np.zeros(4), 3)) == 3


def test_the_picture_has_outlines_above_and_probabilities_below():
    mask = np.zeros((64, 50), np.uint8)
    mask[16:48, 10:40] = 1
    images = as_stack([np.full((64, 50), 90, np.uint8), np.full((101, 101), 90, np.uint8)])
    masks = as_stack([mask, np.zeros((101, 101), np.uint8)])
    probabilities = as_stack([mask.astype(np.float16) * 0, np.full((101, 101), 0.25, np.float16)])
    picture = tiles_picture(images, masks, probabilities)
    side = loggers.SHOWN_SIDE
    assert picture.shape == (2 * side, 2 * side, 3)
    colours = {tuple(pixel) for pixel in picture[:side, :side].reshape(-1, 3).tolist()}
    assert colours == {(90, 90, 90), loggers.OUTLINES[0]}
    assert (picture[side:, side:] == 63).all() and (picture[:side, side:] == 90).all()
