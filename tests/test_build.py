"""What settings build: their types are checked before; and the network on its device."""

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from salt.build import build_gate, build_loss, build_model, build_network, convert_sync_batchnorm
from salt.machine import device
from salt.machine.device import choose_runtime
from salt.training.setup import build_optimizer


@pytest.mark.parametrize(
    ("make", "overrides", "message"),
    [
        (build_loss, ["loss=lovasz", "loss.per_image=no"], "loss: per_image='no'"),
        (build_loss, ["loss=bce_dice", "loss.losses.1.per_image=off"], "loss: losses.1.per_image='off'"),
        (build_loss, ["loss=bootstrapped_ce", "loss.fraction=true"], "loss: fraction=True"),
        (build_loss, ["loss=bce_dice", "loss.weights=1"], "loss: weights=1"),
        (build_model, ["deep-supervision=nonempty", "deep_supervision.gate=nein"], "deep-supervision: gate='nein'"),
        (build_model, ["hypercolumn=concat", "hypercolumn.width=64.0"], "hypercolumn: width=64.0"),
        (build_model, ["center=dblock", "center.dilations=[1.5]"], r"center: dilations=\[1.5\]"),
        (build_model, ["input=resize_128", "input.size=128.5"], "input: size=128.5"),
        (build_model, ["+center.foo=1"], "center: .*foo"),
        (build_gate, ["attention.decoder=all"], "attention=none"),
        (build_gate, ["attention.encoder=[1,2]"], "attention=none"),
    ],
)
def test_refused_with_group_and_setting(tiny, make, overrides, message):
    with pytest.raises(ValueError, match=message):
        make(tiny(*overrides))


def test_whole_numbers_are_real_numbers_too(tiny):
    build_optimizer(tiny("optimizer.weight_decay=0"), torch.nn.Linear(1, 1))
    build_loss(tiny("loss=focal", "loss.gamma=2"))
    build_loss(tiny("loss=focal", "loss.alpha=null"))


@pytest.mark.parametrize("name", ["tu-test_resnet", "tu-efficientnet_lite0"])
def test_norms_that_processes_share_compute_what_the_model_s_own_do(tiny, name):
    model = build_model(tiny(f"encoder.name={name}")).eval()
    images, depths = torch.rand(2, 1, 101, 101), torch.rand(2)
    with torch.no_grad():
        expected = model(images, depths).logits
        n_norms = sum(isinstance(part, nn.BatchNorm2d) for part in model.modules())
        assert any(isinstance(part, BatchNormAct2d) for part in model.modules()) == ("lite0" in name)
        common = convert_sync_batchnorm(model)
        assert sum(isinstance(part, nn.SyncBatchNorm) for part in common.modules()) == n_norms > 0
        assert torch.equal(common(images, depths).logits, expected)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB.\nmore"),
        RuntimeError("CUDA error: out of memory\nmore"),  # of the driver
        RuntimeError("CUDA driver error: out of memory"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
        RuntimeError("CUDA ran out of memory outside PyTorch's allocator"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_a_gpu_that_is_full_already_is_one_message(tiny, monkeypatch, error):
    def full(self, *arguments, **options):
        raise error

    config = tiny()
    runtime = choose_runtime(config.trainer)
    message = r"^out of GPU memory before anything is computed: .* another trainer.device"
    with monkeypatch.context() as patch, pytest.raises(ValueError, match=message):
        patch.setattr(nn.Module, "to", full)
        build_network(config, runtime)
    monkeypatch.setattr(device, "n_gpus", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", full)
    with pytest.raises(ValueError, match=message):
        choose_runtime(tiny("trainer.device=cuda:0").trainer)


def test_a_gpu_that_is_full_when_the_memory_layout_changes_is_the_same_message(tiny, monkeypatch):
    to = nn.Module.to

    def full(self, *arguments, **options):
        if "memory_format" in options:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB.")
        return to(self, *arguments, **options)

    config = tiny("trainer.channels_last=true")
    monkeypatch.setattr(nn.Module, "to", full)
    with pytest.raises(ValueError, match=r"^out of GPU memory before anything is computed: .* another trainer.device"):
        build_network(config, choose_runtime(config.trainer))


def test_another_error_of_the_driver_stays_as_it_is(tiny, monkeypatch):
    def broken(self, *arguments, **options):
        raise RuntimeError("CUDA error: invalid device ordinal")

    config = tiny()
    monkeypatch.setattr(nn.Module, "to", broken)
    runtime = choose_runtime(config.trainer)
    with pytest.raises(RuntimeError, match=r"^CUDA error: invalid device ordinal$") as of_network:
        build_network(config, runtime)
    monkeypatch.setattr(device, "n_gpus", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", broken)
    with pytest.raises(RuntimeError, match=r"^CUDA error: invalid device ordinal$") as of_device:
        choose_runtime(tiny("trainer.device=cuda:0").trainer)
    for caught in (of_network, of_device):  # an error that is its own cause would never end a walk along its causes
        assert caught.value.__cause__ is None


@pytest.mark.parametrize(("precision", "changed"), [("bf16", True), ("fp32", False)])
def test_depthwise_convolutions_compute_in_float32_on_a_cpu(tiny, precision, changed):
    config = tiny("encoder.name=tu-efficientnet_lite0", f"trainer.precision={precision}", "trainer.device=cpu")
    runtime = choose_runtime(config.trainer)
    model = build_network(config, runtime).model
    formats = {True: set(), False: set()}  # of the outputs of depthwise convolutions, and of others
    for part in model.modules():
        if isinstance(part, nn.Conv2d):
            depthwise = part.groups == part.in_channels > 1
            part.register_forward_hook(lambda _, __, output, found=formats[depthwise]: found.add(output.dtype))
    with runtime.autocast():
        output = model(torch.rand(2, 1, 101, 101), torch.rand(2))
    assert formats == {True: {torch.float32}, False: {torch.bfloat16 if changed else torch.float32}}
    output.logits.sum().backward()
    depthwise = [part for part in model.modules() if isinstance(part, nn.Conv2d) and part.groups > 1]
    assert len(depthwise) == 16 and all(part.weight.grad.dtype == torch.float32 for part in depthwise)
