"""What a fold keeps: snapshots, averages, number formats."""

import numpy as np
import pytest
import torch
from conftest import options
from safetensors.torch import load_file
from test_fold import files, stop_after_saving, train
from torch import distributed

from salt import build
from salt.build import Network, build_loss, build_model
from salt.inference.engine import TorchEngine
from salt.inference.predict import Predictor
from salt.machine.device import choose_runtime
from salt.models.segmenter import Output
from salt.training import fold as fold_module
from salt.training import setup


@pytest.mark.slow
def test_snapshots_are_the_cycle_ends_and_their_probabilities_are_averaged(tiny, tmp_path):
    config = tiny("schedule=cosine_restarts", "schedule.cycles=3", "schedule.snapshots=2", "trainer.epochs=6")
    data, folds, weights = train(config, tmp_path)
    names = [file.name for file in weights]
    assert names == ["snapshot_0004.safetensors", "model.safetensors"]
    runtime, held_out = choose_runtime(config.trainer), np.flatnonzero(folds == 0)
    parts = []
    for name in names:
        model = build_model(config)
        model.load_state_dict(load_file(tmp_path / "fold_0" / name))
        engine = TorchEngine([model.eval()], model.tile, runtime, mirror=True)
        parts.append(Predictor(engine, "").predict(data.train, held_out).mean)
    assert np.abs(parts[0] - parts[1]).max() > 1e-4
    with np.load(tmp_path / "fold_0" / "oof.npz") as oof:
        np.testing.assert_allclose(oof["probabilities"], (parts[0] + parts[1]) / 2, atol=1e-3)


@pytest.mark.parametrize("stop_after", [3, 4])
def test_a_lost_snapshot_is_told_when_the_fold_goes_on(tiny, tmp_path, monkeypatch, stop_after):
    config = tiny("schedule=cosine_restarts", "schedule.cycles=2", "schedule.snapshots=2", "trainer.epochs=4")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after_saving(patch, stop_after)
        train(config, tmp_path)
    (tmp_path / "fold_0" / "snapshot_0002.safetensors").unlink()
    before = (tmp_path / "fold_0" / "metrics.csv").read_bytes()
    with pytest.raises(ValueError, match=r"snapshot_0002\.safetensors is missing\. Delete .* from its beginning"):
        train(config, tmp_path)
    assert (tmp_path / "fold_0" / "metrics.csv").read_bytes() == before  # before more epochs are trained in vain
    assert not (tmp_path / "fold_0" / "oof.npz").exists()


def test_a_damaged_snapshot_is_no_part_of_a_result(tiny, tmp_path):
    config = tiny("schedule=cosine_restarts", "schedule.cycles=2", "schedule.snapshots=2", "trainer.epochs=2")
    train(config, tmp_path)
    file = tmp_path / "fold_0" / "snapshot_0001.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    before = files(tmp_path)
    with pytest.raises(ValueError, match=r"snapshot_0001\.safetensors cannot be used: .* Delete .* from its beginning"):
        train(config, tmp_path)
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("override", "unused"),
    [
        ("encoder.name=efficientnet-b0", {"_conv_head.weight", "_bn1.weight", "_bn1.bias"}),
        ("deep-supervision=multiscale", set()),
    ],
)
def test_processes_do_not_wait_for_layers_without_gradients(tiny, monkeypatch, override, unused):
    config = tiny(override)
    model, loss = build_model(config), build_loss(config)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    monkeypatch.setattr(fold_module.distributed, "world_size", lambda: 2)
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        forward = setup.wrap_ddp(Network(model, model), loss, choose_runtime(config.trainer))
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        for _ in range(2):  # the second step finds gradients of the first that never came
            model.loss(forward(torch.rand(2, 1, 101, 101), torch.rand(2)), torch.ones(2, 1, 101, 101), loss).backward()
    finally:
        distributed.destroy_process_group()
    frozen = {name.removeprefix("encoder.body.") for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == unused


def test_swa_recomputes_batch_norm_on_the_training_part_only(tiny, tmp_path, monkeypatch):
    config = tiny("averaging=swa", "averaging.start=0.0", "trainer.epochs=2", "augment=none")
    seen = []
    recompute = fold_module.recompute_norms

    def spy(model, batches):
        batches = list(batches)
        seen.append(torch.cat([images for images, _ in batches]))
        recompute(model, batches)

    monkeypatch.setattr(fold_module, "recompute_norms", spy)
    data, folds, _ = train(config, tmp_path)
    expected = data.train.images[folds != 0][:, None].astype(np.float32) / 255
    assert len(seen) == 3 and all(np.array_equal(images.numpy(), expected) for images in seen)
    # the first batch norm of the encoder, by hand: mean over batches of the mean over pixels
    model = build_model(config)
    model.load_state_dict(load_file(tmp_path / "fold_0" / "model.safetensors"))
    means = []
    with torch.no_grad():
        for images in seen[-1].split(4):
            x = model.window.prepare(model.channels(images, torch.zeros(4)))
            means.append(model.encoder.body.model.conv1(x).mean((0, 2, 3)))
    torch.testing.assert_close(model.encoder.body.model.bn1.running_mean, torch.stack(means).mean(0))


@pytest.mark.parametrize("schedule", options("schedule"))
def test_schedules_train(tiny, tmp_path, schedule):
    train(tiny("optimizer=sgd", f"schedule={schedule}", "trainer.clip=1.0"), tmp_path)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precisions_train(tiny, tmp_path, precision):
    train(tiny(f"trainer.precision={precision}", "trainer.epochs=1"), tmp_path)
    assert (tmp_path / "fold_0" / "model.safetensors").exists()


def test_float16_trains_with_a_scaled_loss(tiny, tmp_path, monkeypatch):
    class Small(torch.nn.Module):  # a real encoder takes minutes in float16 on a CPU
        tile = (101, 101)

        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, images, depths):
            return Output(self.conv(images), [])

        def loss(self, output, masks, loss, known=None):
            assert output.logits.dtype == torch.float16
            return loss(output.logits, masks, known=known)

    monkeypatch.setattr(build, "build_model", lambda config: Small())
    train(tiny("trainer.precision=fp16", "trainer.clip=1.0"), tmp_path)
    assert torch.load(tmp_path / "fold_0" / "last.pt", weights_only=True)["scaler"]["scale"] > 1
