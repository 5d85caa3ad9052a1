import numpy as np
import pytest
import torch

from salt.data import loader
from salt.data.folds import assign_folds
from salt.data.load import load_data
from salt.machine.device import choose_runtime
from salt.training import estimate


@pytest.fixture
def seconds(tiny, monkeypatch):
    """The estimate for folds, if a training step takes 8 s (1 s a tile) and a prediction 2 s (0.25 s a tile)."""
    times = iter([8.0, 2.0] * 9)
    monkeypatch.setattr(estimate, "fastest", lambda call: (call(), next(times))[1])

    def make(todo, *overrides):
        config = tiny("trainer.batch_size=8", "trainer.tta=true", *overrides)
        data = load_data(config)
        return estimate.estimate_seconds(
            config, data, assign_folds(config, data.train), todo, choose_runtime(config.trainer)
        )

    return make


def test_all_steps_validations_and_predictions_are_counted(seconds):
    # 12 tiles train: one step of 8 an epoch; 12 are held out, 6 are test tiles, both predicted twice (mirrored) at last
    assert seconds([0], "trainer.epochs=3") == 3 * 8 + 0.25 * (3 * 12 + 2 * (12 + 6))
    assert seconds([0, 1], "trainer.epochs=3") == 2 * (3 * 8 + 0.25 * (3 * 12 + 2 * (12 + 6)))
    assert seconds([1], "trainer.epochs=3", "trainer.validate_every=2") == 3 * 8 + 0.25 * (2 * 12 + 2 * (12 + 6))
    assert seconds([1], "trainer.epochs=1", "trainer.tta=false") == 8 + 0.25 * (12 + 12 + 6)
    assert seconds([]) == 0


@pytest.mark.parametrize(
    "overrides",
    [
        ["loss=bce_then_lovasz", "augment=mixup", "averaging=swa", "deep-supervision=multiscale"],
        ["trainer.compile=true", "encoder.weights=nowhere.pth", "trainer.workers=2"],
        ["trainer.epochs=4", "optimizer=sgd", "schedule=onecycle"],
    ],
)
def test_a_trial_of_other_settings(seconds, overrides):
    torch.manual_seed(1)
    assert np.isfinite(seconds([0], *overrides))


@pytest.mark.parametrize(("workers", "loaded"), [(0, 3), (2, 1)])
def test_loading_counts_where_no_workers_do_it_beside_the_steps(tiny, monkeypatch, workers, loaded):
    batches = []
    collate = loader.collate
    monkeypatch.setattr(loader, "collate", lambda samples: (batches.append(1), collate(samples))[1])
    monkeypatch.setattr(estimate, "fastest", lambda call: (call(), call(), 1.0)[2])
    config = tiny(f"trainer.workers={workers}")
    data = load_data(config)
    estimate.estimate_seconds(config, data, assign_folds(config, data.train), [0], choose_runtime(config.trainer))
    assert len(batches) == loaded


def test_the_first_call_does_not_count(monkeypatch):
    clock = iter([0.0, 9.0, 10.0, 13.0, 20.0, 22.0])
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: next(clock))
    calls = []
    assert estimate.fastest(lambda: calls.append(1)) == 2.0
    assert len(calls) == 3
