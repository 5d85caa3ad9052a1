"""Files of a network's weights in a run directory."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import nn

from salt.runs.files import first_line, write_atomic
from salt.runs.rundir import how_to_remake


def save_weights(model: nn.Module, file: Path) -> None:
    """Write a network's weights, atomically."""
    weights = to_safetensors({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()})
    write_atomic(file, lambda temporary: temporary.write_bytes(weights))


def load_weights(model: nn.Module, file: Path) -> None:
    """Give the network the weights in one of a fold's files.

    Raises:
        ValueError: the file is missing, damaged or of another network.
    """
    try:
        model.load_state_dict(load_file(file))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise ValueError(f"{file} cannot be used: {first_line(error)}. {how_to_remake(file)}") from error
