"""Which device is chosen, and what a process asks of the system."""

import platform
import subprocess
import sys

import pytest
import torch
from conftest import raw_config

from salt.config import Trainer
from salt.machine import distributed
from salt.machine.device import choose_runtime

ONE_STEP = """
import torch
from salt.machine import device

def resident():
    return int(open("/proc/self/statm").read().split()[1])

if {kept}:
    device.keep_freed_memory()
before = resident()
tensors = [torch.ones(4_000_000) for _ in range(8)]
during = resident()
del tensors
print((resident() - before) / (during - before))
"""


def share_kept(kept):
    """Which share of 128 MB the process still holds after the tensors in it were freed."""
    return float(subprocess.check_output([sys.executable, "-c", ONE_STEP.format(kept=kept)], text=True))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not GNU's")
@pytest.mark.slow
def test_memory_of_freed_tensors_serves_the_next_step():
    assert share_kept(True) > 0.9 and share_kept(False) < 0.1


@pytest.mark.parametrize(
    ("setting", "expected"), [("auto", "cuda:1"), ("cuda", "cuda:1"), ("cuda:0", "cuda:0"), ("cpu", "cpu")]
)
def test_a_point_uses_its_own_gpu_unless_another_is_named(two_gpus, setting, expected):
    trainer = Trainer.model_validate(raw_config(f"trainer.device={setting}", "trainer.workers=0")["trainer"])
    assert choose_runtime(trainer, "cuda:1").device == torch.device(expected)


def test_processes_take_the_gpu_of_their_number_and_predict_their_share(two_gpus, monkeypatch):
    monkeypatch.setattr(distributed, "_group", distributed.Group(1, 2, 1))
    settings = ["trainer.workers=0", "trainer.batch_size=32"]

    def chosen(*overrides):
        return choose_runtime(Trainer.model_validate(raw_config(*settings, *overrides)["trainer"]))

    for device in ("auto", "cuda"):
        runtime = chosen(f"trainer.device={device}")
        assert runtime.device == torch.device("cuda:1") and runtime.predict_batch_size == 4 * 16
    assert chosen("trainer.device=cpu").predict_batch_size == 8
    assert chosen("trainer.predict_batch_size=7").predict_batch_size == 7
    with pytest.raises(ValueError, match=r"trainer.device=cuda:0: 2 processes need a GPU each, expected auto or cuda"):
        chosen("trainer.device=cuda:0")


def test_a_gpu_whose_driver_is_too_old_for_torch_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # by the system, whatever the driver's age
    settings = {name: raw_config(f"trainer.device={name}", "trainer.workers=0")["trainer"] for name in ("auto", "cuda")}
    assert choose_runtime(Trainer.model_validate(settings["auto"])).device.type == "cpu"
    with pytest.raises(ValueError, match=r"trainer\.device=cuda:0: this machine has 0 CUDA devices that torch can use"):
        choose_runtime(Trainer.model_validate(settings["cuda"]))
