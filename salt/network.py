"""The network of a run on its device: one for all folds and for the submission, so that it is compiled only once."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from timm.layers import convert_sync_batchnorm
from torch import Tensor

from salt import build
from salt.config import RunConfig
from salt.machine import distributed
from salt.machine.device import Runtime, full_gpu_named
from salt.models.depthwise import speed_up_depthwise
from salt.models.segmenter import Output, Segmenter

Forward = Callable[[Tensor, Tensor], Output]  # images (N 1 H W) and survey depths (N)


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
    model = build.build_model(build.without_weights(config))
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
