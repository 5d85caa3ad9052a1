"""Rows of the benchmark about training, on a CPU and on a GPU."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import plain
import torch
from bench_runs import salt_train, watched
from bench_setup import Bench, Row, Training, compared, composed, in_turn, judged, prepare
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from salt.machine.device import choose_runtime, fast_dtype, missing_compiler

EXTRA = {  # operators, on CPU and on a GPU
    "moving average of the weights": ("aten::lerp_", "aten::_foreach_lerp_"),
    "norm of the gradient": ("aten::linalg_vector_norm", "aten::_foreach_norm"),
    "check that the gradient is finite": ("aten::_amp_foreach_non_finite_check_and_unscale_",),
}


def training(bench: Bench) -> dict[str, Row]:
    """Training with loading and augmentation, beside the plain script and beside the model alone."""
    ours = prepare(bench)
    script, n_script = plain_script(bench, ours, autocast=False)
    seconds = in_turn(bench.rounds, loop=ours.loop, plain=script, model=ours.model_only)
    tiles = ours.n_tiles
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
    native = ours.fold.job.runtime.dtype == torch.bfloat16
    script, n_script = plain_script(bench, ours, autocast=True, batches=3 if native else 1)
    if native:
        seconds = in_turn(bench.rounds, loop=ours.loop, plain=script)
    else:
        seconds = in_turn(1, loop=ours.loop) | in_turn(1, warm_up=False, plain=script)
    return {"training_autocast": compared(seconds, "loop", "plain", ours.n_tiles, n_script)}


def plain_script(bench: Bench, ours: Training, autocast: bool, batches: int = 3) -> tuple[Callable[[], object], int]:
    """An epoch of the plain script, and its number of tiles.

    On CPU its pace does not depend on the number of steps; on a GPU the start of its workers must not count.
    """
    config, runtime = ours.fold.job.config, ours.fold.job.runtime
    positions = np.arange(ours.n_tiles) % len(bench.data.train.ids)
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
    tiles = ours.n_tiles
    return {
        "compiled": compared(seconds, "loop", "eager", tiles, tiles),
        "compiled_loop": judged(compared(seconds, "loop", "model", tiles, tiles), "ratio", 0.95),
    }


def operators(ours: Training, epoch: float) -> Row:
    """Where a training step's time goes: the operators with the largest shares, and what the loop adds to the model.

    How busy a GPU is refers to the seconds of an `epoch` without the profiler, which slows the host, not the kernels.
    """
    activities = [ProfilerActivity.CPU]
    on_gpu = ours.fold.job.runtime.device.type == "cuda"
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
            tiles = ours.n_tiles
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
