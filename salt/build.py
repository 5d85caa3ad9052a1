"""The only place where a node of the config becomes an object."""

from collections.abc import Callable
from typing import Any

from hydra.errors import HydraException
from hydra.utils import get_object, instantiate
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from salt.config import Component, RunConfig, Stages
from salt.data.augment import Augment
from salt.models.encoder import N_STAGES, Encoder
from salt.models.segmenter import Segmenter


def build(group: str, node: dict[str, Any], **runtime: Any) -> Any:
    """The object of one node, with what is known only at run time added.

    Raises:
        ValueError: it cannot be built; the message names the group, the class and the cause.
    """
    try:
        return instantiate(node, **runtime, _convert_="all")
    except (HydraException, ValueError, TypeError) as error:
        cause: BaseException = error
        while isinstance(cause, HydraException) and cause.__cause__ is not None:
            cause = cause.__cause__
        raise ValueError(f"{group}: cannot build {node['_target_']}: {type(cause).__name__}: {cause}") from error


def factory(group: str, component: Component, *without: str) -> Callable[[int], nn.Module]:
    """A function that builds the component's module for a number of channels."""
    node = component.node(*without)
    get_target(group, node["_target_"])  # a misspelt class is found even where no stage uses it
    return lambda channels: build(group, node, channels=channels)


def get_target(group: str, target: str) -> Any:
    """The class or function of that name."""
    try:
        return get_object(target)
    except (ImportError, ValueError, HydraException) as error:
        raise ValueError(f"{group}: there is no {target}: {error}") from error


def build_model(config: RunConfig) -> Segmenter:
    """The whole network in float32 on the CPU, with random or loaded encoder weights."""
    gate = factory("attention", config.attention, "encoder", "decoder")
    encoder = Encoder(config.encoder.name, config.encoder.weights, gate, stages(config.attention.encoder))
    decoder = build(
        "decoder",
        config.decoder.node(),
        encoder_channels=encoder.channels,
        gate=gate,
        gated_stages=stages(config.attention.decoder),
    )
    return Segmenter(
        window=build("input", config.input.node()),
        encoder=encoder,
        center=factory("center", config.center)(encoder.channels[-1]),
        decoder=decoder,
        head=build("hypercolumn", config.hypercolumn.node(), channels=decoder.channels),
        supervision=build("deep-supervision", config.deep_supervision.node(), channels=decoder.channels),
    )


def without_weights(config: RunConfig) -> RunConfig:
    """The same config with a random encoder, for where all weights come from a file of the run."""
    return config.model_copy(update={"encoder": config.encoder.model_copy(update={"weights": None})})


def stages(setting: Stages) -> list[int]:
    """The stages of an encoder or decoder that a setting names."""
    return list(range(1, N_STAGES + 1)) if setting == "all" else list(setting)


def build_loss(config: RunConfig) -> nn.Module:
    """The segmentation loss."""
    loss: nn.Module = build("loss", config.loss.node())
    return loss


def build_augment(config: RunConfig) -> Augment:
    """The augmentation of one training tile."""
    augment: Augment = build("augment", config.augment.node())
    return augment


def build_optimizer(config: RunConfig, model: nn.Module) -> Optimizer:
    """The optimizer; biases and the scales of norms (tensors of one dimension) are not decayed."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    optimizer: Optimizer = build("optimizer", config.optimizer.node(), params=groups)
    return optimizer


def build_schedule(config: RunConfig, optimizer: Optimizer, steps_per_epoch: int) -> LRScheduler:
    """The learning rate's schedule, one call of step() after each training step."""
    schedule: LRScheduler = build(
        "schedule",
        config.schedule.node(),
        optimizer=optimizer,
        epochs=config.trainer.epochs,
        steps_per_epoch=steps_per_epoch,
    )
    return schedule
