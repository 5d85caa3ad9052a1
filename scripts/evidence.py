"""Measure what each mechanism is worth: train the rows of docs/evidence/rows.yaml fold by fold, and write the page.

    python scripts/evidence.py setup --place FOLDER            # clone and venv at the commit in docs/evidence/COMMIT
    python scripts/evidence.py run --place FOLDER --data TGS   # train what is missing; Ctrl-C or SIGTERM stops cleanly
    python scripts/evidence.py list                            # what is done and what is missing
    python scripts/evidence.py page                            # docs/evidence.md from the finished folds alone

A finished fold is one small file in docs/evidence/folds: the score of every held-out tile, and how it was made.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from evidence_folds import (
    EVIDENCE,
    RECORDED,
    REPOSITORY,
    Measured,
    Row,
    Unit,
    read_measured,
    read_rows,
    write_fold,
)

from salt.data.tgs import read_dataset
from salt.runs.environment import cpu_name
from salt.runs.stacks import read_probabilities
from salt.scoring.metrics import count_pixels, score_counts


def queue(rows: dict[str, Row]) -> Iterator[Unit]:
    """Yield all trainings, the most urgent first: the article's rows with seed 0, then with seed 1, then the screening.

    Fold by fold, so that whatever is finished compares all rows on the same tiles. The base's fold comes first.
    """
    for part, seed in (("article", 0), ("article", 1), ("screening", 0), ("screening", 1)):
        units = [unit for row in rows.values() if row.part in (part, "base") for unit in row.units(seed)]
        yield from sorted(units, key=lambda unit: unit.fold)  # stable: rows keep their order
    yield from (unit for seed in rows["base"].seeds for unit in rows["base"].units(seed))


def missing(rows: dict[str, Row], done: list[Measured], machine: tuple[str, str]) -> list[Unit]:
    """Return what is still to train on a machine (cpu, cpu_capability), in order.

    A row's fold counts if the base's fold with the same seed was trained on the same kind of machine.
    """
    kinds: dict[Unit, set[tuple[str, ...]]] = {}
    for measured in done:
        kinds.setdefault(measured.unit, set()).add(measured.kind)
    wanted: dict[Unit, None] = {}
    for unit in queue(rows):
        base = Unit("base", unit.seed, unit.fold)
        if kinds.get(unit, set()) & kinds.get(base, set()):
            continue
        for needed in (base, unit):
            if not any(kind[:2] == machine for kind in kinds.get(needed, ())):
                wanted[needed] = None
    return list(wanted)


class Lanes:
    """Several trainings side by side, a thread of computation each."""

    def __init__(self, place: Path, data: Path):
        self.place, self.data = place, data
        self.rows = read_rows()
        self.lock = threading.Lock()
        self.taken: set[Unit] = set()
        self.running: dict[Unit, int] = {}  # process numbers
        self.stopped = threading.Event()

    def next_unit(self) -> Unit | None:
        """Return the next training that no lane has taken, or None."""
        with self.lock:
            todo = [u for u in missing(self.rows, read_measured(), this_machine()) if u not in self.taken]
            if not todo or self.stopped.is_set():
                return None
            self.taken.add(todo[0])
            return todo[0]

    def work(self) -> None:
        """Train one fold after the other until none is left."""
        while (unit := self.next_unit()) is not None:
            command = command_of(self.rows, unit, self.data)
            remove_of_other_machine(self.place / "runs" / unit.name)
            began = time.monotonic()
            log = (self.place / f"{unit.name}.log").open("ab")
            with log:
                process = subprocess.Popen(command, cwd=self.place, env=environment(self.place), stdout=log, stderr=log)
            with self.lock:  # a signal comes before, and is seen here, or finds the process
                self.running[unit] = process.pid
                if self.stopped.is_set():
                    os.kill(process.pid, signal.SIGTERM)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            del self.running[unit]
            seconds = self.add_seconds(unit, time.monotonic() - began, usage.ru_utime + usage.ru_stime)
            if not status:
                collect(self.place, self.data, unit, command, seconds)
            elif not self.stopped.is_set():
                print(f"{unit.name}: failed, see {log.name}", file=sys.stderr, flush=True)

    def add_seconds(self, unit: Unit, wall: float, cpu: float) -> tuple[float, float]:
        """Return the seconds of a training, of the clock and of the processor, with those before it was interrupted."""
        file = self.place / f"{unit.name}.seconds"
        with file.open("a", encoding="utf-8") as parts:
            parts.write(f"{wall} {cpu}\n")
        wall, cpu = np.loadtxt(file, ndmin=2).sum(axis=0).tolist()
        return wall, cpu

    def stop(self, *_: Any) -> None:
        """Let all trainings save and end."""
        self.stopped.set()
        for pid in list(self.running.values()):
            os.kill(pid, signal.SIGTERM)


def remove_of_other_machine(run: Path) -> None:
    """Delete an unfinished run that another kind of machine began: its fold must not go on here."""
    file = run / "environment.json"
    if file.is_file():
        known = json.loads(file.read_text(encoding="utf-8"))
        if (known["cpu"], known["cpu_capability"]) != this_machine():
            shutil.rmtree(run)
            run.parent.parent.joinpath(f"{run.name}.seconds").unlink(missing_ok=True)


def command_of(rows: dict[str, Row], unit: Unit, data: Path) -> list[str]:
    """Return the command that trains a fold, to be run in the folder of the clone and the venv."""
    row = rows[unit.row]
    own = row.settings if row.name != "base" else []
    chosen = {word.partition("=")[0] for word in own}
    base = [word for word in rows["base"].settings if word.partition("=")[0] not in {*chosen, "folds"}]
    places = [f"data.root={data}", f"data.mosaic={REPOSITORY / 'docs' / 'mosaic.csv'}"]
    return [
        "venv/bin/salt-train",
        *base,
        *own,
        *places,
        f"seed={unit.seed}",
        f"folds=[{unit.fold}]",
        f"name={unit.name}",
    ]


def environment(place: Path) -> dict[str, str]:
    """Return the variables of a training: one thread, and the clone's own code."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(place / "salt")}


