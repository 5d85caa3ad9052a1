"""The network of a run on its device: one for all folds and for the submission, so that it is compiled only once."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn

from salt import build
from salt.config import RunConfig
from salt.machine import distributed
from salt.machine.device import Runtime, full_gpu_named
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
    if runtime.device.type == "cpu" and runtime.dtype != torch.float32:
        depthwise_in_float32(model)
    with full_gpu_named():
        model = model.to(runtime.device)
        if config.trainer.channels_last:
            model = model.to(memory_format=torch.channels_last)
    # a compiled network takes one batch size in training and one in prediction, so no code for all sizes is needed
    return Network(model, torch.compile(model, dynamic=False) if config.trainer.compile else model)


def with_common_norms(model: Segmenter) -> Segmenter:
    """The model with batch norms that see the batches of all processes (SyncBatchNorm).

    timm's function keeps the activations within timm's own norms; torch's would drop them.
    """
    common: Segmenter = convert_sync_batchnorm(model)
    return common


class Float32Conv2d(nn.Conv2d):
    """A convolution that computes in float32 also where the network around it computes in a shorter format."""

    def forward(self, x: Tensor) -> Tensor:
        """The convolution of x."""
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


def depthwise_in_float32(model: nn.Module) -> None:
    """Let the depthwise convolutions of a model, one kernel for each channel, compute in float32.

    On CPUs torch computes their gradients in bfloat16 several times slower, even where bfloat16 is native; with this,
    EfficientNets train 1.4 times as fast as in either format alone on an Intel Xeon with AMX.
    """
    for part in model.modules():
        if isinstance(part, nn.Conv2d) and part.groups == part.in_channels > 1:
            kind = type(part)  # a class of its own where padding is done as in TensorFlow
            part.__class__ = type(kind.__name__, (Float32Conv2d, kind), {})
