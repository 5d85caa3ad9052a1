"""The engine of OpenVINO, which predicts on CPUs in a fraction of torch's time.

OpenVINO has crashed on some processors. So another process converts the networks, tries them on a batch, and compares
them with torch. `python -m salt.inference.openvino FOLDER` is that process.
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from salt.config import RunConfig, check_config
from salt.inference.engine import TorchEngine, load_torch, try_images
from salt.inference.formats import convert_to_openvino, openvino_core
from salt.machine.device import Runtime, choose_runtime
from salt.runs.stacks import Size

CLOSE = 0.01  # the most that a probability of the first batch may differ from torch's in float32
ROUNDING = 2  # in bfloat16: how many times as much as torch's own
LONGEST = 1800  # seconds that the other process may take
GRAPH, REQUEST, ANSWER, EXAMPLE = "networks.xml", "request.json", "answer.json", "example.npy"


class OpenVINOEngine:
    """Networks of one architecture as a graph of OpenVINO, which several threads run at once."""

    name = "openvino"

    def __init__(self, graph: Path, size: Size, runtime: Runtime):
        self.size, self.runtime = size, runtime
        self._compiled = compile_graph(graph, runtime)
        self._own = threading.local()
        # its first call sets up what all share, and two threads that do so at once wait for each other without end
        self(np.zeros((1, *size), np.uint8), np.zeros(1, np.float32))

    def __call__(self, images: NDArray[np.uint8], depths: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return K probabilities (K N h w) of a batch; see `Engine`."""
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        result: NDArray[np.float32] = self._own.request.infer([images[:, None], depths])[0]
        return result.copy()  # the request uses its memory again


def compile_graph(graph: Path, runtime: Runtime) -> Any:
    """Return a graph that OpenVINO runs in the lanes of this process."""
    return openvino_core().compile_model(
        graph,
        "CPU",
        {
            "NUM_STREAMS": runtime.lanes,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": "bf16" if runtime.dtype == torch.bfloat16 else "f32",
        },
    )


def missing(runtime: Runtime) -> str | None:
    """Return why OpenVINO cannot predict here, or None."""
    if runtime.device.type != "cpu":
        return "it predicts on CPUs only"
    if find_spec("openvino") is None:
        return "the package openvino is not installed (pip install 'salt-segmentation[openvino]')"
    return None


def load_openvino(
    config: RunConfig, files: Sequence[Path], runtime: Runtime, example: NDArray[np.uint8] | None
) -> OpenVINOEngine:
    """Return an engine with the networks of some files of weights, which `example` (N h w) shows to agree with torch.

    Raises:
        ValueError: OpenVINO is missing, fails, or differs from torch.
    """
    if reason := missing(runtime):
        raise ValueError(f"engine openvino: {reason}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = config.model_dump(mode="json", by_alias=True)
        settings["trainer"]["engine"] = "torch"  # whatever asked for openvino
        request = {"config": settings, "files": [str(file.resolve()) for file in files]}
        (folder / REQUEST).write_text(json.dumps(request), encoding="utf-8")
        if example is not None:
            np.save(folder / EXAMPLE, example)
        answer = ask_other_process(folder)
        if not answer["difference"] <= max(CLOSE, ROUNDING * answer["rounding"]):  # NaN too
            found = f"{answer['difference']:.2g}"
            raise ValueError(f"engine openvino: its probabilities differ from torch's in float32 by {found}")
        height, width = answer["size"]
        return OpenVINOEngine(folder / GRAPH, (height, width), runtime)


def ask_other_process(folder: Path) -> dict[str, Any]:
    """Let another process convert and try the networks; return size, largest difference and torch's own rounding.

    Raises:
        ValueError: it fails.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "salt.inference.openvino", str(folder)]
    try:
        ended = subprocess.run(command, env=environment, capture_output=True, timeout=LONGEST, check=False)
    except subprocess.TimeoutExpired:
        raise ValueError(f"engine openvino: no answer after {LONGEST} seconds") from None
    if not (folder / ANSWER).is_file():
        lines = ended.stderr.decode(errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "no message")
        raise ValueError(f"engine openvino: its process ended with code {ended.returncode}: {last}")
    return json.loads((folder / ANSWER).read_text(encoding="utf-8"))


def main() -> None:
    """Convert the networks that a folder asks for, try them, and write graph and answer into it."""
    folder = Path(sys.argv[1])
    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    config = check_config(request["config"])
    runtime = choose_runtime(config.trainer)
    files = [Path(file) for file in request["files"]]
    engine = load_torch(config, files, runtime)
    example = np.load(folder / EXAMPLE) if (folder / EXAMPLE).is_file() else try_images(engine.size, 2)
    depths = np.full(len(example), 500, dtype=np.float32)
    convert(engine, folder / GRAPH)
    found = OpenVINOEngine(folder / GRAPH, engine.size, runtime)(example, depths)
    exact = load_torch(config, files, dataclasses.replace(runtime, dtype=torch.float32))(example, depths)
    answer = {"size": engine.size, "difference": float(np.abs(found - exact).max())}
    answer["rounding"] = float(np.abs(engine(example, depths) - exact).max())  # 0 in float32
    (folder / ANSWER).write_text(json.dumps(answer), encoding="utf-8")


class Graph(nn.Module):
    """The networks of an engine as one module, to be traced."""

    def __init__(self, engine: TorchEngine):
        super().__init__()
        self.mirror = engine.mirror
        self.engine = TorchEngine(engine.networks, engine.size, engine.runtime, mirror=False)
        self.networks = nn.ModuleList(engine.networks)  # type: ignore[arg-type]

    def forward(self, images: Tensor, depths: Tensor) -> Tensor:
        """Return K probabilities (K N h w); see `TorchEngine.probabilities`."""
        if not self.mirror:
            return self.engine.probabilities(images, depths)
        n = images.shape[0]  # the mirror images are in the same batch, so that the weights are read once
        both = self.engine.probabilities(torch.cat([images, images.flip(-1)]), torch.cat([depths, depths]))
        return (both[:, :n] + both[:, n:].flip(-1)) / 2


def convert(engine: TorchEngine, graph: Path) -> None:
    """Write the networks of an engine as one graph."""
    example = torch.from_numpy(try_images(engine.size, 2))[:, None], torch.full((2,), 500.0)
    content = convert_to_openvino(Graph(engine), example, any_size=False)
    for suffix, part in zip((".bin", ".xml"), content, strict=True):
        graph.with_suffix(suffix).write_bytes(part)


if __name__ == "__main__":
    main()
