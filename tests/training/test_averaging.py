"""Averages of weights, by hand."""

import pytest
import torch
from conftest import flat, options, perturbed, raw_config

from salt.components import build_part
from salt.training.averaging import EMA, SWA, Last, recompute_norms


def trajectory(make, n_epochs=8, steps=2):
    """The averaged weight after each epoch, for a weight that is 1, 2, 3 ... after each step."""
    model = torch.nn.Linear(1, 1, bias=False)
    average, result, value = make(model), [], 0.0
    for epoch in range(n_epochs):
        for _ in range(steps):
            value += 1
            model.weight.data.fill_(value)
            average.after_step()
        average.after_epoch((epoch + 1) / n_epochs)
        result.append(average.module.weight.item())
    return result


def test_last_is_the_last():
    assert trajectory(Last) == [2, 4, 6, 8, 10, 12, 14, 16]


def test_swa_is_the_mean_of_the_epochs_after_its_start():
    assert trajectory(lambda m: SWA(m, start=0.5)) == pytest.approx([2, 4, 6, 8, 10, 11, 12, 13])
    assert trajectory(lambda m: SWA(m, start=0.0)) == pytest.approx([2, 3, 4, 5, 6, 7, 8, 9])


def test_ema_by_its_recursion():
    expected, average = [], None
    for step in range(1, 17):
        n = step - 1  # how many weights the average has seen before
        decay = min(0.9, (1 + n) / (10 + n))
        average = float(step) if average is None else decay * average + (1 - decay) * step
        expected.append(average)
    assert trajectory(lambda m: EMA(m, 0.9)) == pytest.approx(expected[1::2])


def test_ema_averages_the_statistics_of_batch_norm_and_copies_counters():
    model = torch.nn.BatchNorm1d(1)
    average = EMA(model, 0.5)
    for value in (1.0, 2.0):
        model.running_mean.fill_(value)
        model.num_batches_tracked.fill_(int(value))
        average.after_step()
    assert average.module.running_mean.item() == pytest.approx(2 - 2 / 11) and average.module.num_batches_tracked == 2


def test_ema_remembers_more_with_time_and_at_most_its_decay():
    for decay, n, expected in ((0.9, 1, 9 / 11), (0.9, 10_000, 0.1), (0.0, 10_000, 1.0)):
        model = torch.nn.Linear(1, 1, bias=False)
        average = EMA(model, decay)
        average.n_averaged.fill_(n)
        average.module.weight.data.zero_()
        model.weight.data.fill_(1)
        average.after_step()
        assert average.module.weight.item() == pytest.approx(expected)


@pytest.mark.parametrize("make", [Last, lambda m: EMA(m, 0.9), lambda m: SWA(m, start=0.0)])
def test_averages_take_no_part_in_gradients(make):
    model = torch.nn.Linear(2, 1)
    average = make(model)
    for progress in (0.5, 1.0):
        average.after_step()
        average.after_epoch(progress)
    assert all(not p.requires_grad and p.grad_fn is None for p in average.module.parameters())


class Norms(torch.nn.Sequential):
    """Takes images and depths, as a segmenter does."""

    def forward(self, images, depths):
        self.outputs = [*getattr(self, "outputs", []), super().forward(images)]


def test_recomputed_statistics_are_the_mean_over_batches_and_momenta_stay():
    model = Norms(torch.nn.BatchNorm1d(1, momentum=0.3), torch.nn.BatchNorm1d(1, momentum=0.7)).eval()
    for norm in model:
        norm.running_mean.fill_(50)
        norm.num_batches_tracked.fill_(9)
    batches = [(torch.tensor([[1.0], [3.0]]), None), (torch.tensor([[4.0], [8.0]]), None), (torch.zeros(2, 1), None)]
    recompute_norms(model, batches)
    first, second = model
    assert first.running_mean.item() == pytest.approx((2 + 6 + 0) / 3)
    assert first.running_var.item() == pytest.approx((2 + 8 + 0) / 3)  # of two numbers: half of their distance, squared
    assert second.running_mean.item() == pytest.approx(0, abs=1e-6)
    assert (first.momentum, second.momentum) == (0.3, 0.7) and model.training
    assert len(model.outputs) == 3 and not any(output.requires_grad for output in model.outputs)


@pytest.mark.parametrize("option", options("averaging"))
def test_every_setting_changes_something_and_bad_ones_are_refused(option):
    node = raw_config(f"averaging={option}")["averaging"]

    def result(**changed):
        return trajectory(lambda m: build_part("averaging", node | changed, model=m))

    for key, value in flat(node).items():
        if key != "_target_":
            assert any(result(**{key: v}) != result() for v in perturbed(value) if 0 <= v < 1)
            for wrong in (1.5, -0.1):
                with pytest.raises(ValueError, match=f"averaging: .*{key}={wrong}, expected"):
                    result(**{key: wrong})


@pytest.mark.parametrize("make", [EMA, SWA])
def test_a_fraction_of_one_is_refused(make):
    with pytest.raises(ValueError, match=r"=1\.0, expected"):
        make(torch.nn.Linear(1, 1), 1.0)
