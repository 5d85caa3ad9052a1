"""Measure Salt beside what a user would write without it, and write docs/benchmarks.md; `make bench` runs it.

The sides of a row are measured in turn, so that a busy machine slows both; times are medians, ratios medians of pairs.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")  # bars would only cost time

import numpy as np
import plain
import segmentation_models_pytorch as smp
import torch
from bench_page import page
from hydra import compose, initialize_config_dir
from joblib import cpu_count
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from salt import build
from salt.config import RunConfig, check_config
from salt.data import rle
from salt.data.loader import EpochBatches, TrainTiles, train_loader
from salt.data.synthetic import ensure_synthetic
from salt.data.tgs import Dataset, read_dataset
from salt.inference.predict import inputs, predict, to_float
from salt.machine.device import Runtime, choose_runtime, fast_dtype, missing_compiler
from salt.network import build_network
from salt.runs.weights import load_weights, save_weights
from salt.scoring import metrics
from salt.train import CONFIGS
from salt.training.fold import train_epoch
from salt.training.setup import start
from salt.training.state import Epoch, State
from salt.training.step import Fold, Statistics

Row = dict[str, Any]
# the same network as smp.Unet("resnet34", decoder_attention_type="scse")
NETWORK = ["encoder=resnet34", "encoder.weights=null", "attention=scse", "attention.encoder=[]", "loss=lovasz"]
SMALL = ["encoder=any", "encoder.name=tu-test_resnet", "decoder.channels=[16,16,16,16,16]", "input.size=101"]

# A process's peak counts from its parent's size on, so a small process has to start the one that is measured.
WATCH = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], check=False).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
EXTRA = {  # operators, on CPU and on a GPU
    "moving average of the weights": ("aten::lerp_", "aten::_foreach_lerp_"),
    "norm of the gradient": ("aten::linalg_vector_norm", "aten::_foreach_norm"),
    "check that the gradient is finite": ("aten::_amp_foreach_non_finite_check_and_unscale_",),
}


@dataclass(frozen=True)
class Bench:
    """What is measured, and how often."""

    data: Dataset
    root: Path
    network: list[str]  # overrides
    batch_size: int
    steps: int  # of a training measurement
    rounds: int  # of each row
    masks: int  # that are encoded
    grown: tuple[int, ...]  # tiles, to see how time and memory grow


@dataclass
class Training:
    """Salt's own training loop over a few steps, and the model alone on one batch."""

    fold: Fold
    state: State
    loader: Any
    batch: tuple[Tensor, Tensor, Tensor]  # images, depths, masks
    steps: int

    def loop(self) -> None:
        """A short epoch, from loading and augmenting to the average of the weights."""
        self.state.current = Epoch()
        train_epoch(self.fold, self.state, self.loader, self.fold.tiles.ids)

    def model_only(self) -> None:
        """As many steps of forward, loss, backward and optimizer on one batch that lies on the device."""
        images, depths, masks = self.batch
        self.state.model.train()
        for _ in range(self.steps):
            with self.fold.runtime.autocast():
                output = self.fold.train_forward(images, depths)
            loss = self.state.model.loss(output, masks, self.fold.loss)
            self.state.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.state.optimizer.step()
        loss.item()  # waits for the device


