"""Rows of the benchmark that measure whole commands: memory, growth with the number of tiles, and start times."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from bench_setup import SMALL, Bench, Row, in_turn, judged

from salt.data.synthetic import Synthetic
from salt.data.tgs import read_dataset

LONG_LINE = (3000, 10_000)  # samples and traces

# A process's peak counts from its parent's size on, so a small process has to start the one that is measured.
WATCH = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], check=False).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def watched(command: list[str], folder: Path) -> Row:
    """Wall seconds and peak memory of a command.

    Raises:
        RuntimeError: the command fails.
    """
    began = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-c", WATCH, *command], cwd=folder, capture_output=True, encoding="utf-8", check=False
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


def line_memory(bench: Bench) -> dict[str, Row]:
    """The largest memory of salt-predict on a long line, with two and with five small networks."""
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "line.npy", np.random.default_rng(0).normal(size=LONG_LINE).astype(np.float32))
        for n in (2, 5):
            made = ["data=synthetic", "data.n_train=60", "data.n_test=2", f"data.n_folds={n}", f"name={n}"]
            watched(salt_train(*SMALL, *made, "trainer.epochs=1"), Path(folder))
            command = [sys.executable, "-m", "salt.commands.predict", f"runs/{n}", "line.npy", "--out", f"out{n}"]
            rows[f"line_memory_{n}"] = watched(command, Path(folder))
    return rows


def growth(bench: Bench) -> dict[str, Row]:
    """Seconds and memory of whole small runs, by tiles and by folds; a small network, so that the rest shows."""
    with tempfile.TemporaryDirectory() as folder:
        dry = salt_train(*SMALL, "data=synthetic", "data.n_train=100", "dry_run=true")
        rows = {"start": watched(dry, Path(folder))}
    runs = [(n, 2) for n in bench.grown] + [(bench.grown[0], 4)]
    for n_tiles, n_folds in runs:
        with tempfile.TemporaryDirectory() as folder:
            Synthetic(Path(folder) / "data", n_train=n_tiles, n_test=100, seed=0).prepare()
            command = salt_train(
                "data=synthetic",
                *SMALL,
                f"data.root={folder}/data",
                f"data.n_train={n_tiles}",
                "data.n_test=100",
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
