"""Runs beside each other: which ones can be compared, and differences with intervals from a paired bootstrap."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salt.runs.files import folder_name
from salt.runs.results import Run, read_run
from salt.scoring.bootstrap import are_enough, bootstrap

ALL_EMPTY = "all empty"  # label of a row
N_EXAMPLES = 5  # ids in a message


@dataclass(frozen=True)
class Row:
    """A line of the table: the seeds of one setting, and a tile's mean score over them (N, in the order of the ids)."""

    label: str
    runs: list[Run]
    scores: NDArray[np.float64]

    def answers_to(self, name: str) -> bool:
        """Whether `name` is the directory name or path of one of the runs, with or without its seed.

        It may also be what a sweep made the directory's name of: with `/`.
        """
        places = [name_of(run.path) for run in self.runs]
        names = [*places, *map(without_seed, places)]
        return name in [*names, *(str(run.path) for run in self.runs)] or folder_name(name) in names


def read_rows(paths: list[Path], across_folds: bool = False) -> list[Row]:
    """The runs of comparable tiles, the seeds of one setting in one row; see `check_same_tiles`."""
    runs = [read_run(path) for path in paths]
    for other in runs[1:]:
        check_same_tiles(runs[0], other, across_folds)
    groups = group_seeds(runs)
    labels = [without_seed(name_of(g[0].path)) if len(g) > 1 else name_of(g[0].path) for g in groups]
    return [
        Row(label if labels.count(label) == 1 else str(group[0].path), group, mean_scores(group))
        for label, group in zip(labels, groups, strict=True)
    ]


def check_same_tiles(a: Run, b: Run, across_folds: bool = False) -> None:
    """Make sure that two runs scored the same tiles, in the same folds unless `across_folds`.

    Raises:
        ValueError: they did not; both runs and a few tiles are named.
    """
    half = "".join(f"; {run.path} is partial" for run in (a, b) if run.partial)
    differing = a.tiles.index.symmetric_difference(b.tiles.index)
    if len(differing):
        raise ValueError(f"{a.path} and {b.path} scored different tiles; only one has {examples(differing)}{half}")
    # the training tiles alone count, where both runs know them
    common = [key for key in ("train_sha256", "data_sha256") if key in a.data and key in b.data]
    if common and a.data[common[0]] != b.data[common[0]]:
        raise ValueError(f"{a.path} and {b.path} were trained on different data with the same ids")
    moved = a.tiles.index[a.tiles["fold"].to_numpy() != b.tiles["fold"].to_numpy()]
    if len(moved) and not across_folds:
        raise ValueError(
            f"{a.path} and {b.path} have tiles in different folds: {examples(moved)}; "
            "runs to compare need the same data.n_folds, data.fold_seed and data.folds; to see what another division "
            "does, compare them with --across-folds"
        )


def examples(ids: pd.Index) -> str:
    """The first few ids, and how many there are."""
    return f"{', '.join(map(str, ids[:N_EXAMPLES]))}" + (f" ... ({len(ids)} tiles)" if len(ids) > N_EXAMPLES else "")


def group_seeds(runs: list[Run]) -> list[list[Run]]:
    """Runs of one setting together; a seed that is there already begins a group of its own, it is no second seed."""
    groups: dict[tuple[tuple[str, bytes], int], list[Run]] = {}
    for run in runs:
        setting = run.settings, run.tiles["fold"].to_numpy().tobytes()  # data.folds=mosaic may stand for other folds
        repeats = sum((setting, run.seed) == (key, other.seed) for (key, _), g in groups.items() for other in g)
        groups.setdefault((setting, repeats), []).append(run)
    return list(groups.values())


def name_of(path: Path) -> str:
    """The directory's name, also of `.` and `runs/..`."""
    return os.path.basename(os.path.abspath(path))


def without_seed(name: str) -> str:
    """The name of a sweep's point without its part `seed=N`; a name that is nothing else stays."""
    return ",".join(part for part in name.split(",") if not re.fullmatch(r"seed=\d+", part)) or name


def choose_baseline(rows: list[Row], asked: str | None, of_sweep: str | None) -> tuple[Row, str]:
    """The row to compare with, and why it is this one.

    Raises:
        ValueError: the one that was asked for is not there; a sweep's own may have failed and is replaced.
    """
    name = asked or of_sweep
    if name is None:
        return rows[0], "the first run"
    found = [row for row in rows if row.label == name] or [row for row in rows if row.answers_to(name.rstrip("/"))]
    if not found:  # beside an ablation another setting may vary too: its points have more parts in their names
        found = [row for row in rows if set(folder_name(name).split(",")) <= set(row.label.split(","))][:1]
    if name == of_sweep:
        return (found[0], "the sweep's baseline") if found else (rows[0], f"the first run; {name} has no score")
    if len(found) != 1:
        raise ValueError(f"baseline={name!r}, expected {'one of ' * (len(rows) > 2)}{listed(rows)}")
    return found[0], "as asked"


