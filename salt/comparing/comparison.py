"""Which runs can be compared, and their differences with intervals over tiles and seeds."""

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from salt.runs.files import folder_name
from salt.runs.results import FinishedRun, read_run
from salt.scoring.bootstrap import DIGITS, LEVEL, are_enough, bootstrap, units_to_draw
from salt.scoring.metrics import Floats, Ints
from salt.words import plural

ALL_EMPTY = "all empty"  # label of what predicting no salt would score
N_EXAMPLES = 5  # ids in a message
TILES_ONLY = "tiles only"  # the verdict instead of "yes" if a setting has one seed


@dataclass(frozen=True)
class Entry:
    """The runs of one setting with different seeds, and their scores (S N: seeds, tiles in the order of ids)."""

    label: str
    runs: list[FinishedRun]
    scores: Floats

    @property
    def folds(self) -> Ints:
        return self.runs[0].tiles["fold"].to_numpy()

    def answers_to(self, name: str) -> bool:
        """Return whether `name` is the path or directory name of a run, with or without its seed."""
        paths = [run.path for run in self.runs]
        names = [*map(name_of, paths), *map(without_seed, paths)]
        return name in [*names, *map(str, paths)] or folder_name(name) in names


@dataclass(frozen=True)
class Comparison:
    """Entries of the same tiles, the baseline among them, and points of the sweep that have no score."""

    entries: list[Entry]
    baseline: Entry
    why: str  # this is the baseline
    missing: list[str]

    @cached_property
    def folds_differ(self) -> bool:
        """Return whether the runs divide the tiles in different ways."""
        return not all(np.array_equal(entry.folds, self.baseline.folds) for entry in self.entries)

    @cached_property
    def sections(self) -> Ints | None:
        """Return the section of each tile (N), from the first run that knows it; None if they are too few to draw."""
        tables = [run.tiles for entry in self.entries for run in entry.runs]
        known = next((tiles["section"].to_numpy() for tiles in tables if "section" in tiles), None)
        return known if known is not None and are_enough(known) else None

    @cached_property
    def results(self) -> pd.DataFrame:
        """Return scores, differences and intervals: the baseline first, then from best to worst, with "all empty"."""
        empty = (self.baseline.runs[0].tiles["coverage"].to_numpy() == 0).astype(np.float64)
        entries = [*self.entries, Entry(ALL_EMPTY, [], empty[None])]
        pairs = [shared_seeds(entry, self.baseline) for entry in entries]
        changes = np.stack([ours.mean(axis=0) - theirs.mean(axis=0) for ours, theirs in pairs])
        folds = np.zeros_like(self.baseline.folds) if self.folds_differ else self.baseline.folds
        intervals = bootstrap(changes, folds, self.sections)
        rows = []
        for entry, pair, change, interval in zip(entries, pairs, changes, intervals, strict=True):
            row = {"run": entry.label, "score": entry.scores.mean(axis=0).mean(), "difference": change.mean()}
            if entry is self.baseline:
                row |= {"low": np.nan, "high": np.nan, "resolved": "", "interval_over": ""}
            else:
                row |= self.judge(entry, pair, float(change.mean()), interval)
            n = len(entry.runs)
            spread = float(np.std(entry.scores.mean(axis=1), ddof=1)) if n > 1 else np.nan
            rows.append(row | {"seeds": n, "seed_spread": spread, "others": entry is not self.baseline})
        order = pd.DataFrame(rows).sort_values(["others", "score", "run"], ascending=[True, False, True])
        return order.drop(columns="others").reset_index(drop=True)

    def judge(self, entry: Entry, pair: tuple[Floats, Floats], change: float, over_tiles: Floats) -> dict[str, Any]:
        """Return the interval of a difference, what it covers, and whether it excludes 0."""
        trained = [(e, s) for e, s in zip((entry, self.baseline), pair, strict=True) if e.runs]
        seeds = all(len(scores) > 1 for _, scores in trained)
        low, high = over_tiles
        if seeds:
            sides = [Side(scores, e.folds) for e, scores in trained]
            low, high = widen(change, low, high, seed_margin(sides, self.sections))
        units = "tiles" if self.sections is None else "sections"
        verdict = ("yes" if seeds else TILES_ONLY) if low > 0 or high < 0 else "no"
        return {"low": low, "high": high, "resolved": verdict, "interval_over": f"{units}, seeds" if seeds else units}


