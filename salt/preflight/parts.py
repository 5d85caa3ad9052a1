"""Build every part of a run and try it on a dummy batch, before anything is read or written."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from salt import build
from salt.config import RunConfig
from salt.losses.combine import set_progress, simple_losses
from salt.models.segmenter import Segmenter
from salt.training import setup


def try_parts(config: RunConfig) -> int:
    """Build every part, push a dummy batch through on the CPU, and return the number of parameters.

    Raises:
        ValueError: all parts that cannot be built, in one message.
    """
    model, loss = build_parts(with_tile(config))
    for progress in (0.0, 0.999):
        set_progress(loss, progress)
        check_dummy_batch(config, model, loss)
    return sum(p.numel() for p in model.parameters())


def check_parts(config: RunConfig) -> None:
    """Check that every part can be built, in a moment: without data, and on torch's meta device without memory.

    Raises:
        ValueError: all parts that cannot be built, in one message.
    """
    if config.encoder.name is not None:
        config = build.without_weights(config)
    config = with_tile(config)
    try:
        with torch.device("meta"):
            build_parts(config)
    except Exception:  # some networks compute with their weights when they are built
        build_parts(config)


def with_tile(config: RunConfig) -> RunConfig:
    """Return settings with a tile size; if it is unknown before the data is read, the largest that the input takes."""
    if config.data.tile is not None:
        return config
    size = config.input.node().get("resize", config.input.node()["size"])
    return config.model_copy(update={"data": config.data.model_copy(update={"tile": [size, size]})})


def build_parts(config: RunConfig) -> tuple[Segmenter, nn.Module]:
    """Build every part; return the network and the loss.

    Raises:
        ValueError: all parts that cannot be built, in one message.
    """
    problems: list[str] = []

    def attempt(make: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return make(config, *arguments)
        except ValueError as error:
            problems.append(str(error))

    model, loss = attempt(build.build_model), attempt(build.build_loss)
    attempt(build.build_augment)
    attempt(setup.build_logger)
    stand_in = model or nn.Conv2d(1, 1, 1)
    attempt(setup.build_averaging, stand_in)
    optimizer = attempt(setup.build_optimizer, stand_in)
    if optimizer is not None:
        attempt(setup.build_schedule, optimizer, 10)
    if problems:
        raise ValueError("\n".join(problems))
    return model, loss


def check_dummy_batch(config: RunConfig, model: Segmenter, loss: nn.Module) -> None:
    """Try one forward and backward pass on two dummy tiles.

    Raises:
        ValueError: the network or the loss cannot take them; the message says which.
    """
    masks = torch.zeros(2, 1, *model.tile)
    masks[0, :, model.tile[0] // 2 :] = 1
    try:
        output = model(torch.rand_like(masks), torch.rand(2))
    except Exception as error:  # a part may be the user's own
        raise ValueError(
            f"encoder.name={config.encoder.name} with these options cannot take a tile: {type(error).__name__}: {error}"
        ) from error
    if output.logits.shape != masks.shape:
        raise ValueError(
            f"the decoder and head give logits {tuple(output.logits.shape)}, expected {tuple(masks.shape)}"
        )
    for part in simple_losses(loss):
        check_loss(part, output.logits, masks)
    try:
        value = model.loss(output, masks, loss)
        value.backward()
    except Exception as error:
        raise ValueError(
            f"deep-supervision: the loss of these options fails: {type(error).__name__}: {error}"
        ) from error
    if not torch.isfinite(value):
        raise ValueError(f"a dummy batch gives the loss {value.item()}")


def check_loss(loss: nn.Module, logits: Tensor, masks: Tensor) -> None:
    """Check that a loss takes logits and masks (N 1 H W) and returns a scalar with a gradient."""
    expected = f"loss: {type(loss).__name__}.forward(logits, masks) must return a scalar tensor with a gradient, got"
    try:
        value = loss(logits, masks)
    except Exception as error:
        raise ValueError(f"{expected} {type(error).__name__}: {error}") from error
    if not isinstance(value, Tensor):
        raise ValueError(f"{expected} {type(value).__name__}")
    if value.ndim or not value.requires_grad:
        raise ValueError(
            f"{expected} a tensor of shape {tuple(value.shape)}{'' if value.requires_grad else ' without a gradient'}"
        )
