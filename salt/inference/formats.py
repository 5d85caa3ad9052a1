"""The formats that salt-export writes: functions that convert a network, load the file, and describe it."""

import importlib
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from timm.layers import padding
from torch import Tensor, nn

Example = tuple[Tensor, ...]
Loaded = Callable[..., NDArray[np.float32]]  # tensors to probabilities
Content = tuple[bytes, ...]  # of a file, or of its weights and the file
ENTRY = "salt.json"  # the description within a file of torch


@dataclass
class Format:
    """A kind of file; its content is held in memory. A second file, with the ending `weights`, is named like it."""

    suffix: str
    convert: Callable[[nn.Module, Example, bool], Content]  # a module in eval mode, for any batch and perhaps any size
    load: Callable[[Content], Loaded]
    describe: Callable[[Content, dict[str, str]], Content]  # adds the description
    weights: str | None = None

    def files(self, file: Path) -> list[Path]:
        """Return the files of a content, in the order in which they are written: the one that is named last."""
        return [file] if self.weights is None else [file.with_suffix(self.weights), file]

    def read(self, file: Path) -> Content:
        """Return the content of a file, and of its weights."""
        return tuple(part.read_bytes() for part in self.files(file))


def convert_to_onnx(model: nn.Module, example: Example, any_size: bool) -> Content:
    """Return a module as ONNX; raise a ValueError if a package is missing."""
    for package in ("onnx", "onnxruntime", "onnxscript"):
        import_extra(package)
    names = ["image", "depth"][: len(example)]
    program = export_program(model, example, any_size)
    made = torch.onnx.export(program, input_names=names, output_names=["probability"], verbose=False)
    assert made is not None
    return (bytes(made.model_proto.SerializeToString()),)


