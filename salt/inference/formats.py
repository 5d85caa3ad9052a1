"""The formats that salt-export writes: each one class that writes a network, loads the file, and describes it."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Loaded = Callable[..., NDArray[np.float32]]  # tensors to probabilities
ENTRY = "salt.json"  # the description within a file of torch


class Format(Protocol):
    """A kind of file."""

    suffix: str

    def write(self, model: nn.Module, example: tuple[Tensor, ...], any_size: bool, file: Path) -> None:
        """Write a module in eval mode, for batches of any number and, if `any_size`, images of any size."""

    def load(self, file: Path) -> Loaded:
        """The file as a function."""

    def describe(self, file: Path, facts: dict[str, str]) -> None:
        """Write the description into the file."""


class Onnx:
    """ONNX, which onnxruntime and many other programs run. The description is its metadata, an entry for each fact."""

    suffix = ".onnx"

    def write(self, model: nn.Module, example: tuple[Tensor, ...], any_size: bool, file: Path) -> None:
        """Write a module."""
        for package in ("onnx", "onnxruntime", "onnxscript"):
            library(package)
        with quiet(), refused_in_one_line(any_size):
            torch.onnx.export(
                program(model, example, any_size),
                f=file,
                input_names=["image", "depth"][: len(example)],
                output_names=["probability"],
                external_data=False,
                verbose=False,
            )

    def load(self, file: Path) -> Loaded:
        """The file in onnxruntime, on the CPU."""
        session = library("onnxruntime").InferenceSession(str(file), providers=["CPUExecutionProvider"])
        names = [given.name for given in session.get_inputs()]
        return lambda *given: session.run(None, dict(zip(names, (g.numpy() for g in given), strict=True)))[0]

    def describe(self, file: Path, facts: dict[str, str]) -> None:
        """Write the description."""
        onnx = library("onnx")
        content = onnx.load(str(file))
        onnx.helper.set_model_props(content, facts)
        onnx.save(content, str(file))


class TorchScript:
    """TorchScript, which torch.jit.load and C++ programs with libtorch read. The description is the file salt.json."""

    suffix = ".pt"

    def write(self, model: nn.Module, example: tuple[Tensor, ...], any_size: bool, file: Path) -> None:
        """Write a module."""
        with quiet(), refused_in_one_line(any_size), torch.no_grad():
            torch.jit.save(torch.jit.trace(model, example), str(file))

    def load(self, file: Path) -> Loaded:
        """The file as torch reads it."""
        with quiet():
            module = torch.jit.load(str(file))
        return without_gradients(module)

    def describe(self, file: Path, facts: dict[str, str]) -> None:
        """Write the description."""
        with quiet():
            torch.jit.save(torch.jit.load(str(file)), str(file), _extra_files={ENTRY: json.dumps(facts)})


class ExportedProgram:
    """torch.export's own format, which torch.export.load reads. The description is the file salt.json within it."""

    suffix = ".pt2"

    def write(self, model: nn.Module, example: tuple[Tensor, ...], any_size: bool, file: Path) -> None:
        """Write a module."""
        with quiet(), refused_in_one_line(any_size):
            torch.export.save(program(model, example, any_size), file)

    def load(self, file: Path) -> Loaded:
        """The file as torch reads it."""
        module = torch.export.load(file).module()
        return without_gradients(module)

    def describe(self, file: Path, facts: dict[str, str]) -> None:
        """Write the description."""
        torch.export.save(torch.export.load(file), file, extra_files={ENTRY: json.dumps(facts)})


FORMATS: dict[str, Format] = {"onnx": Onnx(), "torchscript": TorchScript(), "exported-program": ExportedProgram()}


def without_gradients(module: nn.Module) -> Loaded:
    """A module as a function to arrays."""

    def run(*given: Tensor) -> NDArray[np.float32]:
        with torch.no_grad():
            probabilities: Tensor = module(*given)
            return probabilities.numpy()

    return run


def program(model: nn.Module, example: tuple[Tensor, ...], any_size: bool) -> torch.export.ExportedProgram:
    """The module's operations, for batches of any number and, if `any_size`, sides of 64, 96, 128 ... pixels."""
    batch = torch.export.Dim("batch")
    sides = {2: 32 * torch.export.Dim("rows", min=2), 3: 32 * torch.export.Dim("columns", min=2)} if any_size else {}
    shapes = ({0: batch} | sides, {0: batch})[: len(example)]
    with torch.no_grad():
        return torch.export.export(model, example, dynamic_shapes=shapes)


def library(name: str) -> Any:
    """A package of the extra `export`.

    Raises:
        ValueError: it is not installed.
    """
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise ValueError(f"ONNX needs the package {name}: pip install 'salt-segmentation[export]'") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Within this context torch's exporters do not warn: the file is tried afterwards."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


@contextmanager
def refused_in_one_line(any_size: bool) -> Iterator[None]:
    """Within this context a network that an exporter does not take is a ValueError."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError, AssertionError, NotImplementedError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        hint = "; without --size any it may go" if any_size else ""
        raise ValueError(f"torch cannot export this network{hint}: {reason[:300]}") from error
