"""Files of weights in a run directory."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from salt.machine.device import explain_full_gpu
from salt.runs.files import first_line, write_atomic
from salt.runs.rundir import how_to_remake


def save_weights(model: nn.Module, file: Path) -> None:
    """Write the weights of a network, atomically."""
    weights = to_safetensors({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()})
    write_atomic(file, lambda temporary: temporary.write_bytes(weights))


def load_weights(model: nn.Module, file: Path) -> None:
    """Load a fold's file into the network; raise OSError if unreadable, ValueError if damaged or of another one."""
    weights = read_weights(file)
    if other := describe_mismatch(model, weights):
        raise ValueError(f"{file} cannot be used: it is of another network: {other}. {how_to_remake(file)}")
    with explain_full_gpu():
        model.load_state_dict(weights)


def read_weights(file: Path) -> dict[str, Tensor]:
    """Return the tensors in a file of a fold; raise OSError if it cannot be read, ValueError if it is damaged."""
    try:
        return load(file.read_bytes())
    except (SafetensorError, FileNotFoundError) as error:
        raise ValueError(f"{file} cannot be used: {first_line(error)}. {how_to_remake(file)}") from error


def describe_mismatch(module: nn.Module, weights: dict[str, Tensor]) -> str | None:
    """Describe the first tensor in which they differ, since torch's RuntimeError may mean a failed device."""
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