def collect(place: Path, data: Path, unit: Unit, command: list[str], seconds: tuple[float, float]) -> None:
    """Write the file of a finished fold."""
    run = place / "runs" / unit.name
    train = read_dataset(data).train
    assert train.masks is not None
    ids, probabilities = read_probabilities(run / f"fold_{unit.fold}" / "oof.npz")
    positions = pd.Index(train.ids).get_indexer(pd.Index(ids))
    train.empty_unseen(probabilities, positions, "empty")
    intersection, truth, predicted = count_pixels(probabilities, train.masks[positions], np.array([0.5]))
    union = truth + predicted - intersection
    scores = score_counts(intersection, truth, predicted)[:, 0]
    iou = np.where(union > 0, intersection / np.maximum(union, 1), 1.0)[:, 0]
    tiles = pd.DataFrame({"id": ids, "score": scores, "iou": iou}).sort_values("id")
    known = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    shown = [word for word in command[1:] if not word.startswith(("data.root=", "data.mosaic="))]
    facts = {
        "row": unit.row,
        "seed": unit.seed,
        "fold": unit.fold,
        "command": shlex.join(["salt-train", *shown, "data.mosaic=docs/mosaic.csv"]),
        **{key: known[key] for key in RECORDED},
        "torch": known["packages"]["torch"],
        "seconds": round(seconds[0]),
        "cpu_seconds": round(seconds[1]),
    }
    write_fold(Measured(unit, facts, tiles))
    print(f"{unit.name}: {scores.mean():.4f} in {seconds[0] / 60:.1f} min", flush=True)


def this_machine() -> tuple[str, str]:
    """Return the name of the processor and what it computes with."""
    return cpu_name(), torch.backends.cpu.get_cpu_capability()


def set_up(place: Path) -> None:
    """Make the clone and the venv at the commit of docs/evidence/COMMIT, if they are not there."""
    commit = (EVIDENCE / "COMMIT").read_text(encoding="utf-8").strip()
    clone, python = place / "salt", place / "venv" / "bin" / "python"
    place.mkdir(parents=True, exist_ok=True)
    if not clone.is_dir():
        subprocess.run(["git", "clone", "--quiet", "--no-checkout", REPOSITORY, clone], check=True)
        subprocess.run(["git", "-C", clone, "checkout", "--quiet", "--detach", commit], check=True)
    if not (place / "venv" / "bin" / "salt-train").exists():
        subprocess.run([sys.executable, "-m", "venv", place / "venv"], check=True)
        install = ["-m", "pip", "install", "--quiet", "--constraint", "constraints.txt", "--editable", ".[pretrained]"]
        subprocess.run([python, *install], cwd=clone, check=True)


def main() -> None:
    """Do what the first word says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=("setup", "run", "list", "page"))
    parser.add_argument("--place", type=Path, default=REPOSITORY.parent / "evidence", help="folder of clone and venv")
    parser.add_argument("--data", type=Path, default=Path("data/tgs"), help="the TGS data")
    parser.add_argument("--lanes", type=int, default=1, help="trainings side by side")
    arguments = parser.parse_args()
    if arguments.do == "setup":
        set_up(arguments.place.resolve())
    elif arguments.do == "run":
        lanes = Lanes(arguments.place.resolve(), arguments.data.resolve())
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lanes.stop)
        threads = [threading.Thread(target=lanes.work) for _ in range(arguments.lanes)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(1)  # Python handles signals here, also one that another thread received
    elif arguments.do == "list":
        done = read_measured()
        todo = missing(read_rows(), done, this_machine())
        print(f"{len(done)} folds are done; to train on this machine: {len(todo)}")
        for unit in todo:
            print(f"  {unit.name}")
    else:
        from evidence_page import write_page

        write_page()


if __name__ == "__main__":
    main()