def listed(rows: list[Row]) -> str:
    """The labels as a choice."""
    return (" or " if len(rows) == 2 else ", ").join(row.label for row in rows)


def varying_settings(rows: list[Row]) -> list[str]:
    """The settings that are not the same in all rows; of a chosen option only its group is named."""
    found = [json.loads(row.runs[0].settings) for row in rows]
    keys = dict.fromkeys(key for settings in found for key in settings)
    differing = [key for key in keys if len({json.dumps(s.get(key, "(none)"), default=str) for s in found}) > 1]
    chosen = {key.split(".")[0] for key in differing if key.endswith("._target_") and key.count(".") == 1}
    return list(dict.fromkeys(key.split(".")[0] if key.split(".")[0] in chosen else key for key in differing))


def compare_rows(rows: list[Row], baseline: Row) -> pd.DataFrame:
    """Scores, differences and intervals: the baseline first, then from the best to the worst.

    One row is what predicting every tile empty would score.
    """
    rows = [*rows, all_empty(baseline)]
    differences = np.stack([difference(row, baseline) for row in rows])
    intervals = bootstrap(differences, common_folds(rows), sections_of(rows))
    lines = []
    for row, change, (low, high) in zip(rows, differences, intervals, strict=True):
        line = {"run": row.label, "score": row.scores.mean(), "difference": change.mean()}
        if row is baseline:
            line |= {"low": np.nan, "high": np.nan, "resolved": ""}
        else:
            line |= {"low": low, "high": high, "resolved": "yes" if low > 0 or high < 0 else "no"}
        means = [run.tiles["score"].mean() for run in row.runs]
        spread = float(np.std(means, ddof=1)) if len(means) > 1 else np.nan
        lines.append(line | {"seeds": len(row.runs), "seed_spread": spread, "others": row is not baseline})
    order = pd.DataFrame(lines).sort_values(["others", "score", "run"], ascending=[True, False, True])
    return order.drop(columns="others").reset_index(drop=True)


def common_folds(rows: list[Row]) -> NDArray[np.int64]:
    """The fold of each tile (N); 0 where the runs divide the tiles in different ways."""
    folds: NDArray[np.int64] = next(run.tiles["fold"].to_numpy() for row in rows for run in row.runs)
    return np.zeros_like(folds) if folds_differ(rows) else folds


def sections_of(rows: Sequence[Row]) -> NDArray[np.int64] | None:
    """The section of each tile (N), from the first run that knows them."""
    tables = [run.tiles for row in rows for run in row.runs]
    return next((tiles["section"].to_numpy() for tiles in tables if "section" in tiles), None)


def all_empty(row: Row) -> Row:
    """What predicting no salt at all scores on the tiles of a row: 1 on each tile without salt, 0 on the others."""
    return Row(ALL_EMPTY, [], (row.runs[0].tiles["coverage"].to_numpy() == 0).astype(np.float64))


def difference(row: Row, baseline: Row) -> NDArray[np.float64]:
    """Each tile's score minus the baseline's, over the seeds that both have; over all, where they share none."""
    if not row.runs:  # a row that no run made
        return row.scores - baseline.scores
    common = {run.seed for run in row.runs} & {run.seed for run in baseline.runs}
    pair = [[run for run in r.runs if run.seed in common] or r.runs for r in (row, baseline)]
    return mean_scores(pair[0]) - mean_scores(pair[1])


def mean_scores(runs: list[Run]) -> NDArray[np.float64]:
    """Each tile's mean score over runs."""
    return np.mean([run.tiles["score"].to_numpy() for run in runs], axis=0)


def folds_differ(rows: Sequence[Row]) -> bool:
    """Whether the runs divide the tiles in different ways."""
    folds = [run.tiles["fold"].to_numpy() for row in rows for run in row.runs]
    return not all(np.array_equal(other, folds[0]) for other in folds)


def draws_sections(rows: Sequence[Row]) -> bool:
    """Whether intervals over the tiles of these rows come from whole sections."""
    sections = sections_of(rows)
    return sections is not None and are_enough(sections)
