"""The only place where a node of the config becomes an object; and the network on its device, one for all folds."""

import inspect
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_args, get_type_hints

import torch
from hydra.errors import HydraException
from hydra.utils import get_object, instantiate
from pydantic import ConfigDict, TypeAdapter, ValidationError
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn

from salt.config import Component, RunConfig, Stages
from salt.data.augment import Augment
from salt.losses.known import taking_known
from salt.machine import distributed
from salt.machine.device import Runtime, full_gpu_named
from salt.models.depthwise import speed_up_depthwise
from salt.models.encoder import Encoder, NoEncoder, input_scale
from salt.models.inputs import Channels
from salt.models.segmenter import Output, Segmenter
from salt.paths import search_current_folder

logging.getLogger("hydra.utils").setLevel(logging.CRITICAL + 1)  # get_object logs the error that it raises

Forward = Callable[[Tensor, Tensor], Output]  # images (N 1 H W) and survey depths (N)


def build(group: str, node: dict[str, Any], **runtime: Any) -> Any:
    """The object of one node, with what is known only at run time added.

    Raises:
        ValueError: it cannot be built; the message names the group, the class and the cause.
    """
    check_settings(group, node)
    try:
        return instantiate(node, **runtime, _convert_="all")
    except (HydraException, ValueError, TypeError) as error:
        cause: BaseException = error
        while isinstance(cause, HydraException) and cause.__cause__ is not None:
            cause = cause.__cause__
        text = f"{group}: cannot build {node['_target_']}: {type(cause).__name__}: {cause}"
        if isinstance(cause, TypeError):  # Python names the unknown or missing argument; name the others too
            known = inspect.signature(get_target(group, node["_target_"])).parameters.values()
            names = [k.name for k in known if k.name not in runtime and k.kind not in (k.VAR_POSITIONAL, k.VAR_KEYWORD)]
            text += f"; its settings: {', '.join(names) or 'none'}"
        raise ValueError(text) from error


def check_settings(group: str, node: dict[str, Any], path: str = "") -> None:
    """Check the plain settings of a node, and of the nodes in it, against the types that its class declares.

    Python itself would take the word `no` for true, and 16.0 for a number of channels.

    Raises:
        ValueError: a setting has another type, or the choice `none` has settings at all.
    """
    target = get_target(group, node["_target_"])
    settings = {k: v for k, v in node.items() if not k.startswith("_")}
    if target is nn.Identity and settings:
        raise ValueError(f"{group}: the choice without effect has no settings, found {', '.join(settings)}")
    try:
        hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError):  # annotations of a foreign class that cannot be resolved
        hints = {}
    for key, value in settings.items():
        for i, part in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(part, dict) and "_target_" in part:
                check_settings(group, part, f"{path}{key}.{i}." if isinstance(value, list) else f"{path}{key}.")
        if is_plain(hints.get(key)):
            try:
                TypeAdapter(hints[key], config=ConfigDict(strict=True)).validate_python(value)
            except ValidationError as error:
                text = error.errors()[0]["msg"]
                raise ValueError(f"{group}: {path}{key}={value!r}, expected otherwise: {text}") from None


def is_plain(hint: Any) -> bool:
    """Whether a type is one of numbers and words, alone, optional or in a sequence."""
    parts = get_args(hint)
    return hint in (bool, int, float, str, type(None)) or (bool(parts) and all(is_plain(part) for part in parts))


def factory(group: str, component: Component, *without: str) -> Callable[[int], nn.Module]:
    """A function that builds the component's module for a number of channels."""
    node = component.node(*without)
    get_target(group, node["_target_"])  # a misspelt class is found even where no stage uses it
    return lambda channels: build(group, node, channels=channels)


def get_target(group: str, target: str) -> Any:
    """Return the class or function of that name, which may be a user's own, of the current folder.

    Raises:
        ValueError: there is none, or its module cannot be imported.
    """
    search_current_folder()
    try:
        return get_object(target)
    except (ImportError, ValueError, HydraException) as error:
        raise ValueError(f"{group}: there is no {target}: {why_missing(target, error)}") from error


def why_missing(target: str, error: Exception) -> str:
    """Return in one line why a class cannot be had, and what to do if its module is not found."""
    module, _, name = target.rpartition(".")
    first, cause = target.partition(".")[0], error.__cause__
    if isinstance(cause, ModuleNotFoundError) and cause.name == first:
        return (
            f"no module {first} in the current folder or in those of PYTHONPATH. Run the command in the folder of "
            f"{first}.py, or name that folder in the variable: PYTHONPATH=FOLDER"
        )
    absent = isinstance(cause, AttributeError) or (isinstance(cause, ModuleNotFoundError) and cause.name == target)
    if absent and module in sys.modules:
        near = get_close_matches(name, vars(sys.modules[module]), n=1)
        return f"{module} has no {name}{f'; did you mean {module}.{near[0]}?' if near else ''}"
    return str(error).splitlines()[0] if cause is None else f"{type(cause).__name__}: {cause}"


