"""The rows of docs/evidence/rows.yaml and the finished folds in docs/evidence/folds."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
