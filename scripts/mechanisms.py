"""Write docs/mechanisms.md: every option with its formula, its paper and what it costs. `make docs` runs it.

The texts come from the headers of the YAML files; parameters, multiply-adds and step times are measured here, each
option beside the baseline in turn, so that a busy machine slows both. `--keep-times` measures what has no time yet, and
updates the rest of the page (a minute).
"""

import argparse
import functools
import platform
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch.utils.flop_counter import FlopCounterMode

from salt import build
from salt.build import build_network
from salt.config import RunConfig, check_config
from salt.data.loader import Batch
from salt.data.tiles import Tiles
from salt.machine.device import choose_runtime
from salt.train import CONFIGS
from salt.training.setup import start
from salt.training.step import Fold, Statistics, train_step

NETWORK = ("input", "encoder", "attention", "center", "decoder", "hypercolumn", "deep-supervision")
TRAINING = ("loss", "augment", "optimizer", "schedule", "averaging", "semi-supervised")
BASE = ["data=synthetic", "data.root=none", "encoder.weights=null", "trainer.batch_size=16", "trainer.epochs=4"]
BASELINE = ["encoder=resnet18", "loss=bce", "averaging=none", "augment=none"]
NEEDS = {"semi-supervised=pseudo": ["data.pseudo=none"]}
NOT_MEASURED = {("encoder", "any"), ("encoder", "none")}
ROUNDS = 5

RECIPE = ["input=reflect_pad_104", "encoder=efficientnet_lite0", "decoder=unet_small"]
VARIANTS = (
    [],
    ["attention=scse"],
    ["attention=scse", "attention.reduction=16"],
    ["hypercolumn=concat"],
    ["hypercolumn=concat", "hypercolumn.project=16"],
    ["deep-supervision=nonempty"],
    ["deep-supervision=nonempty", "deep_supervision.hidden=64"],
    ["center=base_oc"],
    ["center=base_oc", "center.shared=false"],
)
SETTINGS = "settings"  # the last section

TEXT = """# Mechanisms

Every option of the groups that make a network and its training. This page is written by `make docs` from the headers of
the YAML files in `configs/`; parameters and times were measured by it on {machine}.

*Parameters*: of the whole network. *Multiply-adds*: of its prediction for one tile. *Step*: time of a training step
(augmentation, forward, loss, backward, optimizer, average) relative to the baseline measured in turn with it, median of
{rounds}. It varies by about a tenth from time to time, and by more from one
kind of CPU to another: EfficientNet-B0 took twice the baseline's time on an Intel Xeon with AMX, with an earlier
version of Salt. The baseline is ResNet18 at 128 pixels with a U-Net, BCE, AdamW, and `none` elsewhere:
{parameters:.1f} M parameters, {seconds} s for 16 tiles.
{later}A group is chosen by `group=option`, a setting inside it by
`group.setting=value` (for deep-supervision: `deep_supervision.setting=value`).
"""
LATER = "A star: measured later than the other times, on a busy machine ({machine}).\n"
VARIANTS_TEXT = """
## settings

What some settings cost on the network of `experiment=cpu` without its deep supervision: EfficientNet-Lite0 and
`unet_small` at 104 pixels. Steps are relative to the first row.

`attention.reduction` was 16 in earlier versions of Salt, which left one hidden unit for stages of 16 channels. With
EfficientNet-Lite0 and random weights some gate was dead for a whole batch in 19 (`unet`) to 25 (`unet_small`) of 30
starts; with 2 in none. Ablations of attention made with 16 do not count.

| settings | parameters | multiply-adds | step |
| --- | --- | --- | --- |"""