def read_entries(paths: list[Path], across_folds: bool = False) -> list[Entry]:
    """Read comparable runs (see `check_same_tiles`), and group the seeds of one setting."""
    runs = [read_run(path) for path in paths]
    for other in runs[1:]:
        check_same_tiles(runs[0], other, across_folds)
    groups = group_seeds(runs)
    labels = [without_seed(g[0].path) if len(g) > 1 else name_of(g[0].path) for g in groups]
    labels = [a if labels.count(a) == 1 else str(g[0].path) for a, g in zip(labels, groups, strict=True)]
    scores = [np.stack([run.tiles["score"].to_numpy() for run in group]) for group in groups]
    return [Entry(*parts) for parts in zip(labels, groups, scores, strict=True)]


def check_same_tiles(a: FinishedRun, b: FinishedRun, across_folds: bool = False) -> None:
    """Raise ValueError unless two runs scored the same tiles, in the same folds if not `across_folds`."""
    half = "".join(f"; {run.path} is partial" for run in (a, b) if run.partial)
    differing = a.tiles.index.symmetric_difference(b.tiles.index)
    if len(differing):
        raise ValueError(f"{a.path} and {b.path} scored different tiles; only one has {examples(differing)}{half}")
    # training tiles alone if both runs recorded them: test tiles may differ
    common = [key for key in ("train_sha256", "data_sha256") if key in a.data and key in b.data]
    if common and a.data[common[0]] != b.data[common[0]]:
        raise ValueError(f"{a.path} and {b.path} were trained on different data with the same ids")
    moved = a.tiles.index[a.tiles["fold"].to_numpy() != b.tiles["fold"].to_numpy()]
    if len(moved) and not across_folds:
        raise ValueError(
            f"{a.path} and {b.path} have tiles in different folds: {examples(moved)}; expected the same data.n_folds, "
            "data.fold_seed and data.folds; --across-folds compares them all the same"
        )


def examples(ids: pd.Index) -> str:
    """Return the number of tiles and the first few ids."""
    return f"{plural(len(ids), 'tile')} ({', '.join(map(str, ids[:N_EXAMPLES]))}{' ...' * (len(ids) > N_EXAMPLES)})"


def group_seeds(runs: list[FinishedRun]) -> list[list[FinishedRun]]:
    """Group runs that differ in the seed alone; a repeated seed starts another group."""
    groups: dict[tuple[str, bytes, int], list[FinishedRun]] = {}
    seen: Counter[tuple[str, bytes, Any]] = Counter()
    for run in runs:
        folds = run.tiles["fold"].to_numpy().tobytes()  # data.folds=mosaic may mean different folds
        n_before = seen[run.settings, folds, run.seed]
        groups.setdefault((run.settings, folds, n_before), []).append(run)
        seen[run.settings, folds, run.seed] += 1
    return list(groups.values())


def name_of(path: Path) -> str:
    """Return the directory's name, also of `.` and `runs/..`."""
    return os.path.basename(os.path.abspath(path))


def without_seed(path: Path) -> str:
    """Return the name of a sweep's point without `seed=N`, or the sweep's name if it varies the seed alone."""
    parts = [part for part in name_of(path).split(",") if not re.fullmatch(r"seed=\d+", part)]
    return ",".join(parts) or name_of(path.parent)


