"""Measure what options cost, into docs/costs.csv: `make costs OPTION=center/fpa` one, `make costs` all of them.

Parameters, multiply-adds, and the time of a training step beside the baseline's, measured in turn with it, so that a
busy machine slows both. All options take 10 minutes on 2 cores. `make docs` writes the costs into docs/mechanisms.md.
"""

import argparse
import functools
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from option_files import BASELINE, ROOT, SETTINGS, Cost, read_costs, read_groups, write_costs
from torch.utils.flop_counter import FlopCounterMode

from salt import build
from salt.build import build_network
from salt.config import RunConfig, check_config
from salt.data.loader import Batch
from salt.data.tiles import Dataset, Tiles
from salt.job import Job
from salt.machine.device import choose_runtime
from salt.runs.rundir import RunDir
from salt.train import CONFIGS
from salt.training.setup import make_fold, make_state
from salt.training.step import train_step

BASE = ["data=synthetic", "data.root=none", "encoder.weights=null", "trainer.batch_size=16", "trainer.epochs=4"]
SMALL = ["encoder=resnet18", "loss=bce", "averaging=none", "augment=none"]  # the baseline
RECIPE = ["input=reflect_pad_104", "encoder=efficientnet_lite0", "decoder=unet_small"]  # of settings/...
NEEDS = {"semi-supervised=pseudo": ["data.pseudo=none"]}
ROUNDS = 5


def main() -> None:
    """Measure one option or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "option", nargs="?", help="group/name, or several settings as 'settings/attention=scse attention.reduction=16'"
    )
    option = parser.parse_args().option
    costs = read_costs()
    groups = [group for group in read_groups(ROOT / "configs") if group.has_papers]
    known = [(group.name, one.name) for group in groups for one in group.options]
    wanted = [tuple(option.split("/", 1))] if option else [BASELINE, *known, *(k for k in costs if k[0] == SETTINGS)]
    if option and wanted[0] not in known and wanted[0][0] != SETTINGS:
        sys.exit(f"there is no option {option}; expected group/name such as center/fpa")
    if not option:  # rows of options that are gone
        costs = {key: costs[key] for key in wanted if key in costs}
    for group, name in wanted:
        try:
            costs[group, name] = measure(group, name)
        except (ValueError, HydraException, OmegaConfBaseException) as error:
            print(f"{group}/{name} is not measured: {error}", file=sys.stderr)
        else:
            print(*astuple(costs[group, name]))
        write_costs(costs)


def measure(group: str, name: str) -> Cost:
    """Return the cost of an option, or of several settings of the CPU recipe.

    Raises:
        ValueError, HydraException, OmegaConfBaseException: it cannot be built on the baseline.
    """
    base, digits = (RECIPE, 2) if group == SETTINGS else ([], 1)
    overrides = [*base, *(name.split() if group == SETTINGS else [f"{group}={name}"] if name else [])]
    parameters, multiply_adds = count(overrides)
    ratio, seconds = compare(prepare(overrides), baseline(tuple(base)))
    size, work = f"{parameters / 1e6:.{digits}f}", f"{multiply_adds / 1e9:.2f}"
    return Cost(group, name, size, work, f"{ratio:.2f}", f"{seconds:.2f}", machine())


def composed(overrides: list[str]) -> RunConfig:
    """The baseline with one option changed, and what that one needs."""
    overrides = [more for override in overrides for more in (override, *NEEDS.get(override, []))]
    changed = {o.split("=")[0] for o in overrides}
    if overrides == ["decoder=tiramisu"]:
        changed.add("encoder")
    base = [o for o in SMALL if o.split("=")[0] not in changed]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", [*BASE, *base, *overrides])
    raw = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(raw, dict)
    return check_config({str(k): v for k, v in raw.items()})


def count(overrides: list[str]) -> tuple[int, int]:
    """A network's parameters, and the multiply-adds of its prediction for one tile."""
    model = build.build_model(composed(overrides)).eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(torch.zeros(1, 1, *model.tile), torch.zeros(1))
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2


@functools.cache
def baseline(overrides: tuple[str, ...]) -> Callable[[], None]:
    """The step that others are compared with."""
    return prepare(list(overrides))


def prepare(overrides: list[str]) -> Callable[[], None]:
    """A training step on made-up tiles that can be called again and again."""
    config = composed(overrides)
    runtime = choose_runtime(config.trainer)
    torch.manual_seed(0)
    network = build_network(config, runtime)
    augment = build.build_augment(config)
    nothing = np.empty(0, dtype=np.int64)
    tiles = Tiles([], nothing, nothing, nothing)
    job = Job(config, Dataset(tiles, tiles), nothing, RunDir(Path("nowhere")), runtime, network)
    state, fold = make_state(job, 0, 100), make_fold(job, 0)
    images = torch.randint(0, 255, (16, 101, 101), dtype=torch.uint8).numpy()
    masks = (images > 128).astype("uint8")
    depths, index = torch.full((16,), 500.0), torch.arange(16)

    def step() -> None:
        pairs = [augment(image, mask, (i,)) for i, (image, mask) in enumerate(zip(images, masks, strict=True))]
        stacked = (torch.stack([torch.from_numpy(pair[k])[None] for pair in pairs]) for k in (0, 1))
        state.model.train()
        train_step(fold, state, Batch(*stacked, depths, index))

    return step


def compare(step: Callable[[], None], baseline: Callable[[], None]) -> tuple[float, float]:
    """Return the median ratio of a step's time to the baseline's, measured in turn, and its own median in seconds."""
    step()
    baseline()
    pairs = [(seconds_of(step), seconds_of(baseline)) for _ in range(ROUNDS)]
    return statistics.median(a / b for a, b in pairs), statistics.median(a for a, _ in pairs)


def seconds_of(step: Callable[[], None]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def machine() -> str:
    """The processor (or GPU), threads, torch and number format, without names of people or paths."""
    runtime = choose_runtime(composed([]).trainer)
    name = torch.cuda.get_device_name() if runtime.device.type == "cuda" else platform.machine()
    info = Path("/proc/cpuinfo")
    if runtime.device.type == "cpu":
        lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
        names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
        name = f"{names[0] if names else name} ({torch.backends.cpu.get_cpu_capability()})"
    dtype = str(runtime.dtype).removeprefix("torch.")
    threads = torch.get_num_threads()
    return f"{name}, {threads} thread{'s' * (threads > 1)}, torch {torch.__version__.partition('+')[0]}, {dtype}"


if __name__ == "__main__":
    main()
