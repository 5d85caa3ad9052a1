import json
import time
from types import SimpleNamespace

import pytest
import torch
from test_fold import train

from salt.training import fold
from salt.training.fold import Ahead, epoch_line, time_left
from salt.words import duration


def state(epoch: int, seconds: float, **row):
    row = {"epoch": epoch, "lr": 2.5e-4, "loss": 0.51234, "map_at_0.5": None, "iou": None, "empty": None} | row
    clock = SimpleNamespace(seconds=seconds, images_per_second=83.34)
    return SimpleNamespace(epoch=epoch, epochs=12, rows=[row], clock=clock)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (89.4, "89 s"), (90, "2 min"), (200, "3 min"), (89 * 60, "89 min"), (90 * 60, "1 h 30 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("ahead", "text"),
    [
        (Ahead(), "9 min left"),  # 9 of 12 epochs of a minute
        (Ahead(in_run=2), "9 min left, 33 min for all folds"),
        (Ahead(in_run=1, in_sweep=5), "9 min left, 21 min for all folds, 81 min for the sweep"),
        (Ahead(in_sweep=3), "9 min left, 45 min for the sweep"),
    ],
)
def test_the_time_that_is_left(ahead, text):
    assert time_left(state(3, 180.0), ahead) == text


def test_the_line_of_an_epoch():
    line = epoch_line(state(3, 180.0, **{"map_at_0.5": 0.71, "iou": 0.6543, "empty": 0.958}), Ahead())
    assert line == (
        "epoch 3, loss 0.5123, lr 0.00025, map 0.7100 at threshold 0.5, IoU 0.6543 of tiles with salt, "
        "95.8% of empty tiles found, 83.3 images/s, 9 min left"
    )
    without_validation = epoch_line(state(3, 180.0), Ahead())
    assert without_validation == "epoch 3, loss 0.5123, lr 0.00025, 83.3 images/s, 9 min left"


def test_images_per_second_count_the_time_of_the_last_step_on_the_device(tiny, tmp_path, monkeypatch):
    step, free = 0.1, [0.0]  # seconds; when the device, which works on after a step is launched, has done all of them

    class OnDevice(fold.AsyncScalars):
        def __init__(self, value):
            super().__init__(value)
            self.done = free[0] = max(time.perf_counter(), free[0]) + step

        def read(self):
            time.sleep(max(self.done - time.perf_counter(), 0))
            return super().read()

    monkeypatch.setattr(fold, "AsyncScalars", OnDevice)
    monkeypatch.setattr(fold, "train_step", lambda *_: torch.tensor([0.5, 1.0, 0.0]))  # launched in no time
    config = tiny("trainer.epochs=1", "folds=[0]")
    train(config, tmp_path)
    rate = json.loads((tmp_path / "fold_0" / "timing.json").read_text())["images_per_second"]
    assert 0 < rate <= config.trainer.batch_size / step