def load_onnx(content: Content) -> Loaded:
    """Return an ONNX file in onnxruntime, on the CPU."""
    session = import_extra("onnxruntime").InferenceSession(content[0], providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    return lambda *given: session.run(None, dict(zip(names, (g.numpy() for g in given), strict=True)))[0]


def describe_onnx(content: Content, facts: dict[str, str]) -> Content:
    """Return an ONNX file with an entry of its metadata for each fact."""
    onnx = import_extra("onnx")
    model = onnx.load_from_string(content[0])
    onnx.helper.set_model_props(model, facts)
    return (bytes(model.SerializeToString()),)


def convert_to_torchscript(model: nn.Module, example: Example, any_size: bool) -> Content:
    """Return a module as TorchScript, which takes any size."""
    with torch.no_grad():
        return saved_bytes(torch.jit.save, torch.jit.trace(model, example))


def describe_torchscript(content: Content, facts: dict[str, str]) -> Content:
    """Return a TorchScript file with salt.json within it."""
    return saved_bytes(torch.jit.save, torch.jit.load(io.BytesIO(content[0])), _extra_files={ENTRY: json.dumps(facts)})


def convert_to_program(model: nn.Module, example: Example, any_size: bool) -> Content:
    """Return a module in torch.export's own format."""
    return saved_bytes(torch.export.save, export_program(model, example, any_size))


def describe_program(content: Content, facts: dict[str, str]) -> Content:
    """Return a file of torch.export with salt.json within it."""
    return saved_bytes(
        torch.export.save, torch.export.load(io.BytesIO(content[0])), extra_files={ENTRY: json.dumps(facts)}
    )


def convert_to_openvino(model: nn.Module, example: Example, any_size: bool) -> Content:
    """Return a module as weights and graph of OpenVINO, which takes any size."""
    import_extra("openvino")
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with torch.no_grad():
        traced = torch.jit.trace(model, example, check_trace=False)
    frontend = FrontEndManager().load_by_framework("pytorch")  # `openvino.convert_model` would tell Intel of its use
    decoder = TorchScriptPythonDecoder(traced)  # has to live as long as the frontend's calls
    graph = frontend.convert(frontend.load(decoder))
    for tensor, name in zip(graph.inputs, ("image", "depth"), strict=False):
        tensor.get_tensor().set_names({name})
    graph.output(0).get_tensor().set_names({"probability"})
    return saved_graph(graph)


@cache
def openvino_core() -> Any:
    """Return OpenVINO's core, which this process keeps to its end.

    Its CPU plugin gives the thread that loads it a stack for signals. If another thread frees the last core, that stack
    is gone and the next signal, such as Ctrl-C, ends the process with a segmentation fault.
    """
    return import_extra("openvino").Core()


def saved_graph(graph: Any) -> Content:
    """Return weights and graph as OpenVINO saves them."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.xml"
        import_extra("openvino").save_model(graph, file, compress_to_fp16=False)
        return file.with_suffix(".bin").read_bytes(), file.read_bytes()


def read_graph(content: Content) -> Any:
    """Return the graph that OpenVINO reads from weights and graph."""
    weights, graph = content
    return openvino_core().read_model(model=graph, weights=weights)


def load_from_openvino(content: Content) -> Loaded:
    """Return a graph in OpenVINO, on the CPU."""
    hints = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino_core().compile_model(read_graph(content), "CPU", hints)
    return lambda *given: compiled([tensor.numpy() for tensor in given])[0]


def describe_openvino(content: Content, facts: dict[str, str]) -> Content:
    """Return weights and graph with `salt` in the graph's rt_info."""
    graph = read_graph(content)
    for key, value in facts.items():
        graph.set_rt_info(value, ["salt", key])
    return saved_graph(graph)


EXPORT_FORMATS = {
    "onnx": Format(".onnx", convert_to_onnx, load_onnx, describe_onnx),
    "torchscript": Format(
        ".pt",
        convert_to_torchscript,
        lambda content: as_function(torch.jit.load(io.BytesIO(content[0]))),
        describe_torchscript,
    ),
    "exported-program": Format(
        ".pt2",
        convert_to_program,
        lambda content: as_function(torch.export.load(io.BytesIO(content[0])).module()),
        describe_program,
    ),
    "openvino": Format(".xml", convert_to_openvino, load_from_openvino, describe_openvino, weights=".bin"),
}


def saved_bytes(save: Callable[..., None], made: Any, **extra: Any) -> Content:
    """Return the content of the file that one of torch's functions saves."""
    buffer = io.BytesIO()
    save(made, buffer, **extra)
    return (buffer.getvalue(),)


def as_function(module: nn.Module) -> Loaded:
    """Return a module as a function that gives arrays."""

    @torch.no_grad()
    def run(*given: Tensor) -> NDArray[np.float32]:
        probabilities: Tensor = module(*given)
        return probabilities.numpy()

    return run


def export_program(model: nn.Module, example: Example, any_size: bool) -> torch.export.ExportedProgram:
    """Return the module's operations, for batches of any number and, if `any_size`, sides of 64, 96, 128 ... pixels."""
    batch = torch.export.Dim("batch")
    rows, columns = (32 * torch.export.Dim(name, min=2) for name in ("rows", "columns"))
    shapes = ({0: batch} | ({2: rows, 3: columns} if any_size else {}), {0: batch})[: len(example)]
    with torch.no_grad(), even_sides() if any_size else nullcontext():
        return torch.export.export(model, example, dynamic_shapes=shapes)


@contextmanager
def even_sides() -> Iterator[None]:
    """Let timm pad as TensorFlow does, for sides that are multiples of a layer's stride.

    The padding is then one number, and the same as by timm's formula. Computed from symbolic sides that formula grows
    with each layer: EfficientNet-Lite0 took minutes instead of seconds.
    """
    original = padding.get_same_padding
    padding.get_same_padding = lambda x, size, stride, dilation: max(dilation * (size - 1) + 1 - stride, 0)
    try:
        yield
    finally:
        padding.get_same_padding = original


def import_extra(name: str) -> Any:
    """Import a package of the extra `export` or `openvino`; raise ValueError if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        extra = "openvino" if name == "openvino" else "export"
        raise ValueError(f"this format needs the package {name}: pip install 'salt-segmentation[{extra}]'") from None


@contextmanager
def exporter_errors(any_size: bool) -> Iterator[None]:
    """Raise what torch's exporters or onnxruntime refuse as a ValueError of one line, and hide their warnings."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ValueError, OSError):
        raise
    except Exception as error:  # of many classes, onnxruntime's own among them
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        hint = "; it may work without --size any" if any_size else ""
        raise ValueError(f"this network cannot be exported{hint}: {reason[:300]}") from error
    finally:
        logging.disable(logging.NOTSET)
