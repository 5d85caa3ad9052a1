"""Files of a network's weights in a run directory."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from salt.machine.device import full_gpu_named
from salt.runs.files import first_line, write_atomic
from salt.runs.rundir import how_to_remake


def save_weights(model: nn.Module, file: Path) -> None:
    """Write a network's weights, atomically."""
    weights = to_safetensors({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()})
    write_atomic(file, lambda temporary: temporary.write_bytes(weights))


def load_weights(model: nn.Module, file: Path) -> None:
    """Give the network the weights in one of a fold's files.

    Raises:
        OSError: the file cannot be read, which says nothing about its content.
        ValueError: the file is missing, damaged or of another network; or the GPU's memory is too small.
    """
    weights = read_weights(file)
    if other := other_tensor(model, weights):
        raise ValueError(f"{file} cannot be used: it is of another network: {other}. {how_to_remake(file)}")
    with full_gpu_named():
        model.load_state_dict(weights)


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors in one of a fold's files.

    Raises:
        OSError: the file cannot be read, which says nothing about its content.
        ValueError: the file is missing or damaged.
    """
    try:
        return load(file.read_bytes())
    except (SafetensorError, FileNotFoundError) as error:
        raise ValueError(f"{file} cannot be used: {first_line(error)}. {how_to_remake(file)}") from error


def other_tensor(module: nn.Module, weights: dict[str, Tensor]) -> str | None:
    """The first tensor in which a module and weights for it differ by name or shape, in words; None if they fit.

    Asked before `load_state_dict`, whose RuntimeError may also mean that the device has failed.
    """
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    for name in {**expected, **found}:
        if name not in found:
            return f"{name} is missing"
        if name not in expected:
            return f"{name} is not part of this network"
        if found[name] != expected[name]:
            return f"{name} has the shape {found[name]}, expected {expected[name]}"
    return None
