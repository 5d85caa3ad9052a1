"""Finished runs with only the files that are compared, and what `salt-compare` says of them."""

import copy
import functools
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from conftest import raw_config

from salt.commands import compare
from salt.config import check_config

N = 20  # tiles of a run
FOLDS = np.arange(N) % 2
COVERAGE = np.tile([0.4, 0.0, 0.0, 0.1], 25)
IDS = [f"{i:08d}e1" for i in range(N)]  # would change if read as numbers


@functools.cache
def settings(center: str) -> dict:
    raw = raw_config("data=synthetic", "encoder.weights=null", f"center={center}")
    return check_config(raw).model_dump(mode="json", by_alias=True)


def make_run(path: Path, scores=0.5, center="none", seed=0, ids=IDS, folds=FOLDS, partial=False, **changes) -> Path:
    path.mkdir(parents=True)
    config = copy.deepcopy(settings(center)) | {"name": "n", "seed": seed} | changes
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    columns = {"id": ids, "fold": folds, "coverage": COVERAGE[: len(ids)], "iou": 1.0, "score": scores}
    table = pd.DataFrame(columns).assign(threshold=0.5)
    table.to_csv(path / "oof.csv", index=False)
    score = {"map": table["score"].mean(), "n": len(ids), "partial": partial}
    (path / "score.json").write_text(json.dumps(score))
    return path


def make_failed(path: Path, error: str | None = None) -> None:
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump(settings("none")))
    if error is not None:
        (path / "error.txt").write_text(error)


def write_multirun(sweep: Path, *words, baseline=None, params=None) -> None:
    """Hydra's record of a sweep: the words of its command, and the baseline and parameters of an ablation."""
    hydra = {
        "sweeper": {"params": params},
        "callbacks": {"sweep": {"baseline": baseline}},
        "overrides": {"task": [*words]},
    }
    (sweep / "multirun.yaml").write_text(yaml.safe_dump({"hydra": hydra}))


def random_scores(seed: int, shift: float = 0.0) -> np.ndarray:
    return np.clip(np.random.default_rng(seed).integers(0, 11, N) / 10 + shift, 0, 1)


def rows_of(text: str) -> dict[str, list[str]]:
    """The cells of the printed table by label, in order, without the row "all empty"."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    assert cells[0] == ["run", "score", "difference", "95 % interval", "resolved", "seeds"]
    assert [row[0] for row in cells].count("all empty") == 1
    return {row[0]: row[1:] for row in cells[2:] if row[0] != "all empty"}


def csv_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "compare.csv", keep_default_na=False).set_index("run").drop("all empty")


def salt_compare(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["salt-compare", *map(str, arguments)])
    compare.main()
