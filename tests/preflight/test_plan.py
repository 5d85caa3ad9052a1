import numpy as np
import pytest
import torch
from helpers.jobs import make_job

from salt import crossval
from salt.data import loader
from salt.preflight import plan


@pytest.fixture
def seconds(tiny, monkeypatch):
    """The estimate for some folds, if a training step takes 8 s (1 s a tile) and a prediction 2 s (0.25 s a tile)."""
    times = iter([8.0, 2.0] * 9)
    monkeypatch.setattr(plan, "fastest", lambda call: (call(), next(times))[1])

    def make(todo, *overrides):
        config = tiny("trainer.batch_size=8", "trainer.tta=true", *overrides)
        return plan.estimate_seconds(make_job(config), todo)

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
    monkeypatch.setattr(plan, "fastest", lambda call: (call(), call(), 1.0)[2])
    config = tiny(f"trainer.workers={workers}")
    plan.estimate_seconds(make_job(config), [0])
    assert len(batches) == loaded


def test_the_first_call_does_not_count(monkeypatch):
    clock = iter([0.0, 9.0, 10.0, 13.0, 20.0, 22.0])
    monkeypatch.setattr(plan.time, "perf_counter", lambda: next(clock))
    calls = []
    assert plan.fastest(lambda: calls.append(1)) == 2.0
    assert len(calls) == 3


@pytest.mark.slow
def test_float16_on_a_cpu_is_warned_of(tiny, tmp_path, caplog):
    for precision in ("fp16", "fp32"):
        caplog.clear()
        crossval.run(tiny(f"trainer.precision={precision}", "dry_run=true"), tmp_path)
        warned = any("trainer.precision=fp16" in message for message in caplog.messages)
        assert warned == (precision == "fp16")


@pytest.mark.parametrize(("limit", "warned"), [(1.0, True), (None, False)])
def test_a_run_that_a_cpu_takes_hours_for_is_told(tiny, tmp_path, monkeypatch, caplog, limit, warned):
    if limit is not None:
        monkeypatch.setattr(plan, "LONG_ON_CPU", limit)
    crossval.run(tiny("trainer.device=cpu", "dry_run=true"), tmp_path)
    assert any("experiment=cpu" in message for message in caplog.messages) == warned
