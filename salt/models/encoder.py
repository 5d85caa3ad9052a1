"""Encoders of segmentation-models-pytorch with one input channel, local or ImageNet weights, and attention gates."""

import difflib
import os
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlparse

import timm
import torch
from safetensors.torch import load_file
from segmentation_models_pytorch.encoders import get_encoder, get_encoder_names
from torch import Tensor, nn

N_STAGES = 5  # feature maps at strides 2, 4, 8, 16, 32
Gate = Callable[[int], nn.Module]  # makes a gate for a number of channels

# Modules of the ResNet and SENet families whose output is the feature map of stage 1 ... 5.
_STAGE_MODULES = (("relu", "layer0"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))


class Encoder(nn.Module):
    """Feature maps of an encoder at strides 1 (the input itself), 2, 4 ... 32, gated after the named stages.

    In the ResNet and SENet families a gate follows its stage inside the network, so the next stage sees the gated map;
    other families are closed, there the gate is applied to the map that is handed out.

    Shape: (N 1 H W) to a list of 6 maps (N C_i ceil(H / 2^i) ceil(W / 2^i)); `channels` gives C_i.

    Raises:
        ValueError: unknown encoder, weights that cannot be had or do not fit, a stage outside 1 ... 5.
    """

    def __init__(self, name: str, weights: str | None, gate: Gate = nn.Identity, gated_stages: Sequence[int] = ()):
        super().__init__()
        self.body = load_body(name, weights)
        self.channels: list[int] = list(self.body.out_channels)  # type: ignore[arg-type]
        self.gates = nn.ModuleDict()
        for stage in sorted(set(gated_stages)):
            if not 1 <= stage <= N_STAGES:
                raise ValueError(f"attention.encoder has stage {stage}, expected stages of 1..{N_STAGES}")
            module = gate(self.channels[stage])
            inner = next((n for n in _STAGE_MODULES[stage - 1] if hasattr(self.body, n)), None)
            if inner is not None and hasattr(self.body, "layer4"):
                setattr(self.body, inner, nn.Sequential(getattr(self.body, inner), module))
            else:
                self.gates[str(stage)] = module

    def forward(self, x: Tensor) -> list[Tensor]:
        """Feature maps of a batch, shallow first."""
        features: list[Tensor] = list(self.body(x))
        for stage, gate in self.gates.items():
            features[int(stage)] = gate(features[int(stage)])
        return features


def load_body(name: str, weights: str | None) -> nn.Module:
    """An encoder with one input channel: random (None), "imagenet", or from a local .safetensors or .pth file."""
    if not name.startswith("tu-") and name not in get_encoder_names():
        near = difflib.get_close_matches(name, get_encoder_names(), n=5, cutoff=0.4)
        raise ValueError(
            f"encoder.name={name} is no encoder of segmentation-models-pytorch; near names: {', '.join(near)}"
        )
    try:
        if weights is None:
            return get_encoder(name, in_channels=1, weights=None)
        if weights == "imagenet":
            return with_hub(lambda: get_encoder(name, in_channels=1, weights="imagenet"))
        return load_local(name, Path(weights))
    except KeyError as error:
        raise ValueError(f"encoder.weights={weights}: {error.args[0]}") from None
    except RuntimeError as error:  # timm's word for an unknown model, or for one without weights
        near = [f"tu-{m}" for m in difflib.get_close_matches(name[3:], timm.list_models(), n=5, cutoff=0.4)]
        raise ValueError(f"encoder.name={name}: {error}; near names: {', '.join(near)}") from None


def load_local(name: str, path: Path) -> nn.Module:
    """An encoder with the weights of a file: smp's or torchvision's ResNet keys, for three channels or one."""
    if not path.is_file():
        raise ValueError(
            f"encoder.weights: there is no file {path}; expected imagenet, null, or a .safetensors or .pth file"
        )
    try:
        state = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:  # the readers raise many kinds for a damaged or foreign file
        raise ValueError(
            f"encoder.weights: {path} cannot be read as plain weights: {str(error).splitlines()[0]}"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"encoder.weights: {path} is no plain state dict of tensors")
    encoder = get_encoder(name, in_channels=3, weights=None)
    first = next(key for key, value in encoder.named_parameters() if value.ndim == 4)
    in_channels = int(state[first].shape[1]) if first in state else 3
    if in_channels == 1:
        encoder = get_encoder(name, in_channels=1, weights=None)
    try:
        encoder.load_state_dict(dict(state))
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:4]]
        raise ValueError(f"encoder.weights: {path} does not fit {name}: {' '.join(lines)[:400]}") from None
    if in_channels != 1:
        encoder.set_in_channels(1, pretrained=True)  # sums the colour kernels: a grey image is three equal channels
    return encoder


def with_hub(load: Callable[[], nn.Module]) -> nn.Module:
    """Call `load` with the hub's files: the local cache first, the network only where it answers at once."""
    from huggingface_hub import constants
    from huggingface_hub.errors import LocalEntryNotFoundError

    was_offline = constants.HF_HUB_OFFLINE
    try:
        constants.HF_HUB_OFFLINE = was_offline or not reachable(constants.ENDPOINT)  # no 20 s of retries
        return load()
    except (LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            "encoder.weights=imagenet: the weights are not in the local cache and the hub cannot be reached. "
            "Use encoder.weights=FILE (.safetensors or .pth) or encoder.weights=null (random weights). "
            f"({type(error).__name__})"
        ) from None
    finally:
        constants.HF_HUB_OFFLINE = was_offline


def reachable(url: str, seconds: float = 0.5) -> bool:
    """Whether a TCP connection to the host of `url` opens in time (name look-up included), or a proxy is set."""
    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        return True
    address = urlparse(url)
    opened = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection((address.hostname or "", address.port or 443), timeout=seconds).close()
            opened.set()
        except OSError:
            pass

    thread = threading.Thread(target=connect, daemon=True)  # a name look-up has no time limit of its own
    thread.start()
    thread.join(seconds)
    return opened.is_set()
