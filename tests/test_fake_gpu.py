"""What can be shown of the GPU's path without one: which device is chosen, and that nothing in a step waits for it.

Fake tensors know shape, type and device, but have no numbers, so that each attempt to read one fails. Backward passes
need a driver and are left out; `make gpu` has them.
"""

import numpy as np
import pytest
import torch
from conftest import TINY, options, raw_config
from helpers.jobs import make_job
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from salt import build
from salt.config import Trainer, check_config
from salt.data.loader import Batch
from salt.data.tiles import Dataset, Tiles
from salt.inference.engine import TorchEngine
from salt.losses.combine import set_progress
from salt.machine import device as runtime_module
from salt.machine.device import Runtime, choose_runtime, missing_compiler
from salt.training import setup
from salt.training.setup import build_scaler
from salt.training.state import FoldState
from salt.training.step import train_step

GROUPS = ("input", "encoder", "attention", "center", "decoder", "hypercolumn", "deep-supervision", "loss")
PARTS = [[f"{group}={option}"] for group in GROUPS for option in options(group) if option not in ("any", "none")]
PARTS += [["encoder=any", f"encoder.name={n}"] for n in ("tu-convnext_atto", "tu-resnet18", "tu-efficientnet_lite0")]
PARTS += [[f"attention={option}", "attention.encoder=all"] for option in options("attention") if option != "none"]
PARTS += [[f"input.channels={channels}"] for channels in ("depth", "depth_z")]
PARTS += [["deep-supervision=nonempty", "deep_supervision.gate=true"]]
PARTS += [["deep-supervision=multiscale", "deep_supervision.compare=masks"]]
PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)


@pytest.fixture
def one_gpu(monkeypatch):
    """torch believes that there is one GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


@pytest.fixture
def mixed_precision(monkeypatch):
    """autocast and GradScaler do not switch themselves off for want of a GPU; fake tensors need none."""
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(
        FakeTensorMode, "__deepcopy__", lambda mode, memo: mode, raising=False
    )  # one mode for all copies


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0"])
@pytest.mark.parametrize(("capability", "dtype"), [((9, 0), torch.bfloat16), ((7, 5), torch.float16)])
def test_a_gpu_is_chosen_by_its_number(one_gpu, monkeypatch, device, capability, dtype):
    chosen = []
    # the driver's part of torch.cuda.set_device alone, so that torch still checks what it is given
    monkeypatch.setattr(torch._C, "_cuda_setDevice", chosen.append, raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    trainer = raw_config("trainer.workers=3", f"trainer.device={device}")["trainer"]
    runtime = choose_runtime(Trainer.model_validate(trainer))
    assert runtime.device == torch.device("cuda:0") and chosen == [0]
    assert runtime.dtype == dtype and runtime.workers == 3


def test_a_gpu_that_is_not_there_is_refused(one_gpu):
    trainer = raw_config("trainer.device=cuda:1")["trainer"]
    with pytest.raises(ValueError, match=r"trainer.device=cuda:1: this machine has 1 CUDA devices"):
        choose_runtime(Trainer.model_validate(trainer))


@pytest.mark.parametrize(("capability", "refused"), [((7, 5), True), ((8, 0), False)])
def test_bfloat16_is_refused_on_a_gpu_without_it(one_gpu, monkeypatch, capability, refused):
    monkeypatch.setattr(torch._C, "_cuda_setDevice", lambda index: None, raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    trainer = Trainer.model_validate(raw_config("trainer.precision=bf16", "trainer.workers=0")["trainer"])
    if not refused:
        assert choose_runtime(trainer).dtype == torch.bfloat16
        return
    with pytest.raises(ValueError, match=r"trainer.precision=bf16: this GPU .* expected auto, fp16 or fp32"):
        choose_runtime(trainer)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_compilation_without_a_compiler_is_refused(one_gpu, monkeypatch, tmp_path, device):
    monkeypatch.setattr(torch._C, "_cuda_setDevice", lambda index: None, raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    for variable in ("CC", "CXX"):
        monkeypatch.delenv(variable, raising=False)
    settings = ["trainer.workers=0", f"trainer.device={device}"]
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(runtime_module, "find_spec", lambda name: name)
    choose_runtime(Trainer.model_validate(raw_config(*settings)["trainer"]))
    with pytest.raises(ValueError, match=r"trainer.compile=true needs .*compiler"):
        choose_runtime(Trainer.model_validate(raw_config(*settings, "trainer.compile=true")["trainer"]))
    for name in ("gcc", "g++", "clang++"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setattr(runtime_module.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    found = [missing_compiler(torch.device(device))]
    (tmp_path / "Python.h").touch()
    found.append(missing_compiler(torch.device(device)))
    assert found == ([f"{tmp_path / 'Python.h'}", None] if device == "cuda" else [None, None])


@pytest.mark.parametrize(
    ("capability", "triton", "missing"), [((6, 1), True, "capability 7.0"), ((7, 5), False, "triton")]
)
def test_compiling_needs_a_newer_gpu_and_triton(monkeypatch, capability, triton, missing):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(runtime_module, "find_spec", lambda name: triton or None)
    assert missing in missing_compiler(torch.device("cuda:0"))


class NothingWaits(TorchDispatchMode):
    """Refuses what makes the host wait for the GPU, or the GPU for the host: copies that block."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, torch.Tensor)]
        kinds = {t.device.type for t in tensors if t.ndim}  # the host gives single numbers along with the work
        non_blocking = (kwargs or {}).get("non_blocking", False) or (func is torch.ops.aten.copy_.default and args[2:])
        assert len(kinds) < 2 or non_blocking, f"{func} works on {kinds}"
        return result


