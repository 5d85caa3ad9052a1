"""Write and read the results of finished runs."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from salt.overrides import flatten, point_names
from salt.runs.ensemble import blended, first_run
from salt.runs.files import folder_name, read_json, read_yaml, write_json, write_text
from salt.runs.rundir import BLEND, is_free
from salt.runs.stacks import Stack, save_stack

COLUMNS = {"id": "str", "fold": "int64", "coverage": "float64", "score": "float64"}  # of oof.csv, always there
SECTION = {"section": "int64"}  # number of the tile's section, if the run knows it
TRACES = ("config.yaml", "error.txt", "train.log", BLEND)  # a sub-folder with one of them is a run
SAME_ROW = ("seed", "name")  # settings in which the runs of one row of a table may differ
N_REASON = 160  # characters


@dataclass(frozen=True)
class FinishedRun:
    """A finished run: settings without seed and name; `tiles` has fold, coverage, score, maybe section, by id."""

    path: Path
    settings: str
    seed: Any
    tiles: pd.DataFrame
    partial: bool
    data: dict[str, str]  # digests of the data, from environment.json


def write_results(path: Path, ids: Any, probabilities: Stack, table: pd.DataFrame, score: dict[str, Any]) -> None:
    """Write oof.npz, oof.csv and score.json of a run, each atomically."""
    save_stack(path / "oof.npz", ids, probabilities=probabilities)
    write_text(path / "oof.csv", table.set_index(pd.Index(ids, name="id")).to_csv(lineterminator="\n"))
    write_json(path / "score.json", score)


def find_points(folder: Path) -> list[Path]:
    """Return the run directories directly below a folder, by name."""
    if not folder.is_dir():
        raise ValueError(f"{folder} {'is no folder' if folder.exists() else 'does not exist'}")
    return sorted(path for path in folder.iterdir() if any((path / trace).is_file() for trace in TRACES))


def read_run(path: Path) -> FinishedRun:
    """Return a finished run; raise ValueError if it is none, or one of its files is damaged."""
    below = [point.name for point in find_points(path)]
    first = first_run(path).path
    if not (first / "config.yaml").is_file():
        hint = f"; to compare the runs in it ({', '.join(below)}) give it alone" if below else ""
        raise ValueError(f"{first} is no run directory, it has no config.yaml{hint}")
    if not (path / "score.json").is_file():
        remedy = "finish the run with the same salt-train command"
        raise ValueError(f"{path} has no score.json yet{failure_reason(path)}: {remedy}")
    config = flatten(read_yaml(first / "config.yaml"))
    settings = {key: value for key, value in config.items() if key not in SAME_ROW and not is_free(key)}
    digests = read_digests(first)
    if "unlabelled_sha256" in digests:  # instead of the paths of tiles and labels
        settings["semi_supervised.tiles"] = digests["unlabelled_sha256"]
    settings["blend"] = [entry for _, entry in blended(path)]
    score = read_json(path / "score.json", "map")
    check_scored(path, score)
    partial = bool(score.get("partial"))
    ordered = json.dumps(settings, sort_keys=True, default=str)
    return FinishedRun(path, ordered, config.get("seed"), read_oof_table(path / "oof.csv"), partial, digests)


def check_scored(path: Path, score: dict[str, Any]) -> None:
    """Raise ValueError if a run has a score.json, but no score."""
    if score["map"] is None:
        raise ValueError(f"{path} has no score: data.n_folds=1 trained on all images and held none out")


def read_oof_table(file: Path) -> pd.DataFrame:
    """Return fold, coverage, score and, if known, section of every tile in an oof.csv, ordered by id."""
    if not file.is_file():
        raise ValueError(f"{file} does not exist")
    try:
        frame = pd.read_csv(file, dtype=COLUMNS | SECTION, keep_default_na=False)
    except ValueError as error:  # pandas' own errors are ValueErrors
        raise ValueError(f"{file} is damaged: {error}") from None
    absent = [column for column in COLUMNS if column not in frame]
    if absent:
        raise ValueError(f"{file} is damaged: it lacks the columns {', '.join(absent)}")
    frame = frame[[c for c in (*COLUMNS, *SECTION) if c in frame]].set_index("id").sort_index()
    twice = frame.index[frame.index.duplicated()]
    if frame.empty or len(twice):
        raise ValueError(f"{file} is damaged: " + (f"tile {twice[0]} is in it twice" if len(twice) else "no tiles"))
    if not frame["score"].between(0, 1).all():  # NaN is not between either
        raise ValueError(f"{file} is damaged: a score is not within 0 ... 1")
    return frame


def read_digests(path: Path) -> dict[str, str]:
    """Return the digests in environment.json of what a run was trained on; none if the file is missing."""
    file = path / "environment.json"
    if not file.is_file():
        return {}
    content, keys = read_json(file, "data_sha256"), ("train_sha256", "data_sha256", "unlabelled_sha256")
    return {key: str(content[key]) for key in keys if content.get(key) is not None}


def failure_reason(point: Path) -> str:
    """Return the exception in the error.txt of a run, in brackets; an empty text if there is none."""
    file = point / "error.txt"
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    begin = max((i for i, line in enumerate(lines) if line.startswith("Traceback ")), default=-1)
    first = next((i for i in range(begin + 1, len(lines)) if lines[i] and not lines[i][0].isspace()), None)
    if first is None:
        return ""
    cause = lines[first : first + 1 + lines[first].endswith(":")]  # with the first case of a list
    text = " ".join(line.strip() for line in cause)
    return f" ({text[:N_REASON]})"


def points_in_order(folder: Path) -> list[str]:
    """Return the names of a sweep's points in the order of its last command, if Hydra's multirun.yaml has them."""
    params, words = in_multirun(folder, "sweeper", "params"), in_multirun(folder, "overrides", "task")
    varied = [f"{key}={value}" for key, value in params.items()] if isinstance(params, dict) else []
    return [folder_name(name) for name in point_names([*varied, *(words if isinstance(words, list) else [])])]


def in_multirun(folder: Path, *keys: str) -> Any:
    """Return a setting of Hydra in a sweep's multirun.yaml, or None."""
    node: Any = read_yaml(folder / "multirun.yaml").get("hydra") if (folder / "multirun.yaml").is_file() else None
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node
