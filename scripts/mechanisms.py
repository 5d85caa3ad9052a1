"""Write docs/mechanisms.md: every option with its formula, its paper and what it costs. `make docs` runs it.

The texts come from the headers of the YAML files; parameters and step times are measured here, each option beside the
baseline in turn, so that a busy machine slows both.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from salt import build
from salt.config import RunConfig, check_config
from salt.data.loader import Batch
from salt.data.tiles import Tiles
from salt.machine.device import choose_runtime
from salt.network import build_network
from salt.train import CONFIGS
from salt.training.setup import build_semi, n_without_mask, start
from salt.training.step import Fold, Statistics, train_step

NETWORK = ("input", "encoder", "attention", "center", "decoder", "hypercolumn", "deep-supervision")
TRAINING = ("loss", "augment", "optimizer", "schedule", "resolution", "averaging", "semi-supervised")
BASE = ["data=synthetic", "data.root=none", "encoder.weights=null", "trainer.batch_size=16", "trainer.epochs=4"]
BASELINE = ["encoder=resnet18", "loss=bce", "averaging=none", "augment=none"]
NEEDS = {"semi-supervised=pseudo": ["data.pseudo=none"], "semi-supervised=mean_teacher": ["averaging=ema"]}
NOT_MEASURED = {("encoder", "any"), ("encoder", "none")}
ROUNDS = 5

TEXT = """# Mechanisms

Every option of the groups that make a network and its training. This page is written by `make docs` from the headers of
the YAML files in `configs/`; parameters and times were measured by it on {machine}.

*Parameters*: of the whole network. *Step*: time of a training step (augmentation, forward, loss, backward, optimizer,
average) relative to the baseline measured in turn with it, median of {rounds}; of `resolution` a step of the first
epoch. It varies by about a tenth from time to time, and by more from one kind of CPU to another: EfficientNet-B0 took
twice the baseline's time on an Intel Xeon with AMX, with an earlier version of Salt. The baseline is ResNet18 at 128
pixels with a U-Net, BCE, AdamW, and `none` elsewhere: {parameters:.1f} M parameters, {seconds:.2f} s for 16 tiles.
A group is chosen by `group=option`, a setting inside it by
`group.setting=value` (for deep-supervision: `deep_supervision.setting=value`).
"""


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/mechanisms.md"))
    out = parser.parse_args().out
    baseline = prepare([])
    seconds, lines = [], []
    for group in (*NETWORK, *TRAINING):
        lines += [f"\n## {group}\n", "| option | what it is | formula | paper | parameters | step |"]
        lines.append("| --- | --- | --- | --- | --- | --- |")
        for file in sorted((CONFIGS / group).glob("*.yaml")):
            cost = " | "
            if (group, file.stem) not in NOT_MEASURED:
                ratio, base = compare(prepare([f"{group}={file.stem}"]), baseline)
                cost = f"{count([f'{group}={file.stem}']) / 1e6:.1f} M | {ratio:.2f}"
                seconds.append(base)
            about = header(file)
            formula = about.get("Formula", "").replace("|", "\\|")
            what = f"{about['']} {about['Expect'][0].upper()}{about['Expect'][1:]}"
            if "Differs" in about:
                what += f" Differs on purpose: {about['Differs']}"
            lines.append(f"| `{file.stem}` | {what} | {formula} | {about['Paper']} | {cost} |")
            print(lines[-1])
    text = TEXT.format(machine=machine(), rounds=ROUNDS, parameters=count([]) / 1e6, seconds=statistics.median(seconds))
    out.parent.mkdir(exist_ok=True)
    out.write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


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


def count(overrides: list[str]) -> int:
    """Parameters of the network."""
    return sum(p.numel() for p in build.build_model(composed(overrides)).parameters())


def prepare(overrides: list[str]) -> Callable[[], None]:
    """A training step on made-up tiles that can be called again and again."""
    config = composed(overrides)
    runtime = choose_runtime(config.trainer)
    torch.manual_seed(0)
    network = build_network(config, runtime)
    state = start(config, 100, Path("nowhere"), network.model, runtime)
    augment = build.build_augment(config)
    network.model.scale = build.build_resolution(config).scale(0.0)
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
        semi=build_semi(config),
        n_taught=n_without_mask(config) if build_semi(config).uses_teacher else 0,
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