def choose_baseline(
    entries: list[Entry], asked: str | None, of_sweep: str | None, first: str | None
) -> tuple[Entry, str]:
    """Return the entry to compare with, and why; raise ValueError if the one that was asked for does not exist."""
    name = asked or of_sweep or first
    if name is None:
        return entries[0], "the first run"
    found = [e for e in entries if e.label == name] or [e for e in entries if e.answers_to(name.rstrip("/"))]
    if not found:  # an ablation that varies another setting too has more parts in its points' names
        found = [e for e in entries if set(folder_name(name).split(",")) <= set(e.label.split(","))][:1]
    if not found and name in (of_sweep, first):
        return entries[0], f"the first run; {name} has no score"
    if len(found) != 1:
        raise ValueError(f"baseline={name!r}, expected one of {', '.join(entry.label for entry in entries)}")
    return found[0], "the sweep's baseline" if name == of_sweep else "as asked" if asked else "the first point"


def varying_settings(entries: list[Entry]) -> list[str]:
    """Return the settings that differ between entries; of an option that differs, only its group."""
    found = [json.loads(entry.runs[0].settings) for entry in entries]
    keys = dict.fromkeys(key for settings in found for key in settings)
    differing = [key for key in keys if len({json.dumps(s.get(key, "(none)"), default=str) for s in found}) > 1]
    chosen = {key.split(".")[0] for key in differing if key.endswith("._target_") and key.count(".") == 1}
    return list(dict.fromkeys(key.split(".")[0] if key.split(".")[0] in chosen else key for key in differing))


def shared_seeds(entry: Entry, baseline: Entry) -> tuple[Floats, Floats]:
    """Return the scores of both (S N) over the seeds that both have, or over all seeds if they share none."""
    common = {run.seed for run in entry.runs} & {run.seed for run in baseline.runs}
    ours, theirs = (e.scores[[run.seed in common for run in e.runs]] if common else e.scores for e in (entry, baseline))
    return ours, theirs


@dataclass(frozen=True)
class Side:
    """One setting's scores S N (seeds, tiles), two seeds or more, and the folds of its tiles (N)."""

    scores: Floats
    folds: Ints


def seed_margin(sides: Sequence[Side], sections: Ints | None = None) -> float:
    """Return the half-width of the interval of the difference of two settings over seeds alone.

    Folds are trained separately: the variance of each fold's part of the mean is estimated from the seeds, and summed.
    The variance of single tiles (or sections, N) is subtracted, since the interval over tiles covers it. The quantile
    is Student's t with Satterthwaite's degrees of freedom.

    Reference:
        Satterthwaite 1946, An approximate distribution of estimates of variance components; Cameron, Gelbach, Miller
        2011, Robust inference with multiway clustering, for the subtraction.
    """
    variances, freedoms, in_both = [], [], 0.0
    for side in sides:
        n_seeds, n = side.scores.shape
        for fold in np.unique(side.folds):
            parts = side.scores[:, side.folds == fold].sum(axis=1) / n
            variances.append(parts.var(ddof=1) / n_seeds)
            freedoms.append(n_seeds - 1)
        in_both += variance_of_cells(side, sections)
    total = np.sum(variances)
    if total <= in_both:
        return 0.0
    freedom = total**2 / np.sum(np.square(variances) / freedoms)
    return float(stats.t.ppf((1 + LEVEL / 100) / 2, freedom) * np.sqrt(total - in_both))


def variance_of_cells(side: Side, sections: Ints | None) -> float:
    """Return the variance of the mean over seeds that comes from single tiles, or from sections of a fold."""
    n_seeds, n = side.scores.shape
    units = units_to_draw(side.folds, sections)[0]
    _, cells = np.unique(np.stack([units, side.folds]), axis=1, return_inverse=True)
    sums = np.stack([np.bincount(cells.ravel(), weights=scores) for scores in side.scores]) / n
    return float(sums.var(axis=0, ddof=1).sum() / n_seeds)


def widen(mean: float, low: float, high: float, margin: float) -> tuple[float, float]:
    """Return the interval of a sum of two independent terms: one has an interval, the other a margin around 0.

    Reference: Zou, Donner 2008, Construction of confidence limits about effect measures: a general approach (MOVER).
    """
    below, above = np.hypot(mean - low, margin), np.hypot(high - mean, margin)
    return round(float(mean - below), DIGITS), round(float(mean + above), DIGITS)
