"""Checkpoints where the machine fails, not the file: the message says so, and the files stay as they are."""

import errno
import os
import signal
from pathlib import Path

import pytest
import torch
from test_fold import files, stop_after_saving, train

from salt.machine import distributed, interrupt
from salt.training import checkpoint

TOO_LITTLE = "CUDA out of memory. Tried to allocate 20 MiB."


@pytest.fixture
def config(tiny):
    return tiny("trainer.epochs=3", "folds=[0]", "trainer.checkpoint_seconds=0")


@pytest.fixture
def stopped(config, tmp_path, monkeypatch):
    """A fold that stopped after its second epoch."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after_saving(patch, 2)
        train(config, tmp_path)
    return tmp_path


def kept(path):
    return {name: (path / "fold_0" / name).read_bytes() for name in ("last.pt", "previous.pt")}


@pytest.mark.parametrize(
    ("part", "error", "expected"),
    [
        (torch.optim.Optimizer, torch.OutOfMemoryError(TOO_LITTLE), f"out of GPU memory .*: {TOO_LITTLE} Another"),
        (  # as torch's load_state_dict of a network tells it
            torch.nn.Module,
            RuntimeError(f"Error(s) in loading state_dict:\n\tan exception occurred : ('{TOO_LITTLE}',)."),
            f"out of GPU memory .*: an exception occurred : \\('{TOO_LITTLE}',\\). Another process",
        ),
        (torch.nn.Module, RuntimeError("CUDA error: unspecified launch failure"), "^CUDA error: unspecified"),
    ],
)
def test_a_gpu_that_fails_while_a_checkpoint_is_loaded(config, stopped, monkeypatch, part, error, expected):
    def fails(*_):
        raise error

    before = kept(stopped)
    monkeypatch.setattr(part, "load_state_dict", fails)
    with pytest.raises((ValueError, RuntimeError), match=expected):
        train(config, stopped)
    assert kept(stopped) == before


@pytest.mark.parametrize("signalled", [False, True])
@pytest.mark.parametrize(  # where the scaler's state is read, and where tensors are copied to the host
    ("place", "name"), [(torch.amp.GradScaler, "state_dict"), (torch.serialization, "_save")]
)
def test_a_gpu_that_fails_while_a_checkpoint_is_saved(config, stopped, monkeypatch, place, name, signalled):
    def fails(*_):
        if signalled:
            signal.raise_signal(signal.SIGTERM)
        raise RuntimeError("CUDA error: uncorrectable ECC error encountered")

    before = kept(stopped)
    monkeypatch.setattr(place, name, fails)
    with (
        pytest.raises(OSError, match=r"last\.pt is not written: CUDA error: uncorrectable ECC"),
        interrupt.handle_signals(),
    ):
        train(config, stopped)
    assert kept(stopped) == before


def test_a_process_that_writes_nothing_makes_no_checkpoint(monkeypatch):
    monkeypatch.setattr(distributed, "_group", distributed.Group(1, 2))
    checkpoint.save(None, Path("nowhere"))  # a look at the state would fail


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_a_checkpoint_that_cannot_be_read_is_not_called_damaged(config, stopped, tmp_path, monkeypatch, number):
    def fails(self):
        if self.suffix == ".pt":
            raise OSError(number, os.strerror(number), str(self))
        return read(self)

    before, read = kept(stopped), Path.read_bytes
    with monkeypatch.context() as patch, pytest.raises(OSError, match=r"last\.pt") as raised:
        patch.setattr(Path, "read_bytes", fails)
        train(config, stopped)
    assert raised.value.errno == number
    assert kept(stopped) == before


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["python", "torch"],
)
def test_too_little_memory_to_read_a_checkpoint_is_not_called_damage(config, stopped, monkeypatch, error):
    def fails(*_, **__):
        raise error

    before = kept(stopped)
    with monkeypatch.context() as patch, pytest.raises(OSError, match=r"Cannot allocate memory: .*last\.pt"):
        patch.setattr(checkpoint.torch, "load", fails)
        train(config, stopped)
    assert kept(stopped) == before
    train(config, stopped)
    assert files(stopped)


def test_a_damaged_offset_of_the_archive_is_damage(config, stopped, caplog):
    content = bytearray((stopped / "fold_0" / "last.pt").read_bytes())
    content[content.rfind(b"PK\x06\x06") + 55] |= 0xC0  # the top bits of where the archive's directory begins
    (stopped / "fold_0" / "last.pt").write_bytes(content)
    train(config, stopped)
    assert "Resuming from" in caplog.text and files(stopped)
