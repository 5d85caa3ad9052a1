"""What the bytes of a run depend on besides settings and data: code, machine, and how it was started."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import salt
from salt.machine.distributed import world_size
from salt.overrides import flatten
from salt.runs.files import read_json, write_json

LOCAL = "local.json"  # next to environment.json: what is private
RECORDED_PACKAGES = (
    *("torch", "numpy", "albumentations", "segmentation-models-pytorch", "timm", "hydra-core"),
    *("opencv-python-headless", "pillow", "scikit-learn", "scipy"),
)
# Variables that choose instructions, rounding or the device.
VARIABLES = (
    *("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE"),
    *("DNNL_DEFAULT_FPMATH_MODE", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS"),
    *("CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
)
# Entries of environment.json that change the bytes of a run if they change while it is interrupted.
COMPARED = (
    *("salt", "commit", "dirty", "python", "system", "cpu", "cpu_capability", "gpu"),
    *("precision", "threads", "processes", "variables", "packages"),
)


@dataclass(frozen=True)
class Start:
    """How a run was started, and the command that reproduces it; `shared` is the command without paths."""

    launcher: str | None = None
    command: str | None = None
    shared: str | None = None
    folder: str | None = None  # the current one


@dataclass(frozen=True)
class Conditions:
    """How a run is computed: what others may see (environment.json), and what is private (local.json)."""

    shared: dict[str, Any] = field(default_factory=dict)
    private: dict[str, Any] = field(default_factory=dict)


BY_CODE = Start()  # of a run without a command
UNKNOWN = Conditions()


def conditions(precision: str, start: Start) -> Conditions:
    """Return how this process computes a run; `precision` is the number format, such as bfloat16."""
    import torch
    from joblib import cpu_count  # those that this process may use

    shared = {
        "salt": salt.__version__,
        **code_version(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "cpu": cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_count": cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "precision": precision,
        "threads": torch.get_num_threads(),
        "launcher": start.launcher,
        "processes": world_size(),
        "variables": set_variables(),
        "packages": dict(installed(RECORDED_PACKAGES)),
        "command": start.shared,
    }
    private = {"command": start.command, "folder": start.folder, "host": platform.node(), "python": sys.executable}
    return Conditions(shared, private)


def cpu_name() -> str:
    """Return the name of the processor."""
    with suppress(OSError):  # Linux has this file
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def code_version() -> dict[str, Any]:
    """Return the git commit of Salt's code, and whether the files differ from it; None outside a checkout."""
    root = Path(salt.__file__).resolve().parent.parent
    try:
        git(root, "ls-files", "--error-unmatch", "salt/__init__.py")  # site-packages may lie in another checkout
        commit = git(root, "rev-parse", "HEAD").strip()
        return {"commit": commit, "dirty": bool(git(root, "status", "--porcelain", "--", "salt", "configs"))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


def git(folder: Path, *words: str) -> str:
    """Return the output of git in a checkout, or raise OSError or subprocess.SubprocessError."""
    command = ["git", "--no-optional-locks", "-C", str(folder), *words]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # of a git hook
    done = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=10)
    return done.stdout.decode(errors="replace")


def thread_variables() -> dict[str, str]:
    """Return the variables that give another process as many threads as torch has in this one."""
    import torch

    names = ["OMP_NUM_THREADS", *(["MKL_NUM_THREADS"] if torch.backends.mkl.is_available() else [])]  # MKL's prevails
    return dict.fromkeys(names, str(torch.get_num_threads()))


def set_variables() -> dict[str, str]:
    """Return those of `VARIABLES` that are set."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}


def installed(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the packages that are installed, with their versions."""
    for name in names:
        with suppress(PackageNotFoundError):
            yield name, version(name)


def note_changes(run: Path, now: Conditions, folds: list[int]) -> None:
    """Write into environment.json what has changed since the run started, if folds must still be computed."""
    file = run / "environment.json"
    begun = read_json(file, "data_sha256")
    before, after = (flatten({key: r[key] for key in COMPARED if key in r}) for r in (begun, now.shared))
    changed = {key: after.get(key) for key in {**before, **after} if before.get(key) != after.get(key)}
    entry = {"date": now.shared["date"], "folds": folds, **changed}
    noted = begun.get("resumed", [])
    if folds and changed and entry not in noted:
        write_json(file, begun | {"resumed": [*noted, entry]})
