"""One training step: what a step that is left out leaves behind, however many there are."""

import copy

import numpy as np
import pytest
import torch
from helpers.jobs import make_job
from torch import Tensor

from salt.data.loader import Batch
from salt.machine import distributed
from salt.machine.device import choose_runtime
from salt.training.setup import build_scaler, make_fold, make_state
from salt.training.state import NormBackup
from salt.training.step import MAX_SKIPPED, read_outcome, train_step


class Training:
    """A fold and its state, stepped by hand."""

    def __init__(self, config):
        torch.manual_seed(0)
        job = make_job(config)
        self.tiles = job.data.train
        self.state = make_state(job, 0, 10_000)
        self.fold = make_fold(job, 0)
        job.network.model.train()

    def batch(self, scale: float = 1.0) -> Batch:
        images = torch.from_numpy(self.tiles.images[:4])[:, None]
        masks = torch.from_numpy(self.tiles.masks[:4])[:, None]
        return Batch(images.float() * scale if scale != 1 else images, masks, torch.zeros(4), torch.arange(4))

    def step(self, scale: float = 1.0) -> list[float]:
        torch.manual_seed(1)
        return train_step(self.fold, self.state, self.batch(scale)).tolist()

    def content(self, of: str = "model") -> dict[str, Tensor]:
        module = getattr(self.state, of)
        return {k: v.clone() for k, v in module.state_dict().items() if v.is_floating_point()}


def same(a, b):
    return [name for name in a if not torch.equal(a[name], b[name])] == []


@pytest.fixture
def training(tiny):
    return Training(tiny("loss=bce", "averaging=ema"))


def test_a_good_step_changes_weights_statistics_and_average(training):
    training.step()
    before, average = training.content(), training.content("average")
    loss, norm, stop = training.step()
    after = training.content()
    assert np.isfinite([loss, norm]).all() and stop == 0
    assert not same(before, after) and not same(average, training.content("average"))
    assert not torch.equal(before["encoder.body.model.bn1.running_mean"], after["encoder.body.model.bn1.running_mean"])


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_batch_that_is_no_number_leaves_weights_and_statistics_as_they_were(training, scale):
    training.step()
    before, average = training.content(), training.content("average")
    assert not np.isfinite(training.step(scale)[0])
    assert same(before, training.content())
    # the average moves towards weights that have not changed, and stays a number
    assert all(torch.isfinite(v).all() for v in training.content("average").values())
    assert average.keys() == training.content("average").keys()
    assert np.isfinite(training.step()).all() and not same(before, training.content())


class Infinite(torch.nn.Module):
    """A loss without a number whose gradient has one."""

    def forward(self, logits, masks, known=None):
        return logits.float().mean() + float("inf")


def test_a_loss_that_is_infinite_gives_no_step_even_where_its_gradient_is_finite(training):
    training.step()
    before = training.content()
    training.fold.__dict__["loss"] = Infinite()
    loss, norm, _ = training.step()
    assert loss == float("inf") and not np.isfinite(norm)
    assert same(before, training.content())


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.slow
def test_a_good_step_is_the_same_after_any_number_of_bad_ones(tiny, optimizer):
    undisturbed, disturbed = (Training(tiny("loss=bce", f"optimizer={optimizer}", "averaging=none")) for _ in range(2))
    for training in (undisturbed, disturbed):
        training.step()
    for _ in range(200):  # a scale that halves each time would be 0 in float32 after 150
        disturbed.step(float("nan"))
    # the rate depends on the number of steps; here it is to be the same
    disturbed.state.schedule.load_state_dict(undisturbed.state.schedule.state_dict())
    for mine, theirs in zip(
        disturbed.state.optimizer.param_groups, undisturbed.state.optimizer.param_groups, strict=True
    ):
        mine["lr"] = theirs["lr"]
    assert disturbed.state.scaler.get_scale() == 1
    for training in (undisturbed, disturbed):
        training.step()
    assert same(undisturbed.content(), disturbed.content())


