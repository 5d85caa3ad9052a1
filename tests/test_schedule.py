import pytest
import torch

from salt import schedule


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


def test_restarts_begin_anew_and_never_in_the_last_step():
    values = rates(schedule.cosine_restarts, 90, epochs=9, steps_per_epoch=10, warmup_epochs=0, final=0.0, cycles=4)
    starts = [i for i, v in enumerate(values) if v == 1.0]
    assert starts == [0, 23, 46, 69]
    assert values[-1] < 0.05


def test_the_warm_up_takes_at_most_a_fifth():
    assert schedule.warmup_steps(epochs=2, steps_per_epoch=10, warmup_epochs=5) == 4


def test_refused():
    with pytest.raises(ValueError, match="warmup_epochs"):
        rates(schedule.cosine, 1, epochs=1, steps_per_epoch=1, warmup_epochs=-1, final=0)
    with pytest.raises(ValueError, match="cycles=3"):
        rates(schedule.cosine_restarts, 1, epochs=2, steps_per_epoch=1, warmup_epochs=0, final=0, cycles=3)