def build_model(config: RunConfig) -> Segmenter:
    """The whole network in float32 on the CPU, with random or loaded encoder weights."""
    mean, std = input_scale(config.encoder.name)
    mean = mean if config.input.mean is None else config.input.mean
    std = std if config.input.std is None else config.input.std
    channels = Channels(config.input.channels, mean, std)
    gate = build_gate(config)
    encoder = build_encoder(config, gate, channels.n_channels)
    decoder = build(
        "decoder",
        config.decoder.node(),
        encoder_channels=encoder.channels,
        gate=gate,
        gated_stages=stages(config.attention.decoder),
    )
    deepest = None if isinstance(encoder, NoEncoder) else encoder.channels[-1]
    context = get_target("deep-supervision", config.deep_supervision.target).n_context
    head = build("hypercolumn", config.hypercolumn.node(), channels=decoder.channels, context=context)
    return Segmenter(
        channels=channels,
        window=build("input", config.input.node("channels", "mean", "std"), tile=config.data.tile),
        encoder=encoder,
        center=build_center(config, deepest),
        decoder=decoder,
        head=head,
        supervision=build(
            "deep-supervision",
            config.deep_supervision.node(),
            deepest=deepest,
            channels=decoder.channels,
            width=head.width,
        ),
    )


def build_gate(config: RunConfig) -> Callable[[int], nn.Module]:
    """A function that builds the attention gate for a number of channels."""
    attention = config.attention
    if get_target("attention", attention.target) is nn.Identity and (attention.encoder or attention.decoder):
        raise ValueError("attention=none has no gate for the stages named in attention.encoder or attention.decoder")
    return factory("attention", attention, "encoder", "decoder")


def build_encoder(config: RunConfig, gate: Callable[[int], nn.Module], in_channels: int) -> Encoder | NoEncoder:
    """The encoder, or what stands for it where the decoder brings its own."""
    name, weights, stem = config.encoder.name, config.encoder.weights, config.encoder.stem
    gated_stages = stages(config.attention.encoder)
    if name is None:
        return NoEncoder(in_channels, weights, stem, gated_stages)
    return Encoder(name, weights, gate, gated_stages, in_channels, stem)


def build_center(config: RunConfig, channels: int | None) -> nn.Module:
    """The context block for an encoder's last map."""
    make = factory("center", config.center)
    if channels is not None:
        return make(channels)
    if get_target("center", config.center.target) is not nn.Identity:
        raise ValueError(f"center: {config.center.target} works on an encoder's last map; expected center=none")
    return nn.Identity()


def without_weights(config: RunConfig) -> RunConfig:
    """The same config with a random encoder, for where all weights come from a file of the run."""
    return config.model_copy(update={"encoder": config.encoder.model_copy(update={"weights": None})})


def stages(setting: Stages) -> list[int] | None:
    """The stages of an encoder or decoder that a setting names; None: all that there are."""
    return None if setting == "all" else list(setting)


def build_loss(config: RunConfig) -> nn.Module:
    """Return the segmentation loss; one of logits and masks alone refuses unknown pixels when it is called."""
    loss = build("loss", config.loss.node())
    if not isinstance(loss, nn.Module):
        raise ValueError(f"loss: expected {config.loss.target} to be a torch.nn.Module, it is {type(loss).__name__}")
    return taking_known(loss)


def build_augment(config: RunConfig) -> Augment:
    """The augmentation of one training tile."""
    augment: Augment = build("augment", config.augment.node())
    return augment


@dataclass(frozen=True)
class Network:
    """The network of a run. Each fold and each prediction loads its own weights into it."""

    model: Segmenter
    eval_forward: Forward  # the model as prediction calls it, and training on one device: compiled, or itself


def build_network(config: RunConfig, runtime: Runtime) -> Network:
    """The network with random weights; nothing is compiled before its first call.

    Raises:
        ValueError: the device's memory is too small for its weights.
    """
    model = build_model(without_weights(config))
    if distributed.world_size() > 1 and runtime.device.type == "cuda":
        model = with_common_norms(model)
    if runtime.device.type == "cpu":
        speed_up_depthwise(model)
    with full_gpu_named():
        model = model.to(runtime.device)
        if config.trainer.channels_last:
            model = model.to(memory_format=torch.channels_last)
    return compiled(model, config.trainer.compile)


def compiled(model: Segmenter, compile: bool) -> Network:
    """Return the network with its model as prediction calls it: compiled or as it is."""
    # it takes one batch size in training and one in prediction, so no code for all sizes is needed
    return Network(model, torch.compile(model, dynamic=False) if compile else model)


def with_common_norms(model: Segmenter) -> Segmenter:
    """The model with batch norms that see the batches of all processes (SyncBatchNorm).

    timm's function keeps the activations within timm's own norms; torch's would drop them.
    """
    common: Segmenter = convert_sync_batchnorm(model)
    return common
