"""An encoder's weights from a local file, whose names must be the encoder's own or those of its whole network."""

import re
from pathlib import Path
from textwrap import shorten

import timm
import torch
from safetensors.torch import load_file
from segmentation_models_pytorch.encoders import TimmUniversalEncoder, get_encoder
from timm.models import adapt_input_conv
from torch import Tensor, nn

State = dict[str, Tensor]

CLASSIFIERS = ("fc.", "_fc.", "last_linear.", "classifier.", "linear.", "head.")  # in files for smp's own families
SHOWN = 160  # characters of each part of a message


def load_encoder(name: str, path: Path, in_channels: int) -> nn.Module:
    """Return an encoder with the weights of a file, which are for as many channels or for three.

    A classifier in the file is left out. Kernels for three colours are summed up for one channel (a grey image is
    three equal ones) and repeated for other numbers, as timm and smp do.

    Raises:
        ValueError: the file cannot be read, or does not hold exactly the encoder's tensors.
    """
    state = read_state(path)
    encoder, colour = (get_encoder(name, in_channels=n, weights=None) for n in (in_channels, 3))
    state = with_timm_names(state, encoder)
    own, for_colour = encoder.state_dict(), colour.state_dict()
    if isinstance(encoder, TimmUniversalEncoder):  # smp and timm write model.stages_0.x for the stages.0.x of timm
        names = {flat(key): key for key in own}
        state = {names.get(flat(key), key): tensor for key, tensor in state.items()}
    if not state.keys() <= own.keys():
        left_out = outside(encoder)
        state = {key: tensor for key, tensor in state.items() if key in own or not key.startswith(left_out)}
    for key in state.keys() & own.keys():
        if state[key].shape != own[key].shape and state[key].shape == for_colour[key].shape:
            state[key] = adapt_input_conv(in_channels, state[key])
    try:
        nn.Module.load_state_dict(encoder, state)  # smp's own methods would rename what some old files hold
    except RuntimeError as error:
        parts = "; ".join(shorten(line, SHOWN) for line in str(error).splitlines()[1:4])
        raise ValueError(f"encoder.weights: {path} does not fit {name}: {parts}") from None
    return encoder


def flat(name: str) -> str:
    """Return a name that timm's whole network and smp's encoder share."""
    return name.removeprefix("model.").replace("_", ".")


def outside(encoder: nn.Module) -> tuple[str, ...]:
    """Return how the names begin that a file may have beside the encoder's, such as those of a classifier."""
    if isinstance(encoder, TimmUniversalEncoder):
        return tuple(timm.create_model(encoder.name).state_dict())
    return CLASSIFIERS


def with_timm_names(state: State, encoder: nn.Module) -> State:
    """Return a state dict of EfficientNets in the older style (`_conv_stem`, `_blocks.0`) under timm's names.

    Both list the same tensors in the same order. A file whose shapes differ stays as it is, and is refused later.
    """
    if not isinstance(encoder, TimmUniversalEncoder) or "_conv_stem.weight" not in state:
        return state
    whole = timm.create_model(encoder.name).state_dict()
    if [tensor.shape for tensor in state.values()] != [tensor.shape for tensor in whole.values()]:
        return state
    return dict(zip(whole, state.values(), strict=True))


def read_state(path: Path) -> State:
    """Return the state dict in a .safetensors or torch file.

    Raises:
        ValueError: there is no such file, it is damaged, or it holds anything but tensors by name.
    """
    if not path.is_file():
        raise ValueError(
            f"encoder.weights: there is no file {path}; expected imagenet, null, or a .safetensors or .pth file"
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)  # else a file could run code
    except Exception as error:  # the readers raise many kinds for a damaged or foreign file
        raise ValueError(f"encoder.weights: {path} {unreadable(error)}") from None
    by_name = isinstance(content, dict) and all(isinstance(key, str) for key in content)
    if not by_name or not all(isinstance(value, Tensor) for value in content.values()):
        found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise ValueError(
            f"encoder.weights: {path} is no state dict: expected tensors by name, as model.state_dict() gives them, "
            f"found {shorten(found, SHOWN)}"
        )
    return dict(content)


def unreadable(error: Exception) -> str:
    """Return what is wrong with a file that torch or safetensors refused."""
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    if re.search("unsupported (global|class)", str(error), re.IGNORECASE):  # torch lists what it refused to load
        return "holds Python objects, expected tensors alone; save model.state_dict()"
    return "is damaged, or no file of PyTorch (.pth) or safetensors (.safetensors)"