def to_gpu(module):
    """A module whose weights are on the GPU; `Module.to` would need its driver."""
    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            for name, value in tensors.items():
                if value is not None:
                    moved = torch.empty(value.shape, dtype=value.dtype, device="cuda")
                    tensors[name] = torch.nn.Parameter(moved) if isinstance(value, torch.nn.Parameter) else moved
    return module


def built(*overrides):
    own_encoder = any(o.startswith("encoder=") or o == "decoder=tiramisu" for o in overrides)
    base = [o for o in TINY if not o.startswith(("decoder", "input", "encoder"))]
    encoder = [] if own_encoder else ["encoder=resnet18"]
    return check_config(raw_config(*base, *encoder, "encoder.weights=null", *overrides))


def uint8_tiles(n):
    return torch.empty(n, 1, 101, 101, dtype=torch.uint8)


@pytest.mark.parametrize("overrides", PARTS, ids=" ".join)
@pytest.mark.slow
def test_network_and_loss_of_every_option_wait_for_nothing(mixed_precision, overrides):
    config = built(*overrides)
    model, loss = build.build_model(config), build.build_loss(config)
    with FakeTensorMode(allow_non_fake_inputs=False):
        to_gpu(model)
        to_gpu(loss)
        images, masks, depths = (torch.empty(4, *shape, device="cuda") for shape in ((1, 101, 101), (1, 101, 101), ()))
        for dtype in (torch.bfloat16, torch.float16):
            autocast = Runtime(torch.device("cuda:0"), dtype, 0, 4).autocast
            with NothingWaits():
                with autocast():
                    output = model.train()(images, depths)
                for progress in (0.0, 0.5, 0.99):
                    set_progress(loss, progress)
                    value = model.loss(output, masks, loss)
                    assert value.shape == () and value.is_cuda and value.dtype == torch.float32
                assert output.logits.shape == masks.shape
                with autocast(), torch.no_grad():
                    assert model.eval()(images, depths).logits.is_cuda


def fold_and_state(config, model, dtype):
    """What the loop works with, on the GPU."""
    runtime = Runtime(torch.device("cuda:0"), dtype, 0, 4)
    to_gpu(model)
    optimizer = setup.build_optimizer(config, model)
    state = FoldState(
        model=model,
        average=setup.build_averaging(config, model),
        optimizer=optimizer,
        schedule=setup.build_schedule(config, optimizer, 3),
        scaler=build_scaler(runtime),
        epochs=config.trainer.epochs,
        steps_per_epoch=3,
    )
    nothing = np.empty(0, dtype=np.int64)
    tiles = Tiles([], nothing, nothing, nothing)
    job = make_job(config, data=Dataset(tiles, tiles), folds=nothing, model=model, runtime=runtime)
    fold = setup.make_fold(job, 0)
    return fold, state


def test_prediction_waits_for_nothing(mixed_precision):
    config = built()
    model = build.build_model(config).eval()
    with FakeTensorMode(allow_non_fake_inputs=False), torch.no_grad():
        to_gpu(model)
        images, depths = torch.empty(6, 1, 101, 101, device="cuda").byte(), torch.empty(6, device="cuda")
        for dtype in PRECISIONS:
            runtime = Runtime(torch.device("cuda:0"), dtype, 0, 4)
            with NothingWaits(), runtime.autocast():
                result = TorchEngine([model], model.tile, runtime, mirror=True).probabilities(images, depths)
            assert result.shape == (1, 6, 101, 101) and result.is_cuda and result.dtype == torch.float32


# with AdamW: torch has no fake form of the fused SGD
LOOPS = [[f"{group}={o}"] for group in ("augment", "averaging", "schedule") for o in options(group)]
LOOPS += [["trainer.clip=1.0"], ["deep-supervision=nonempty", "averaging=ema", "augment=cutmix", "trainer.clip=1.0"]]
LOOPS += [["deep-supervision=multiscale", "augment=mixup"]]


@pytest.mark.parametrize("overrides", LOOPS, ids=" ".join)
@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.battery
def test_a_training_step_waits_for_nothing(mixed_precision, monkeypatch, overrides, dtype):
    config = check_config(raw_config(*TINY, *overrides))
    model = build.build_model(config)
    with FakeTensorMode(allow_non_fake_inputs=False), torch.no_grad():
        fold, state = fold_and_state(config, model, dtype)

        def backward(value):
            for parameter in state.model.parameters():
                parameter.grad = torch.empty_like(parameter)

        monkeypatch.setattr(torch.Tensor, "backward", backward)
        for _ in range(3):
            batch = Batch(uint8_tiles(4), uint8_tiles(4), torch.empty(4), torch.empty(4, dtype=torch.int64))
            with NothingWaits():
                outcome = train_step(fold, state, batch)
            assert outcome.shape == (3,) and outcome.is_cuda
        with NothingWaits():
            state.average.after_epoch(0.5)
