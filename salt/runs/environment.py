"""The machine and the versions that a run was begun with."""

import platform
from contextlib import suppress
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import salt

RECORDED = ("torch", "numpy", "albumentations", "segmentation-models-pytorch", "timm", "hydra-core")


def cpu_name() -> str:
    """What the system calls its processor."""
    with suppress(OSError):  # Linux has this file
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def environment() -> dict[str, Any]:
    """Versions and machine of a run, without names of people or paths."""
    import torch
    from joblib import cpu_count  # those that this process may use

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "salt": salt.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "cpu": cpu_name(),
        "cpu_count": cpu_count(),
        "gpu": device,
        "packages": {name: version(name) for name in RECORDED},
    }