def composed(overrides: list[str]) -> RunConfig:
    """A checked config."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        raw = OmegaConf.to_container(compose("train", overrides), resolve=True)
    assert isinstance(raw, dict)
    return check_config({str(k): v for k, v in raw.items()})


def prepare(bench: Bench, *overrides: str) -> Training:
    """Everything that a fold builds before its first step."""
    config = composed([*bench.network, f"trainer.batch_size={bench.batch_size}", "trainer.epochs=1000", *overrides])
    runtime = choose_runtime(config.trainer)
    positions = np.arange(bench.steps * bench.batch_size) % len(bench.data.train.ids)
    batches = EpochBatches(positions, bench.batch_size, (0, 0))
    augment = build.build_augment(config)
    dataset = TrainTiles(bench.data.train, augment, (0, 0))
    network = build_network(config, runtime)
    state = start(config, len(batches), Path("nowhere"), network.model, runtime)
    loss = build.build_loss(config).to(runtime.device)
    fold = Fold(
        config=config,
        number=0,
        path=Path("nowhere"),
        runtime=runtime,
        tiles=bench.data.train,
        training=positions,
        held_out=positions,
        network=network,
        train_forward=network.eval_forward,
        loss=loss,
        mix=augment.mix,
        statistics=Statistics(network.model),
    )
    masks = torch.from_numpy(masks_of(bench)[: bench.batch_size])[:, None].float().to(runtime.device)
    images, depths = inputs(bench.data.train, np.arange(bench.batch_size), runtime)
    batch = (to_float(images, runtime), depths, masks)
    loader = train_loader(dataset, batches, runtime.workers, pin_memory=runtime.device.type == "cuda")
    return Training(fold, state, loader, batch, bench.steps)


def masks_of(bench: Bench) -> Any:
    """The training masks (N H W)."""
    assert bench.data.train.masks is not None
    return bench.data.train.masks


def in_turn(rounds: int, warm_up: bool = True, **sides: Callable[[], object]) -> dict[str, list[float]]:
    """Seconds of each side, called in turn, after one call that does not count if `warm_up` is set."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + warm_up):
        for name, side in sides.items():
            began = time.perf_counter()
            side()
            if number >= warm_up:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def compared(seconds: dict[str, list[float]], ours: str, theirs: str, amount: float = 1.0, other: float = 1.0) -> Row:
    """Medians per unit of `amount` (of `other` on their side), and how many times as fast ours is."""
    ratios = [(b / other) / (a / amount) for a, b in zip(seconds[ours], seconds[theirs], strict=True)]
    return {
        "seconds": statistics.median(seconds[ours]) / amount,
        "compared_seconds": statistics.median(seconds[theirs]) / other,
        "ratio": statistics.median(ratios),
        "rounds": len(ratios),
    }


def judged(row: Row, key: str, target: float, at_least: bool = True) -> Row:
    """The row with its target and whether it is met."""
    met = row[key] >= target if at_least else row[key] <= target
    sign = "≥" if at_least else "≤"
    return row | {"judged": key, "target": f"{sign} {target:g}", "met": bool(met)}


def training(bench: Bench) -> dict[str, Row]:
    """Training with loading and augmentation, beside the plain script and beside the model alone."""
    ours = prepare(bench)
    script, n_script = plain_script(bench, ours, autocast=False)
    seconds = in_turn(bench.rounds, loop=ours.loop, plain=script, model=ours.model_only)
    tiles = len(ours.fold.training)
    return {
        "training": judged(compared(seconds, "loop", "plain", tiles, n_script), "ratio", 3.0),
        "loop": judged(compared(seconds, "loop", "model", tiles, tiles), "ratio", 0.95),
        "profile": operators(ours, statistics.median(seconds["loop"])),
    }


def autocast(bench: Bench) -> dict[str, Row]:
    """Training beside the plain script under bfloat16 autocast; where this is emulated, one batch of it and once.

    Not on a GPU that is too old for convolutions in bfloat16.
    """
    if torch.cuda.is_available() and fast_dtype(torch.device("cuda")) != torch.bfloat16:
        return {}
    ours = prepare(bench)
    native = ours.fold.runtime.dtype == torch.bfloat16
    script, n_script = plain_script(bench, ours, autocast=True, batches=3 if native else 1)
    if native:
        seconds = in_turn(bench.rounds, loop=ours.loop, plain=script)
    else:
        seconds = in_turn(1, loop=ours.loop) | in_turn(1, warm_up=False, plain=script)
    return {"training_autocast": compared(seconds, "loop", "plain", len(ours.fold.training), n_script)}


def plain_script(bench: Bench, ours: Training, autocast: bool, batches: int = 3) -> tuple[Callable[[], object], int]:
    """An epoch of the plain script, and its number of tiles.

    On CPU its pace does not depend on the number of steps; on a GPU the start of its workers must not count.
    """
    config, runtime, positions = ours.fold.config, ours.fold.runtime, ours.fold.training
    some = positions if runtime.device.type == "cuda" else positions[: batches * bench.batch_size]
    channels = list(getattr(config.decoder, "channels", [256, 128, 64, 32, 16]))
    parts = (bench.data.train, some, str(config.encoder.name), channels, 128, bench.batch_size)
    return plain.PlainTraining(*parts, runtime.device, runtime.workers, autocast).epoch, len(some)


