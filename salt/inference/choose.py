"""Which engine predicts: the one that the settings name, or OpenVINO if it serves."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salt.config import RunConfig
from salt.inference.engine import Engine, load_torch
from salt.inference.openvino import load_openvino, missing
from salt.machine.device import Runtime

log = logging.getLogger("salt")


def load_engine(
    config: RunConfig,
    files: Sequence[Path],
    runtime: Runtime,
    compile: bool = False,
    example: NDArray[np.uint8] | None = None,
) -> Engine:
    """Return an engine with the networks of some files of weights, as `trainer.engine` says.

    With "auto", which only commands set, it is OpenVINO if that predicts the same of an `example` (N h w).

    Raises:
        ValueError: a file cannot be used, the device's memory is too small, or OpenVINO is named and cannot be used.
    """
    kind: str = config.trainer.engine
    if kind == "openvino" or (kind == "auto" and not compile and missing(runtime) is None):
        try:
            return load_openvino(config, files, runtime, example)
        except ValueError as error:
            if kind == "openvino":
                raise
            log.warning("%s; predicting with torch", error)
    return load_torch(config, files, runtime, compile)
