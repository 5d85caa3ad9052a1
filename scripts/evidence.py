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
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
EVIDENCE = REPOSITORY / "docs" / "evidence"
ALL_FOLDS, SCREENED = [0, 1, 2, 3, 4], [0, 1, 2]
CONDITIONS = ("cpu", "cpu_capability", "precision")  # both sides of a comparison have these in common
RECORDED = ("commit", *CONDITIONS, "threads", "salt")  # of environment.json


@dataclass(frozen=True)
class Unit:
    """One training: a fold of a row with a seed."""

    row: str
    seed: int
    fold: int

    @property
    def name(self) -> str:
        """The name of its run and of its file."""
        return f"{self.row}_seed{self.seed}_fold{self.fold}"


@dataclass(frozen=True)
class Row:
    """A setting that is compared with the base."""

    name: str
    part: str  # base, article or screening
    group: str
    settings: list[str]
    folds: list[int]
    seeds: list[int]
    claim: str = ""

    def units(self, seed: int) -> list[Unit]:
        """The folds to train with a seed."""
        return [Unit(self.name, seed, fold) for fold in self.folds] if seed in self.seeds else []


def read_rows() -> dict[str, Row]:
    """Return all rows by name, the base first."""
    content = yaml.safe_load((EVIDENCE / "rows.yaml").read_text(encoding="utf-8"))
    base = content["base"]
    rows = {"base": Row("base", "base", "base", base["settings"], ALL_FOLDS, base["seeds"])}
    for part, usual in (
        ("article", {"folds": ALL_FOLDS, "seeds": [0, 1]}),
        ("screening", {"folds": SCREENED, "seeds": [0]}),
    ):
        for name, row in content[part].items():
            rows[name] = Row(name=name, part=part, **(usual | row))
    return rows


def queue(rows: dict[str, Row]) -> Iterator[Unit]:
    """Yield all trainings, the most urgent first: the article's rows with seed 0, then with seed 1, then the screening.

    The base's fold comes before the first row that needs it.
    """
    for part, seed in (("article", 0), ("article", 1), ("screening", 0), ("screening", 1)):
        yield from (unit for row in rows.values() if row.part in (part, "base") for unit in row.units(seed))
    yield from (unit for seed in rows["base"].seeds for unit in rows["base"].units(seed))


@dataclass(frozen=True)
class Measured:
    """A finished fold: how it was made, and id, score and iou of its tiles."""

    unit: Unit
    facts: dict[str, Any]
    tiles: pd.DataFrame

    @property
    def kind(self) -> tuple[str, ...]:
        """The machine's kind and the number format; results of several kinds are never compared."""
        return tuple(str(self.facts[key]) for key in CONDITIONS)


def read_measured(folder: Path = EVIDENCE / "folds") -> list[Measured]:
    """Return all finished folds."""
    return [read_fold(file) for file in sorted(folder.glob("*.csv"))]


def read_fold(file: Path) -> Measured:
    """Return what `write_fold` wrote."""
    with file.open(encoding="utf-8", newline="") as lines:
        facts = json.loads(lines.readline().removeprefix("# "))
        tiles = pd.read_csv(lines, dtype={"id": str}, keep_default_na=False)
    return Measured(Unit(facts["row"], facts["seed"], facts["fold"]), facts, tiles)


def write_fold(measured: Measured) -> None:
    """Write a finished fold as a CSV whose first line has its facts; kinds of machines have files of their own."""
    kind = "_".join(measured.kind)
    name = "".join(c if c.isalnum() else "-" for c in kind)
    file = EVIDENCE / "folds" / f"{measured.unit.name}_{name}.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    table = measured.tiles.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    temporary = file.with_suffix(".tmp")
    temporary.write_text(f"# {json.dumps(measured.facts)}\n{table}", encoding="utf-8")
    os.replace(temporary, file)


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
        self.running: dict[Unit, subprocess.Popen[bytes]] = {}
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
            self.running[unit] = process
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            del self.running[unit]
            if self.stopped.is_set():
                return
            if status:
                print(f"{unit.name}: failed, see {log.name}", file=sys.stderr, flush=True)
                continue
            collect(self.place, self.data, unit, command, (time.monotonic() - began, cpu_seconds(usage)))

    def stop(self, *_: Any) -> None:
        """Let all trainings save and end."""
        self.stopped.set()
        for process in list(self.running.values()):
            process.send_signal(signal.SIGTERM)


def remove_of_other_machine(run: Path) -> None:
    """Delete an unfinished run that another kind of machine began: its fold must not go on here."""
    file = run / "environment.json"
    if file.is_file():
        known = json.loads(file.read_text(encoding="utf-8"))
        if (known["cpu"], known["cpu_capability"]) != this_machine():
            shutil.rmtree(run)


def cpu_seconds(usage: resource.struct_rusage) -> float:
    """Return the processor's seconds that a training took, whatever else the machine did."""
    return usage.ru_utime + usage.ru_stime


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
    from salt.data.tgs import read_dataset
    from salt.runs.stacks import load_stack
    from salt.scoring.metrics import count_pixels, score_counts

    run = place / "runs" / unit.name
    train = read_dataset(data).train
    assert train.masks is not None
    ids, probabilities = load_stack((run / f"fold_{unit.fold}" / "oof.npz").read_bytes(), "probabilities")
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
    import torch

    from salt.runs.environment import cpu_name

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
        for thread in threads:
            thread.join()
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
