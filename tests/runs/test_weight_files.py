"""Files of weights that fit, that do not, and devices that fail while one is read."""

import errno
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from salt.runs.weights import load_weights, save_weights


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "fold_0" / "model.safetensors"
    path.parent.mkdir()
    save_weights(nn.Linear(3, 2), path)
    return path


def test_weights_come_back_as_they_were(file):
    model = nn.Linear(3, 2)
    load_weights(model, file)
    assert {k: v.tolist() for k, v in model.state_dict().items()} == {k: v.tolist() for k, v in load_file(file).items()}


@pytest.mark.parametrize(
    ("model", "change", "expected"),
    [
        (nn.Linear(4, 2), {}, r"it is of another network: weight has the shape \(2, 3\), expected \(2, 4\)"),
        (nn.Linear(3, 2, bias=False), {}, "it is of another network: bias is not part of this network"),
        (nn.Linear(3, 2), {"bias": None}, "it is of another network: bias is missing"),
        (nn.Linear(3, 2), None, "HeaderTooLarge|header"),
    ],
)
def test_another_network_or_a_damaged_file_is_named(file, model, change, expected):
    if change is None:
        file.write_bytes(b"no weights at all, but long enough for a header")
    else:
        save_file({k: v for k, v in load_file(file).items() if k not in change}, file)
    before = [parameter.tolist() for parameter in model.parameters()]
    with pytest.raises(ValueError, match=f"model.safetensors cannot be used: .*({expected}).* Delete .*fold_0"):
        load_weights(model, file)
    assert [parameter.tolist() for parameter in model.parameters()] == before


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"fold_1/model.safetensors cannot be used: "):
        load_weights(nn.Linear(3, 2), tmp_path / "fold_1" / "model.safetensors")


def test_a_file_that_cannot_be_read_is_not_called_damaged(file, monkeypatch):
    def fails(self):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", fails)
    with pytest.raises(PermissionError, match=r"model\.safetensors"):
        load_weights(nn.Linear(3, 2), file)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB."), "^out of GPU memory before anything"),
        (RuntimeError("CUDA error: unspecified launch failure"), "^CUDA error: unspecified"),
    ],
)
def test_a_failure_of_the_device_is_not_taken_for_a_damaged_file(file, monkeypatch, error, expected):
    def fails(*_):
        raise error

    monkeypatch.setattr(nn.Module, "load_state_dict", fails)
    with pytest.raises((ValueError, RuntimeError), match=expected):
        load_weights(nn.Linear(3, 2), file)
