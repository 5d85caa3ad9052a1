"""Measure Salt beside what a user would write without it, and write docs/benchmarks.md; `make bench` runs it.

The sides of a row are measured in turn, so that a busy machine slows both; times are medians, ratios medians of pairs.
"""

import argparse
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path

import torch
from bench_page import page
from bench_parts import inference, loading, lovasz, run_lengths, score
from bench_prediction import prediction
from bench_runs import command_line, growth, line_memory, memory
from bench_setup import NETWORK, Bench, Row, composed
from bench_training import autocast, compiled, gpu, training
from joblib import cpu_count

from salt.data.synthetic import Synthetic
from salt.data.tgs import read_dataset
from salt.machine.device import Runtime, choose_runtime

ROWS: dict[str, Callable[[Bench], dict[str, Row]]] = {
    "training": training,
    "autocast": autocast,
    "compiled": compiled,
    "lovasz": lovasz,
    "score": score,
    "run_lengths": run_lengths,
    "inference": inference,
    "prediction": prediction,
    "loading": loading,
    "memory": memory,
    "line_memory": line_memory,
    "growth": growth,
    "command_line": command_line,
    "gpu": gpu,
}


def machine(runtime: Runtime) -> Row:
    """The hardware and torch, without names of people or paths."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    on_gpu = runtime.device.type == "cuda"
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": cpu_count(),
        "threads": torch.get_num_threads(),
        "gigabytes": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "gpu": torch.cuda.get_device_name() if on_gpu else None,
        "torch": torch.__version__.partition("+")[0],
        "number_format": str(runtime.dtype).removeprefix("torch."),
    }


def main() -> None:
    """Measure, merge with what was measured before, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder in Kaggle's layout (default: 3,600 generated tiles)")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), help="measure these, keep the others")
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder of benchmarks.json and benchmarks.md")
    arguments = parser.parse_args()
    root = arguments.data or Path("data/synthetic/bench")
    if arguments.data is None:
        Synthetic(root, n_train=3600, n_test=800, seed=0).prepare()
    bench = Bench(
        data=read_dataset(root),
        root=root,
        network=NETWORK,
        batch_size=32,
        steps=100 if torch.cuda.is_available() else 2 if arguments.quick else 10,
        rounds=2 if arguments.quick else 5,
        masks=18_000,
        grown=(900, 1800, 3600),
    )
    file = arguments.out / "benchmarks.json"
    content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"rows": {}}
    content["machine"] = machine(choose_runtime(composed(bench.network).trainer))
    content["tiles"] = ("generated" if arguments.data is None else "TGS", len(bench.data.train.ids))
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.only:
        print(f"{name} ...", flush=True)
        content["rows"] |= ROWS[name](bench)
        file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        (arguments.out / "benchmarks.md").write_text(page(content), encoding="utf-8")
    missed = [name for name, row in content["rows"].items() if row.get("met") is False]
    print(f"wrote {file} and {file.with_suffix('.md')}; targets missed: {', '.join(missed) or 'none'}")


if __name__ == "__main__":
    main()
