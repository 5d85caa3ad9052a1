"""Build the network, the loss and the other parts of a training from the config."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn

from salt.components import build_part, get_target
from salt.config import RunConfig, Stages
from salt.data.augment import Augment
from salt.losses.known import taking_known
from salt.machine import distributed
from salt.machine.device import Runtime, explain_full_gpu
from salt.models.depthwise import speed_up_depthwise
from salt.models.encoder import GatedEncoder, NoEncoder, input_scale
from salt.models.inputs import Channels
from salt.models.segmenter import Output, Segmenter
from salt.sections import Component

Forward = Callable[[Tensor, Tensor], Output]  # images (N 1 H W) and survey depths (N)


def factory(group: str, component: Component, *without: str) -> Callable[[int], nn.Module]:
    """Return a function that builds the component's module for a number of channels."""
    node = component.node(*without)
    get_target(group, node["_target_"])  # finds a misspelt class even if no stage uses it
    return lambda channels: build_part(group, node, channels=channels)


def build_model(config: RunConfig) -> Segmenter:
    """Build the whole network in float32 on the CPU, with random or loaded encoder weights."""
    mean, std = input_scale(config.encoder.name)
    mean = mean if config.input.mean is None else config.input.mean
    std = std if config.input.std is None else config.input.std
    channels = Channels(config.input.channels, mean, std)
    gate = build_gate(config)
    encoder = build_encoder(config, gate, channels.n_channels)
    gates = {"gate": gate, "gated_stages": stages(config.attention.decoder)}
    decoder = build_part("decoder", config.decoder.node(), encoder_channels=encoder.channels, **gates)
    deepest = None if isinstance(encoder, NoEncoder) else encoder.channels[-1]
    context = get_target("deep-supervision", config.deep_supervision.target).n_context
    head = build_part("hypercolumn", config.hypercolumn.node(), channels=decoder.channels, context=context)
    window = build_part("input", config.input.node("channels", "mean", "std"), tile=config.data.tile)
    center = build_center(config, deepest)
    sizes = {"deepest": deepest, "channels": decoder.channels, "width": head.width}
    supervision = build_part("deep-supervision", config.deep_supervision.node(), **sizes)
    return Segmenter(channels, window, encoder, center, decoder, head, supervision)


def build_gate(config: RunConfig) -> Callable[[int], nn.Module]:
    """Return a function that builds the attention gate for a number of channels."""
    attention = config.attention
    if get_target("attention", attention.target) is nn.Identity and (attention.encoder or attention.decoder):
        raise ValueError("attention=none has no gate for the stages named in attention.encoder or attention.decoder")
    return factory("attention", attention, "encoder", "decoder")


def build_encoder(config: RunConfig, gate: Callable[[int], nn.Module], in_channels: int) -> GatedEncoder | NoEncoder:
    """Build the encoder, or its stand-in if the decoder brings its own."""
    name, weights, stem = config.encoder.name, config.encoder.weights, config.encoder.stem
    gated_stages = stages(config.attention.encoder)
    if name is None:
        return NoEncoder(in_channels, weights, stem, gated_stages)
    return GatedEncoder(name, weights, gate, gated_stages, in_channels, stem)


def build_center(config: RunConfig, channels: int | None) -> nn.Module:
    """Build the context block for an encoder's last map."""
    make = factory("center", config.center)
    if channels is not None:
        return make(channels)
    if get_target("center", config.center.target) is not nn.Identity:
        raise ValueError(f"center: {config.center.target} works on an encoder's last map; expected center=none")
    return nn.Identity()


def without_weights(config: RunConfig) -> RunConfig:
    """Return the config with a random encoder, for networks that get all weights from a file of the run."""
    return config.model_copy(update={"encoder": config.encoder.model_copy(update={"weights": None})})


def stages(setting: Stages) -> list[int] | None:
    """Return the stages that a setting names; None for all."""
    return None if setting == "all" else list(setting)


def build_loss(config: RunConfig) -> nn.Module:
    """Build the segmentation loss; one without the argument `known` refuses unknown pixels when it is called."""
    loss = build_part("loss", config.loss.node())
    if not isinstance(loss, nn.Module):
        raise ValueError(f"loss: expected {config.loss.target} to be a torch.nn.Module, it is {type(loss).__name__}")
    return taking_known(loss)


def build_augment(config: RunConfig) -> Augment:
    """Build the augmentation of one training tile."""
    return build_part("augment", config.augment.node())


@dataclass(frozen=True)
class Network:
    """The network of a run. Each fold and each prediction loads its own weights into it."""

    model: Segmenter
    forward: Forward  # `model`, compiled if trainer.compile; for prediction, and for training in one process


def build_network(config: RunConfig, runtime: Runtime) -> Network:
    """Build the network with random weights; raise ValueError if the device's memory is too small for them."""
    model = build_model(without_weights(config))
    if distributed.world_size() > 1 and runtime.device.type == "cuda":
        model = convert_sync_batchnorm(model)  # torch's own would drop the activations within timm's norms
    if runtime.device.type == "cpu":
        speed_up_depthwise(model)
    with explain_full_gpu():
        model = model.to(runtime.device)
        if config.trainer.channels_last:
            model = model.to(memory_format=torch.channels_last)
    return compiled(model, config.trainer.compile)


def compiled(model: Segmenter, compile: bool) -> Network:
    """Return the network with its model as prediction calls it: compiled or as it is."""
    # training has one batch size and prediction another: no code for all sizes
    return Network(model, torch.compile(model, dynamic=False) if compile else model)