def compiled(bench: Bench) -> dict[str, Row]:
    """The same loop with torch.compile, beside the eager one and beside its own model alone; needs a compiler."""
    if missing_compiler(choose_runtime(composed(bench.network).trainer).device) is not None:
        return {}
    eager, ours = prepare(bench), prepare(bench, "trainer.compile=true")
    seconds = in_turn(bench.rounds, loop=ours.loop, eager=eager.loop, model=ours.model_only)
    tiles = len(ours.fold.training)
    return {
        "compiled": compared(seconds, "loop", "eager", tiles, tiles),
        "compiled_loop": judged(compared(seconds, "loop", "model", tiles, tiles), "ratio", 0.95),
    }


def operators(ours: Training, epoch: float) -> Row:
    """Where a training step's time goes: the operators with the largest shares, and what the loop adds to the model.

    How busy a GPU is refers to the seconds of an `epoch` without the profiler, which slows the host, not the kernels.
    """
    activities = [ProfilerActivity.CPU]
    on_gpu = ours.fold.runtime.device.type == "cuda"
    if on_gpu:
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as recorded:
        began = time.perf_counter()
        ours.loop()
        wall = time.perf_counter() - began
    events = [event for event in recorded.key_averages() if not event.is_user_annotation]
    calls = [event for event in events if event.device_type == DeviceType.CPU]
    kernels = [event for event in events if event.device_type == DeviceType.CUDA]  # their operators repeat their times
    times = {event.key: event.self_device_time_total / 1e6 for event in kernels}
    whole = {event.key: event.device_time_total / 1e6 for event in calls}  # with what it calls
    if not on_gpu:
        times = {event.key: event.self_cpu_time_total / 1e6 for event in calls}
        whole = {event.key: event.cpu_time_total / 1e6 for event in calls}
    largest = sorted(times, key=lambda key: -times[key])[:10]
    began = time.perf_counter()
    list(ours.loader)
    extra = {"loading and augmentation": (time.perf_counter() - began) / wall}
    extra |= {part: sum(whole.get(key, 0.0) for key in keys) / wall for part, keys in EXTRA.items()}
    shares = {key: times[key] / wall for key in largest}
    return {"shares": shares, "extra": extra, "busy": min(sum(times.values()) / (epoch if on_gpu else wall), 1.0)}


def lovasz(bench: Bench) -> dict[str, Row]:
    """Forward and backward of the Lovász loss, beside segmentation-models-pytorch's and as share of a training step."""
    ours = prepare(bench)
    device = ours.fold.runtime.device
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(bench.batch_size, 1, 101, 101, generator=generator).to(device).requires_grad_()
    masks = torch.from_numpy(masks_of(bench)[: bench.batch_size])[:, None].float().to(device)
    theirs = smp.losses.LovaszLoss("binary", per_image=True)

    def repeat(loss: nn.Module) -> Callable[[], None]:
        def call() -> None:
            for _ in range(10):
                torch.autograd.grad(loss(logits, masks), logits)[0].sum().item()

        return call

    seconds = in_turn(bench.rounds, loss=repeat(ours.fold.loss), smp=repeat(theirs), loop=ours.loop)
    row = compared(seconds, "loss", "smp", 10, 10)
    row["share"] = row["seconds"] / (statistics.median(seconds["loop"]) / bench.steps)
    if device.type == "cuda":
        return {"lovasz": judged(row, "ratio", 20)}
    return {"lovasz": judged(row, "share", 0.02, at_least=False)}