def test_a_first_step_that_is_left_out_changes_nothing(tiny):
    training = Training(tiny("loss=bce", "optimizer=sgd", "averaging=none"))
    before = training.content()
    training.step(float("nan"))
    moments = [m for state in training.state.optimizer.state.values() for m in state.values()]
    assert same(before, training.content())
    assert len(moments) == len(list(training.state.model.parameters())) and not any(m.any() for m in moments)


def test_momentum_from_zero_is_plain_sgd(tiny):
    ours = Training(tiny("loss=bce", "optimizer=sgd", "optimizer.lr=0.1", "averaging=none"))
    theirs = copy.deepcopy(ours.state.model)
    groups = [
        {k: v for k, v in group.items() if k not in ("params", "fused")}
        | {"params": [dict(theirs.named_parameters())[name] for name in names]}
        for group, names in zip(ours.state.optimizer.param_groups, names_of(ours.state), strict=True)
    ]
    plain = torch.optim.SGD(groups, foreach=False, fused=False)
    for step in range(3):
        torch.manual_seed(step)
        for mine, other in zip(ours.state.model.parameters(), theirs.parameters(), strict=True):
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        ours.state.optimizer.step()
        plain.step()
    for mine, other in zip(ours.state.model.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


def names_of(state):
    """The names of the parameters in each group of the optimizer."""
    names = {id(p): name for name, p in state.model.named_parameters()}
    return [[names[id(p)] for p in group["params"]] for group in state.optimizer.param_groups]


class Outcome:
    """What a step gave, as `read_outcome` reads it."""

    def read(self):
        return [float("inf"), float("nan"), 0.0]


@pytest.mark.parametrize(("scale", "ends"), [(1.0, True), (4096.0, False)])
def test_an_epoch_without_a_step_ends_the_run_unless_float16_still_searches_its_scale(training, scale, ends):
    state, index = training.state, torch.arange(2)
    state.steps_per_epoch = 3
    state.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    for _ in range(2):
        read_outcome(state, index, Outcome(), ["a", "b"])
    if ends:
        with pytest.raises(ValueError, match=r"3 steps .*not finite.*tiles .*: a, b"):
            read_outcome(state, index, Outcome(), ["a", "b"])
        return
    state.steps_per_epoch = 1000
    for _ in range(MAX_SKIPPED - 2):
        read_outcome(state, index, Outcome(), ["a", "b"])
    with pytest.raises(ValueError, match=rf"{MAX_SKIPPED + 1} steps of this epoch"):
        read_outcome(state, index, Outcome(), ["a", "b"])


def test_a_step_that_is_left_out_names_the_tiles_of_all_processes(training, monkeypatch, caplog):
    monkeypatch.setattr(distributed, "all_gather", lambda part: [part, [1]])
    read_outcome(training.state, torch.arange(1), Outcome(), ["a", "b"])
    assert "tiles of the batch: a, b" in caplog.text


@pytest.mark.parametrize(("precision", "scales"), [("fp32", False), ("bf16", False), ("fp16", True)])
def test_float16_alone_scales_the_loss(tiny, precision, scales):
    scaler = build_scaler(choose_runtime(tiny(f"trainer.precision={precision}").trainer))
    assert (scaler.get_scale() > 1) is scales


def test_statistics_of_a_network_without_any():
    backup = NormBackup(torch.nn.Conv2d(1, 1, 1))
    backup.store()
    backup.restore(torch.tensor(True))


def test_statistics_come_back_only_where_asked():
    norm = torch.nn.BatchNorm2d(3)
    backup = NormBackup(norm)
    for restore in (False, True):
        before = copy.deepcopy(norm.state_dict())
        backup.store()
        norm(torch.full((2, 3, 4, 4), float("nan")) if restore else torch.rand(2, 3, 4, 4))
        backup.restore(torch.tensor(restore))
        assert torch.equal(norm.running_mean, before["running_mean"]) is restore
        assert torch.isfinite(norm.running_var).all()
