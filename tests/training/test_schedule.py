import numpy as np
import pytest
import torch
from conftest import flat, options, perturbed, raw_config

from salt.components import build_part
from salt.training import schedule
from salt.training.state import Epoch


def rates(make, n_steps, **settings):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer, **settings)
    result = []
    for _ in range(n_steps):
        result.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return result


def test_cosine_rises_then_falls_to_the_end():
    values = rates(schedule.cosine, 100, epochs=10, steps_per_epoch=10, warmup_epochs=1, final=0.01)
    assert values[:10] == sorted(values[:10]) and values[0] == pytest.approx(1 / 11)
    assert values[10] == pytest.approx(1.0)
    assert values[10:] == sorted(values[10:], reverse=True)
    assert values[55] == pytest.approx(0.505, abs=0.01)
    assert 0.01 < values[-1] < 0.02


def test_restarts_are_whole_epochs():
    values = rates(schedule.CosineRestarts, 80, epochs=8, steps_per_epoch=10, final=0.0, cycles=4, snapshots=2)
    assert [i for i, v in enumerate(values) if v == 1.0] == [0, 20, 40, 60]
    for end in (19, 39, 59, 79):
        assert values[end] < 0.01


@pytest.mark.parametrize(("cycles", "snapshots", "expected"), [(4, 1, []), (4, 2, [9]), (4, 4, [3, 6, 9]), (1, 1, [])])
def test_snapshots_are_taken_at_the_last_cycle_ends(cycles, snapshots, expected):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    made = schedule.CosineRestarts(optimizer, 12, 10, final=0.0, cycles=cycles, snapshots=snapshots)
    assert schedule.snapshot_epochs(made) == expected


def test_one_cycle_rises_from_and_falls_to_its_ends():
    values = rates(schedule.onecycle, 100, epochs=10, steps_per_epoch=10, rise=0.3, start=0.1, final=0.001)
    assert (
        values[0] == pytest.approx(0.1) and max(values) == pytest.approx(1.0) and 28 <= values.index(max(values)) <= 30
    )
    assert values[-1] == pytest.approx(0.001)


def test_poly_by_formula():
    values = rates(schedule.poly, 100, epochs=10, steps_per_epoch=10, warmup_epochs=0, power=0.9)
    assert values == pytest.approx([(1 - i / 100) ** 0.9 for i in range(100)])


def test_plateau_follows_the_loss_of_epochs_and_ignores_steps():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    made = schedule.Plateau(optimizer, 10, 10, factor=0.5, patience=1, final=0.1)
    result = []
    for loss in (3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0):
        for _ in range(10):
            optimizer.step()
            made.step()
        schedule.after_epoch(made, loss)
        result.append(made.get_last_lr()[0])
    assert result == [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.1]


def test_plateau_ignores_an_epoch_whose_steps_were_all_skipped():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    made = schedule.Plateau(optimizer, 10, 10, factor=0.5, patience=0, final=0.1)
    assert np.isnan(Epoch(steps=3, skipped=3).mean_loss) and Epoch(losses=[1.0, 2.0]).mean_loss == 1.5
    for loss in (Epoch(steps=3, skipped=3).mean_loss, 3.0, 2.0):
        schedule.after_epoch(made, loss)
    assert made.best == 2.0 and optimizer.param_groups[0]["lr"] == 1.0


def example(option, **settings):
    node = raw_config(f"schedule={option}")["schedule"] | settings
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    made, result = build_part("schedule", node, optimizer=optimizer, epochs=12, steps_per_epoch=10), []
    for _ in range(12):
        for _ in range(10):
            result.append(made.get_last_lr()[0])
            optimizer.step()
            made.step()
        schedule.after_epoch(made, 1.0)
    return result + schedule.snapshot_epochs(made)


@pytest.mark.parametrize("option", options("schedule"))
def test_every_setting_changes_something(option):
    for key, value in flat(raw_config(f"schedule={option}")["schedule"]).items():
        if key != "_target_":
            assert any(tried(option, key, other) != example(option) for other in [*perturbed(value), 0.2]), key


def tried(option, key, value):
    try:
        return example(option, **{key: value})
    except ValueError as error:
        assert "expected" in str(error)
        return example(option)


def test_the_warm_up_takes_at_most_a_fifth():
    assert schedule.warmup_steps(epochs=2, steps_per_epoch=10, warmup_epochs=5) == 4


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (schedule.cosine, {"warmup_epochs": -1, "final": 0}, "warmup_epochs"),
        (schedule.CosineRestarts, {"final": 0, "cycles": 3, "snapshots": 1}, "cycles=3, expected a divisor"),
        (schedule.CosineRestarts, {"final": 0, "cycles": 2, "snapshots": 3}, "snapshots=3"),
        (schedule.onecycle, {"rise": 1.0, "start": 0.1, "final": 0.1}, "rise=1.0"),
        (schedule.poly, {"warmup_epochs": 0, "power": -1}, "power=-1"),
        (schedule.Plateau, {"factor": 2.0, "patience": 1, "final": 0}, "factor=2.0"),
    ],
)
def test_refused(make, settings, message):
    with pytest.raises(ValueError, match=message):
        rates(make, 1, epochs=2, steps_per_epoch=1, **settings)
