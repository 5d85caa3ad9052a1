"""An encoder's weights from a local file: read it, match the names, adapt the input's channels, load."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from segmentation_models_pytorch.encoders import TimmUniversalEncoder, get_encoder
from timm.models import adapt_input_conv
from torch import Tensor, nn

State = Mapping[str, Tensor]

CLASSIFIERS = ("fc.", "last.linear.", "classifier.", "linear.", "head.")  # of smp's families, as `plain` writes them
COUNTER = "num_batches_tracked"  # of batch norm: old files have none, and nothing uses it
SHOWN = 3  # names that a message shows


def load_encoder(name: str, path: Path, in_channels: int) -> nn.Module:
    """An encoder with the weights of a file, which are for as many channels or for three.

    The file may hold a whole network, or dicts with it: what lies around the encoder, and its classifier, is left out.
    The kernels of three colours are summed up for one channel (a grey image is three equal ones) and repeated for
    other numbers, as timm and smp do.

    Raises:
        ValueError: the file cannot be read, or does not hold each of the encoder's tensors.
    """
    state = read(path)
    encoder, colour = (get_encoder(name, in_channels=n, weights=None) for n in (in_channels, 3))
    state = with_timm_names(state, encoder)
    wanted = encoder.state_dict()
    found, others = match(state, wanted, path)
    heads = (*CLASSIFIERS, *rest_of_network(encoder)) if others else ()
    unknown = [key for plain_key, key in others.items() if not plain_key.startswith(heads)]
    problems = [*misfits(wanted, colour.state_dict(), found), *listed("unknown", unknown)]
    if problems:
        raise ValueError(f"encoder.weights: {path} does not fit {name}: {'; '.join(problems)}")
    for key, tensor in found.items():
        if tensor.shape != wanted[key].shape:
            found[key] = adapt_input_conv(in_channels, tensor)
    nn.Module.load_state_dict(encoder, wanted | found)  # not smp's own methods, which rename what old files hold
    return encoder


def with_timm_names(state: dict[str, Tensor], encoder: nn.Module) -> dict[str, Tensor]:
    """A state dict of EfficientNets in the older style (`_conv_stem`, `_blocks.0._depthwise_conv`) under timm's names.

    Both list the same tensors in the same order. A file whose shapes differ stays as it is, and is refused later.
    """
    if not isinstance(encoder, TimmUniversalEncoder) or "_conv_stem.weight" not in state:
        return state
    whole = timm.create_model(encoder.name).state_dict()
    if [tensor.shape for tensor in state.values()] != [tensor.shape for tensor in whole.values()]:
        return state
    return dict(zip(whole, state.values(), strict=True))


def rest_of_network(encoder: nn.Module) -> set[str]:
    """The plain names in the network that timm made the encoder from: it leaves out what no feature map needs."""
    if not isinstance(encoder, TimmUniversalEncoder):
        return set()
    return {own_name(name) for name in timm.create_model(encoder.name).state_dict()}


def unreadable(error: Exception) -> str:
    """What is wrong with a file that torch or safetensors refused."""
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    if re.search("unsupported (global|class)", str(error), re.IGNORECASE):  # torch names what it did not load
        return "holds Python objects, expected tensors alone; save model.state_dict()"
    return "is damaged, or no file of PyTorch (.pth) or safetensors (.safetensors)"


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or torch file by their names; those in dicts of dicts as `outer.inner`.

    Raises:
        ValueError: there is no such file, it holds more than plain tensors, or none by name.
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
    state = dict(tensors(content))
    if not state:
        raise ValueError(f"encoder.weights: {path} is no state dict, it holds no tensors by name")
    return state


def tensors(node: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors in nested dicts; what else such files hold, such as the number of epochs, is left out."""
    for key, value in node.items() if isinstance(node, dict) else ():
        if isinstance(value, Tensor):
            yield f"{prefix}{key}", value
        else:
            yield from tensors(value, f"{prefix}{key}.")


def plain(name: str) -> str:
    """A name as its words and numbers: the same for `stem_0` and `stem.0`, or for `norm1` and `norm.1`."""
    return ".".join(re.findall(r"[A-Za-z]+|\d+", name))


def own_name(name: str) -> str:
    """The plain name of an encoder's tensor, without the `model.` that smp puts before timm's names."""
    return re.sub(r"^(model\.)+", "", plain(name))


def match(state: State, wanted: Iterable[str], path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The file's tensors by the encoder's names, and the names of the others, by their plain form.

    The encoder lies where most of its names follow one prefix, such as `state_dict.module.`; names without that
    prefix belong to something else and are not even named.

    Raises:
        ValueError: the whole encoder follows more than one prefix.
    """
    keys = {plain(key): key for key in state}
    names = {own_name(name): name for name in wanted}
    needed = [own for own, name in names.items() if not name.endswith(COUNTER)]
    prefixes = {key.removesuffix(needed[0]) for key in keys if f".{key}".endswith(f".{needed[0]}")} or {""}
    hits = {prefix: sum(prefix + name in keys for name in needed) for prefix in sorted(prefixes)}
    whole = [keys[prefix + needed[0]] for prefix, n in hits.items() if n == len(needed)]
    if len(whole) > 1:
        raise ValueError(f"encoder.weights: {path} holds several such networks, at {' and '.join(whole)}; expected one")
    best = max(hits, key=lambda prefix: hits[prefix])
    inside = {key.removeprefix(best): original for key, original in keys.items() if key.startswith(best)}
    found = {names[name]: state[key] for name, key in inside.items() if name in names}
    return found, {name: key for name, key in inside.items() if name not in names}


def misfits(wanted: State, colour: State, found: State) -> list[str]:
    """What a file lacks of an encoder, or has in another shape than the encoder or that for three channels."""
    missing = [name for name in wanted if name not in found and not name.endswith(COUNTER)]
    wrong = [
        f"{name} {size(tensor)}, expected {' or '.join(dict.fromkeys((size(colour[name]), size(wanted[name]))))}"
        for name, tensor in found.items()
        if tensor.shape not in (wanted[name].shape, colour[name].shape)
    ]
    return [*listed("missing", missing), *listed("other shape", wrong)]


def size(tensor: Tensor) -> str:
    """A shape as 64x3x7x7."""
    return "x".join(map(str, tensor.shape)) or "scalar"


def listed(what: str, names: list[str]) -> list[str]:
    """A part of a message, if there is something to say."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [f"{what}: {', '.join(names[:SHOWN])}{more}"] if names else []