class Times:
    """Step times relative to a baseline: those of a page written earlier (empty: none), and measured ones."""

    def __init__(self, page: str):
        self.kept: dict[tuple[str, str], str] = {}
        for section in page.split("\n## ")[1:]:
            rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| `")]
            steps = {(section.split("\n")[0], row[0].removeprefix("| ")): row[-1].strip(" |") for row in rows}
            self.kept |= {key: step for key, step in steps.items() if step}
        self.page = page
        self.seconds: list[float] = []  # of the baseline

    def relative(self, section: str, row: str, overrides: list[str], base: list[str]) -> str:
        """Return a row's step time relative to that of `base`; one measured beside kept ones gets a star."""
        if (section, row) in self.kept:
            return self.kept[section, row]
        ratio, seconds = compare(prepare([*base, *overrides]), baseline(tuple(base)))
        self.seconds += [] if base else [seconds]
        return f"{ratio:.2f}{'*' * bool(self.kept)}"

    def text(self, rows: list[str]) -> str:
        """Return the page's beginning, for the rows that follow."""
        now = machine()
        if self.kept:
            measured_on = re.search(r"measured by it on (.+)\.\n", self.page)[1]
            seconds = re.search(r"([\d.]+) s for 16 tiles", self.page)[1]
        else:
            measured_on, seconds = now, f"{statistics.median(self.seconds):.2f}"
        return TEXT.format(
            machine=measured_on,
            rounds=ROUNDS,
            parameters=count([])[0] / 1e6,
            seconds=seconds,
            later=LATER.format(machine=now) if any(row.endswith("* |") for row in rows) else "",
        )


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/mechanisms.md"))
    parser.add_argument("--keep-times", action="store_true", help="measure only the steps that --out does not have yet")
    arguments = parser.parse_args()
    out: Path = arguments.out
    times = Times(out.read_text(encoding="utf-8") if arguments.keep_times else "")
    lines = []
    for group in (*NETWORK, *TRAINING):
        lines += [f"\n## {group}\n", "| option | what it is | formula | paper | parameters | multiply-adds | step |"]
        lines.append("| --- | --- | --- | --- | --- | --- | --- |")
        for file in sorted((CONFIGS / group).glob("*.yaml")):
            lines.append(row_of_option(group, file, times))
            print(lines[-1])
    lines.append(VARIANTS_TEXT)
    for overrides in VARIANTS:
        name = " ".join(f"`{o}`" for o in overrides) or "`attention=none`"
        step = times.relative(SETTINGS, name, overrides, RECIPE)
        lines.append(f"| {name} | {costs([*RECIPE, *overrides], 2)} | {step} |")
        print(lines[-1])
    out.parent.mkdir(exist_ok=True)
    out.write_text(times.text(lines) + "\n".join(lines) + "\n", encoding="utf-8")


def row_of_option(group: str, file: Path, times: Times) -> str:
    """An option's row in its group's table."""
    cost = " |  | "
    if (group, file.stem) not in NOT_MEASURED:
        overrides = [f"{group}={file.stem}"]
        cost = f"{costs(overrides, 1)} | {times.relative(group, f'`{file.stem}`', overrides, [])}"
    about = header(file)
    formula = about.get("Formula", "").replace("|", "\\|")
    what = f"{about['']} {about['Expect'][0].upper()}{about['Expect'][1:]}"
    if "Differs" in about:
        what += f" Differs on purpose: {about['Differs']}"
    return f"| `{file.stem}` | {what} | {formula} | {about['Paper']} | {cost} |"


def header(file: Path) -> dict[str, str]:
    """The lines "# Key: text" above the settings; the first sentence has no key."""
    about: dict[str, str] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        text = line.removeprefix("#").strip()
        if text.startswith("@package"):
            continue
        key, found, rest = text.partition(": ")
        if found and key in ("Paper", "Formula", "Expect", "Differs"):
            about[key] = rest
        else:
            about.setdefault("", text)
    return about


def composed(overrides: list[str]) -> RunConfig:
    """The baseline with one option changed, and what that one needs."""
    overrides = [more for override in overrides for more in (override, *NEEDS.get(override, []))]
    changed = {o.split("=")[0] for o in overrides}
    if overrides == ["decoder=tiramisu"]:
        changed.add("encoder")
    base = [o for o in BASELINE if o.split("=")[0] not in changed]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", [*BASE, *base, *overrides])
    raw = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(raw, dict)
    return check_config({str(k): v for k, v in raw.items()})


def costs(overrides: list[str], digits: int) -> str:
    """A network's parameters and multiply-adds, as two cells of a table."""
    parameters, multiply_adds = count(overrides)
    return f"{parameters / 1e6:.{digits}f} M | {multiply_adds / 1e9:.2f} G"


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
    state = start(config, 100, Path("nowhere"), network.model, runtime)
    augment = build.build_augment(config)
    nothing = np.empty(0, dtype=np.int64)
    fold = Fold(
        config=config,
        number=0,
        path=Path("nowhere"),
        runtime=runtime,
        tiles=Tiles([], nothing, nothing, nothing),
        training=nothing,
        held_out=nothing,
        network=network,
        train_forward=network.eval_forward,
        loss=build.build_loss(config),
        mix=augment.mix,
        statistics=Statistics(network.model),
    )
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
    """Median ratio of a step's time to the baseline's, measured in turn, and the baseline's median in seconds."""
    step()
    baseline()
    pairs = [(seconds_of(step), seconds_of(baseline)) for _ in range(ROUNDS)]
    return statistics.median(a / b for a, b in pairs), statistics.median(b for _, b in pairs)


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