def score(bench: Bench) -> dict[str, Row]:
    """The score of probability maps at 31 thresholds, beside the usual kernel on a tenth of them."""
    masks = masks_of(bench)
    noise = np.random.default_rng(0).normal(0, 1.5, masks.shape).astype(np.float32)
    probabilities = (1 / (1 + np.exp(-(masks * 4.0 - 2.0 + noise)))).astype(np.float16)
    some = slice(0, max(len(masks) // 10, 1))

    def theirs() -> Any:
        return plain.score(probabilities[some], masks[some], metrics.THRESHOLDS)

    assert np.array_equal(metrics.score_table(probabilities, masks)[some], theirs()), "the scores differ"
    seconds = in_turn(min(bench.rounds, 3), ours=lambda: metrics.score_table(probabilities, masks), theirs=theirs)
    row = compared(seconds, "ours", "theirs", len(masks), len(masks[some]))
    return {"score": judged(row | {"tiles": len(masks)}, "ratio", 10)}


def run_lengths(bench: Bench) -> dict[str, Row]:
    """Run lengths of many masks, encoded and decoded, beside the usual kernel."""
    masks = np.resize(masks_of(bench), (bench.masks, *masks_of(bench).shape[1:]))
    texts = rle.encode_all(masks)
    assert texts == [plain.encode(mask) for mask in masks], "the run lengths differ"
    assert np.array_equal(rle.decode_all(texts, masks.shape[1:]), masks), "decoding differs"
    rows: dict[str, Row] = {}
    sides: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "encode": (lambda: rle.encode_all(masks), lambda: [plain.encode(mask) for mask in masks]),
        "decode": (
            lambda: rle.decode_all(texts, masks.shape[1:]),
            lambda: np.stack([plain.decode(text, masks.shape[1:]) for text in texts]),
        ),
    }
    for name, (ours, theirs) in sides.items():
        row = compared(in_turn(bench.rounds, ours=ours, theirs=theirs), "ours", "theirs") | {"masks": bench.masks}
        rows[name] = judged(row, "ratio", 3)
        rows[f"{name}_seconds"] = judged({"seconds": row["seconds"]}, "seconds", 1, at_least=False)
    return rows


def inference(bench: Bench) -> dict[str, Row]:
    """Prediction of the test tiles and their mirror images, a fold a round, beside the model's forward alone."""
    ours = prepare(bench)
    model, runtime, tiles = ours.state.model, ours.fold.runtime, bench.data.test
    size = runtime.predict_batch_size
    n_batches = -(-len(tiles.ids) // size) * 2
    images, depths = inputs(tiles, np.resize(np.arange(len(tiles.ids)), size), runtime)
    batch = to_float(images, runtime)

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        save_weights(model, file)

        def fold() -> None:
            load_weights(model, file)
            predict(ours.fold.network, tiles, np.arange(len(tiles.ids)), runtime, True, "test")

        def forward() -> None:
            model.eval()
            with torch.no_grad(), runtime.autocast():
                for _ in range(n_batches):
                    logits = ours.fold.network.eval_forward(batch, depths).logits
            logits.sum().item()

        seconds = in_turn(min(bench.rounds, 5), ours=fold, forward=forward)
    n_tiles = 2 * len(tiles.ids)
    row = compared(seconds, "ours", "forward", n_tiles, n_batches * size)
    return {"inference": judged(row, "ratio", 0.95)}


def loading(bench: Bench) -> dict[str, Row]:
    """Reading, checking and decoding the data."""
    seconds = in_turn(3, ours=lambda: read_dataset(bench.root))["ours"]
    row = {"seconds": statistics.median(seconds), "tiles": len(bench.data.train.ids), "rounds": len(seconds)}
    return {"loading": judged(row, "seconds", 4, at_least=False)}


def watched(command: list[str], folder: Path) -> Row:
    """Wall seconds and peak memory of a command.

    Raises:
        RuntimeError: the command fails.
    """
    began = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-c", WATCH, *command], cwd=folder, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - began
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{result.stdout}{result.stderr}")
    return {"seconds": seconds, "gigabytes": int(result.stdout.split()[-1]) / 2**20}


def salt_train(*overrides: str) -> list[str]:
    """The command."""
    return [sys.executable, "-m", "salt.train", *overrides]


def memory(bench: Bench) -> dict[str, Row]:
    """The largest memory of a whole training process, from reading the data to the submission, of one epoch."""
    with tempfile.TemporaryDirectory() as folder:
        command = salt_train(
            *bench.network,
            f"data.root={bench.root.resolve()}",
            f"trainer.batch_size={bench.batch_size}",
            "trainer.epochs=1",
            "folds=[0]",
        )
        return {"memory": judged(watched(command, Path(folder)), "gigabytes", 4, at_least=False)}


def growth(bench: Bench) -> dict[str, Row]:
    """Seconds and memory of whole small runs, by tiles and by folds; a small network, so that the rest shows."""
    with tempfile.TemporaryDirectory() as folder:
        dry = salt_train(*SMALL, "data=synthetic", "data.synthetic.n_train=100", "dry_run=true")
        rows = {"start": watched(dry, Path(folder))}
    runs = [(n, 2) for n in bench.grown] + [(bench.grown[0], 4)]
    for n_tiles, n_folds in runs:
        with tempfile.TemporaryDirectory() as folder:
            ensure_synthetic(Path(folder) / "data", n_tiles, 100, 0)
            command = salt_train(
                "data=synthetic",
                *SMALL,
                f"data.root={folder}/data",
                f"data.synthetic.n_train={n_tiles}",
                "data.synthetic.n_test=100",
                f"data.n_folds={n_folds}",
                "trainer.epochs=1",
            )
            began = time.perf_counter()
            read_dataset(Path(folder) / "data")
            loaded = time.perf_counter() - began
            rows[f"growth_{n_tiles}_{n_folds}"] = watched(command, Path(folder)) | {
                "tiles": n_tiles,
                "folds": n_folds,
                "loading_seconds": loaded,
            }
    return rows


def command_line(bench: Bench) -> dict[str, Row]:
    """Wall time of what is typed most."""
    words = "salt-train encoder=res"
    completing = os.environ | {"COMP_LINE": words, "COMP_POINT": str(len(words))}
    commands = {
        "help": (salt_train("--help"), None, 0.6),
        "cfg_job": (salt_train("data=synthetic", "--cfg", "job"), None, 0.4),
        "completion": (salt_train("-sc", "query=bash"), completing, 0.4),
    }
    rows = {}
    for name, (command, environment, target) in commands.items():

        def call(command: list[str] = command, environment: dict[str, str] | None = environment) -> None:
            subprocess.run(command, env=environment, check=True, capture_output=True)

        seconds = in_turn(2 * bench.rounds, call=call)["call"]
        row = {"seconds": statistics.median(seconds), "rounds": len(seconds)}
        rows[name] = judged(row, "seconds", target, at_least=False)
    return rows


def gpu(bench: Bench) -> dict[str, Row]:
    """On a GPU: every number format, eager and compiled, and a whole run of five folds. Nothing without one."""
    if not torch.cuda.is_available():
        return {}
    rows: dict[str, Row] = {}
    bfloat16 = fast_dtype(torch.device("cuda")) == torch.bfloat16
    compiler = missing_compiler(torch.device("cuda")) is None
    for precision in ("fp32", "bf16", "fp16") if bfloat16 else ("fp32", "fp16"):
        for compile in ("false", "true") if compiler else ("false",):
            ours = prepare(bench, f"trainer.precision={precision}", f"trainer.compile={compile}")
            seconds = in_turn(bench.rounds, loop=ours.loop, model=ours.model_only)
            torch.cuda.reset_peak_memory_stats()  # cuDNN's trials of the first step needed more
            tiles = len(ours.fold.training)
            row = compared(seconds, "loop", "model", tiles, tiles)
            row |= {"idle": 1 - operators(ours, statistics.median(seconds["loop"]))["busy"]}
            row |= {"gigabytes": torch.cuda.max_memory_allocated() / 2**30}
            rows[f"gpu_{precision}_{'compiled' if compile == 'true' else 'eager'}"] = judged(row, "ratio", 0.95)
    with tempfile.TemporaryDirectory() as folder:
        root = f"data.root={bench.root.resolve()}"
        command = salt_train(
            *bench.network, root, "folds=all", "trainer.epochs=50", f"trainer.compile={str(compiler).lower()}"
        )
        rows["gpu_five_folds"] = judged(watched(command, Path(folder)), "seconds", 300, at_least=False)
    return rows


ROWS: dict[str, Callable[[Bench], dict[str, Row]]] = {
    "training": training,
    "autocast": autocast,
    "compiled": compiled,
    "lovasz": lovasz,
    "score": score,
    "run_lengths": run_lengths,
    "inference": inference,
    "loading": loading,
    "memory": memory,
    "growth": growth,
    "command_line": command_line,
    "gpu": gpu,
}


def machine(runtime: Runtime) -> Row:
    """The hardware and torch, without names of people or paths."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
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
        ensure_synthetic(root, 3600, 800, 0)
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
    content = json.loads(file.read_text()) if file.exists() else {"rows": {}}
    content["machine"] = machine(choose_runtime(composed(bench.network).trainer))
    content["tiles"] = ("generated" if arguments.data is None else "TGS", len(bench.data.train.ids))
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.only:
        print(f"{name} ...", flush=True)
        content["rows"] |= ROWS[name](bench)
        file.write_text(json.dumps(content, indent=1) + "\n")
        (arguments.out / "benchmarks.md").write_text(page(content))
    missed = [name for name, row in content["rows"].items() if row.get("met") is False]
    print(f"wrote {file} and {file.with_suffix('.md')}; targets missed: {', '.join(missed) or 'none'}")


if __name__ == "__main__":
    main()
