"""Runs beside each other: which ones can be compared, and differences with intervals from a paired bootstrap."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salt.comparing.seeds import Side, seed_margin, widen
from salt.runs.files import folder_name
from salt.runs.results import Run, read_run
from salt.scoring.bootstrap import are_enough, bootstrap

ALL_EMPTY = "all empty"  # label of a row
N_EXAMPLES = 5  # ids in a message
TILES_ONLY = "tiles only"  # instead of "yes", where seeds were not compared


@dataclass(frozen=True)
class Row:
    """A line of the table: the seeds of one setting, and a tile's mean score over them (N, in the order of the ids)."""

    label: str
    runs: list[Run]
    scores: NDArray[np.float64]

    def answers_to(self, name: str) -> bool:
        """Return whether `name` is the directory name or path of one of the runs, with or without its seed.

        It may also be what a sweep made the directory's name of: with `/`.
        """
        paths = [run.path for run in self.runs]
        names = [*map(name_of, paths), *map(without_seed, paths)]
        return name in [*names, *(str(run.path) for run in self.runs)] or folder_name(name) in names


def read_rows(paths: list[Path], across_folds: bool = False) -> list[Row]:
    """The runs of comparable tiles, the seeds of one setting in one row; see `check_same_tiles`."""
    runs = [read_run(path) for path in paths]
    for other in runs[1:]:
        check_same_tiles(runs[0], other, across_folds)
    groups = group_seeds(runs)
    labels = [without_seed(g[0].path) if len(g) > 1 else name_of(g[0].path) for g in groups]
    return [
        Row(label if labels.count(label) == 1 else str(group[0].path), group, scores_of(group).mean(axis=0))
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


def without_seed(path: Path) -> str:
    """Return the name of a sweep's point without its part `seed=N`; the sweep's if it varies the seed alone."""
    parts = [part for part in name_of(path).split(",") if not re.fullmatch(r"seed=\d+", part)]
    return ",".join(parts) or name_of(path.parent)


def choose_baseline(rows: list[Row], asked: str | None, of_sweep: str | None, first: str | None) -> tuple[Row, str]:
    """Return the row to compare with, and why it is this one.

    It is the one that is `asked` for, or that the sweep names, or the `first` point of its command, or the first row.

    Raises:
        ValueError: the one that was asked for is not there; a sweep's own may have failed and is replaced.
    """
    name = asked or of_sweep or first
    if name is None:
        return rows[0], "the first run"
    found = [row for row in rows if row.label == name] or [row for row in rows if row.answers_to(name.rstrip("/"))]
    if not found:  # beside an ablation another setting may vary too: its points have more parts in their names
        found = [row for row in rows if set(folder_name(name).split(",")) <= set(row.label.split(","))][:1]
    if not found and name in (of_sweep, first):
        return rows[0], f"the first run; {name} has no score"
    if len(found) != 1:
        raise ValueError(f"baseline={name!r}, expected {'one of ' * (len(rows) > 2)}{listed(rows)}")
    return found[0], "the sweep's baseline" if name == of_sweep else "as asked" if asked else "the first point"


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
    """Return scores, differences and intervals: the baseline first, then from the best to the worst.

    One row is what predicting every tile empty would score. An interval covers tiles and seeds if each of the two rows
    was trained from two seeds or more, else tiles alone.
    """
    rows = [*rows, all_empty(baseline)]
    sections = sections_of(rows)
    differences = np.stack([difference(row, baseline) for row in rows])
    intervals = bootstrap(differences, common_folds(rows), sections)
    lines = []
    for row, change, (low, high) in zip(rows, differences, intervals, strict=True):
        line = {"run": row.label, "score": row.scores.mean(), "difference": change.mean()}
        if row is baseline:
            line |= {"low": np.nan, "high": np.nan, "resolved": "", "interval_over": ""}
        else:
            line |= judge(pair_of(row, baseline), float(change.mean()), (low, high), sections)
        means = [run.tiles["score"].mean() for run in row.runs]
        spread = float(np.std(means, ddof=1)) if len(means) > 1 else np.nan
        lines.append(line | {"seeds": len(row.runs), "seed_spread": spread, "others": row is not baseline})
    order = pd.DataFrame(lines).sort_values(["others", "score", "run"], ascending=[True, False, True])
    return order.drop(columns="others").reset_index(drop=True)


def judge(
    pair: list[list[Run]], mean: float, over_tiles: tuple[float, float], sections: NDArray[np.int64] | None
) -> dict[str, Any]:
    """Return the interval of a difference, what it covers, and whether it excludes 0."""
    trained = [runs for runs in pair if runs]  # predicting nothing needs no training
    seeds = all(len(runs) > 1 for runs in trained)
    low, high = over_tiles
    if seeds:
        sides = [Side(scores_of(runs), runs[0].tiles["fold"].to_numpy()) for runs in trained]
        low, high = widen(mean, low, high, seed_margin(sides, sections))
    units = "sections" if sections is not None and are_enough(sections) else "tiles"
    verdict = ("yes" if seeds else TILES_ONLY) if low > 0 or high < 0 else "no"
    return {"low": low, "high": high, "resolved": verdict, "interval_over": f"{units}, seeds" if seeds else units}


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


def pair_of(row: Row, baseline: Row) -> list[list[Run]]:
    """Return the runs of both rows with the seeds that both have; all runs if they share none."""
    common = {run.seed for run in row.runs} & {run.seed for run in baseline.runs}
    return [[run for run in r.runs if run.seed in common] or r.runs for r in (row, baseline)]


def difference(row: Row, baseline: Row) -> NDArray[np.float64]:
    """Return each tile's mean score minus the baseline's, over the runs of `pair_of`."""
    first, second = (
        scores_of(runs).mean(axis=0) if runs else r.scores
        for r, runs in zip((row, baseline), pair_of(row, baseline), strict=True)
    )
    change: NDArray[np.float64] = first - second
    return change


def scores_of(runs: list[Run]) -> NDArray[np.float64]:
    """Return the tiles' scores in each of some runs (S N)."""
    return np.stack([run.tiles["score"].to_numpy() for run in runs])


def folds_differ(rows: Sequence[Row]) -> bool:
    """Whether the runs divide the tiles in different ways."""
    folds = [run.tiles["fold"].to_numpy() for row in rows for run in row.runs]
    return not all(np.array_equal(other, folds[0]) for other in folds)


def draws_sections(rows: Sequence[Row]) -> bool:
    """Whether intervals over the tiles of these rows come from whole sections."""
    sections = sections_of(rows)
    return sections is not None and are_enough(sections)
