"""The formats that salt-export writes: each one class that converts a network, loads the file, and describes it."""

import importlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from timm.layers import padding
from torch import Tensor, nn

Loaded = Callable[..., NDArray[np.float32]]  # tensors to probabilities
ENTRY = "salt.json"  # the description within a file of torch
LARGEST = 1.5e9  # bytes of weights: torch writes larger ones into a second file beside the ONNX file


class Format(Protocol):
    """A kind of file; its content is held in memory."""

    suffix: str

    def convert(self, model: nn.Module, example: tuple[Tensor, ...], any_size: bool) -> bytes:
        """A module in eval mode, for batches of any number and, if `any_size`, images of any size."""

    def load(self, content: bytes) -> Loaded:
        """The file as a function."""

    def describe(self, content: bytes, facts: dict[str, str]) -> bytes:
        """The file with its description."""


class Onnx:
    """ONNX, which onnxruntime and many other programs run. The description is its metadata, an entry for each fact."""

    suffix = ".onnx"

    def convert(self, model: nn.Module, example: tuple[Tensor, ...], any_size: bool) -> bytes:
        """The module as ONNX.

        Raises:
            ValueError: a package is missing, or the weights are too large for one file.
        """
        for package in ("onnx", "onnxruntime", "onnxscript"):
            library(package)
        size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
        if size > LARGEST:
            raise ValueError(
                f"these networks have {size / 1e9:.1f} GB of weights, expected {LARGEST / 1e9:g} GB or less for one "
                "ONNX file; --folds each writes smaller ones"
            )
        names = ["image", "depth"][: len(example)]
        given = program(model, example, any_size)
        made = torch.onnx.export(given, input_names=names, output_names=["probability"], verbose=False)
        assert made is not None
        return bytes(made.model_proto.SerializeToString())

    def load(self, content: bytes) -> Loaded:
        """The file in onnxruntime, on the CPU."""
        session = library("onnxruntime").InferenceSession(content, providers=["CPUExecutionProvider"])
        names = [given.name for given in session.get_inputs()]
        return lambda *given: session.run(None, dict(zip(names, (g.numpy() for g in given), strict=True)))[0]

    def describe(self, content: bytes, facts: dict[str, str]) -> bytes:
        """The file with its description."""
        onnx = library("onnx")
        model = onnx.load_from_string(content)
        onnx.helper.set_model_props(model, facts)
        return bytes(model.SerializeToString())


class TorchScript:
    """TorchScript, which torch.jit.load and C++ programs with libtorch read. The description is the file salt.json."""

    suffix = ".pt"

    def convert(self, model: nn.Module, example: tuple[Tensor, ...], any_size: bool) -> bytes:
        """The module as TorchScript."""
        with torch.no_grad():
            return self.saved(torch.jit.trace(model, example))

    def load(self, content: bytes) -> Loaded:
        """The file as torch reads it."""
        return without_gradients(torch.jit.load(io.BytesIO(content)))

    def describe(self, content: bytes, facts: dict[str, str]) -> bytes:
        """The file with its description."""
        return self.saved(torch.jit.load(io.BytesIO(content)), _extra_files={ENTRY: json.dumps(facts)})

    def saved(self, module: Any, **more: Any) -> bytes:
        """The content of a file."""
        buffer = io.BytesIO()
        torch.jit.save(module, buffer, **more)
        return buffer.getvalue()


class ExportedProgram:
    """torch.export's own format, which torch.export.load reads. The description is the file salt.json within it."""

    suffix = ".pt2"

    def convert(self, model: nn.Module, example: tuple[Tensor, ...], any_size: bool) -> bytes:
        """The module as an ExportedProgram."""
        return self.saved(program(model, example, any_size))

    def load(self, content: bytes) -> Loaded:
        """The file as torch reads it."""
        return without_gradients(torch.export.load(io.BytesIO(content)).module())

    def describe(self, content: bytes, facts: dict[str, str]) -> bytes:
        """The file with its description."""
        return self.saved(torch.export.load(io.BytesIO(content)), extra_files={ENTRY: json.dumps(facts)})

    def saved(self, made: torch.export.ExportedProgram, **more: Any) -> bytes:
        """The content of a file."""
        buffer = io.BytesIO()
        torch.export.save(made, buffer, **more)
        return buffer.getvalue()


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
    rows, columns = (32 * torch.export.Dim(name, min=2) for name in ("rows", "columns"))
    shapes = ({0: batch} | ({2: rows, 3: columns} if any_size else {}), {0: batch})[: len(example)]
    with torch.no_grad(), even_sides() if any_size else nullcontext():
        return torch.export.export(model, example, dynamic_shapes=shapes)


@contextmanager
def even_sides() -> Iterator[None]:
    """Within this context timm pads as TensorFlow does for sides that are multiples of a layer's stride.

    The padding is then one number, and the same as by timm's formula. Computed from symbolic sides that formula grows
    with each layer: EfficientNet-Lite0 took minutes instead of seconds.
    """
    whole = padding.get_same_padding
    padding.get_same_padding = lambda x, kernel_size, stride, dilation: max(
        dilation * (kernel_size - 1) + 1 - stride, 0
    )
    try:
        yield
    finally:
        padding.get_same_padding = whole


def library(name: str) -> Any:
    """A package of the extra `export`.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ValueError(f"ONNX needs the package {name}: pip install 'salt-segmentation[export]'") from None


@contextmanager
def in_one_line(any_size: bool) -> Iterator[None]:
    """Within this context torch's exporters do not warn, and what they or onnxruntime do not take is a ValueError."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ValueError, OSError):
        raise
    except Exception as error:  # of many classes, onnxruntime's own among them
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        hint = "; without --size any it may go" if any_size else ""
        raise ValueError(f"this network cannot be exported{hint}: {reason[:300]}") from error
    finally:
        logging.disable(logging.NOTSET)
