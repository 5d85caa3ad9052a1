"""The network of a run on its device: one for all folds and for the submission, so that it is compiled only once."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from salt import build, ranks
from salt.config import RunConfig
from salt.models.segmenter import Output, Segmenter
from salt.runtime import Runtime

Forward = Callable[[Tensor, Tensor], Output]  # images (N 1 H W) and survey depths (N)


@dataclass(frozen=True)
class Network:
    """A network whose weights each fold and each prediction puts in."""

    model: Segmenter
    forward: Forward  # the model as it is called: compiled, or itself


def build_network(config: RunConfig, runtime: Runtime) -> Network:
    """The network with random weights; nothing is compiled before its first call."""
    model = build.build_model(build.without_weights(config)).to(runtime.device)
    if ranks.world_size() > 1 and runtime.device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if config.trainer.channels_last:
        model = model.to(memory_format=torch.channels_last)
    return Network(model, torch.compile(model) if config.trainer.compile else model)
