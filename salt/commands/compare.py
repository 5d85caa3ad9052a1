"""The command `salt-compare RUN...`: finished runs in one table, with intervals of their differences."""

import json
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from salt.commands.common import make_parser, messages
from salt.runs.files import folder_name, read_yaml, write_atomic, write_text
from salt.runs.rundir import FREE_KEYS, flatten, read_settings

COLUMNS = {"id": "str", "fold": "int64", "score": "float64"}  # of oof.csv
TRACES = ("config.yaml", "error.txt", "train.log")  # a sub-folder of a sweep with one of them is a run
SAME_ROW = ("seed", "name", *FREE_KEYS)  # settings in which the seeds of one row may differ

RESAMPLES = 10_000
CHUNK = 100  # resamples at a time: 3 MB for 4,000 tiles
LEVEL = 95  # percent
DIGITS = 12  # of a resampled difference: sums in another order must not turn 0 into 1e-17
N_EXAMPLES = 5  # ids in a message
N_REASON = 160  # characters of a failure's reason

NOTE = f"""\
The {LEVEL} % interval covers which tiles were drawn (paired bootstrap of the tiles of each fold, {RESAMPLES:,} times);
resolved: it excludes 0. It does not cover how training varies from seed to seed, nor that neighbouring tiles are
alike, so more than one in 20 runs that do not truly differ is called resolved, and a lucky baseline
shifts all rows at once. In the TGS challenge scores spread by about 0.006 from fold to fold;
effects under 0.005 need several seeds that agree."""


@dataclass(frozen=True)
class Run:
    """One finished run: its settings without seed and name, and the out-of-fold scores (index id; fold, score)."""

    path: Path
    settings: str
    seed: Any
    tiles: pd.DataFrame
    partial: bool
    data: str | None  # digest of the data, from environment.json


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


def main() -> None:
    """Print the table and write it with its picture; exit code 1 and one message if it fails."""
    with messages("salt-compare"):
        parser = make_parser("salt-compare", "Compare finished runs; write compare.md, compare.csv, compare.png.")
        parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run directories, or one sweep's folder")
        parser.add_argument("--baseline", metavar="NAME", help="run to compare with (default: the sweep's, or first)")
        parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: the sweep's folder, or this one")
        arguments = parser.parse_args()
        print(compare(arguments.runs, arguments.baseline, arguments.out))


def compare(paths: list[Path], baseline: str | None, out: Path | None) -> str:
    """Compare the given runs, or those of one sweep's folder; returns the text to print.

    Raises:
        ValueError: a path is no finished run, the runs scored different tiles or folds, or the baseline is unknown.
    """
    if len(paths) == 1 and find_points(paths[0]):
        return compare_sweep(paths[0], baseline, out)
    places = [path.resolve() for path in paths]
    twice = [str(path) for path, place in zip(paths, places, strict=True) if places.count(place) > 1]
    if twice:
        raise ValueError(f"one run is given more than once: {', '.join(twice)}")
    rows = read_rows(paths)
    return finish(rows, *choose_baseline(rows, baseline, None), [], Path(), out)


def compare_sweep(folder: Path, baseline: str | None, out: Path | None = None, failed: Collection[str] = ()) -> str:
    """Compare the finished runs of a sweep, list the others, write the files; returns the text to print.

    The points named in `failed` are listed with the others even if they have a score, of an earlier command.

    Raises:
        ValueError: no run has a score, the runs scored different tiles or folds, or the baseline is unknown.
    """
    points = find_points(folder)
    if not points:
        raise ValueError(f"{folder} holds no runs")
    scored = [point for point in points if (point / "score.json").is_file() and point.name not in failed]
    missing = [f"- no score: {point.name}{reason(point)}" for point in points if point not in scored]
    if not scored:
        raise ValueError(f"{folder} holds no run with a score\n" + "\n".join(missing))
    rows = read_rows(scored)
    return finish(rows, *choose_baseline(rows, baseline, sweep_baseline(folder)), missing, folder, out)


def find_points(folder: Path) -> list[Path]:
    """The run directories directly below a folder, by name."""
    if not folder.is_dir():
        raise ValueError(f"{folder} {'is no folder' if folder.exists() else 'does not exist'}")
    return sorted(path for path in folder.iterdir() if any((path / trace).is_file() for trace in TRACES))


def reason(point: Path) -> str:
    """The exception that ended a run, in brackets, from its error.txt; nothing if there is none."""
    file = point / "error.txt"
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    begin = max((i for i, line in enumerate(lines) if line.startswith("Traceback ")), default=-1)
    first = next((i for i in range(begin + 1, len(lines)) if lines[i] and not lines[i][0].isspace()), None)
    if first is None:
        return ""
    text = " ".join(
        line.strip() for line in lines[first : first + 1 + lines[first].endswith(":")]
    )  # with its first case
    return f" ({text[:N_REASON]})"


def sweep_baseline(folder: Path) -> str | None:
    """The baseline that a sweep names in Hydra's multirun.yaml, if it does."""
    node: Any = read_yaml(folder / "multirun.yaml") if (folder / "multirun.yaml").is_file() else {}
    for key in ("hydra", "callbacks", "sweep", "baseline"):
        node = node.get(key) if isinstance(node, dict) else None
    return None if node is None else str(node)


def read_run(path: Path) -> Run:
    """One finished run.

    Raises:
        ValueError: it is none, or one of its files is damaged.
    """
    below = [point.name for point in find_points(path)]
    if not (path / "config.yaml").is_file():
        hint = f"; to compare the runs in it ({', '.join(below)}) give it alone" if below else ""
        raise ValueError(f"{path} is no run directory, it has no config.yaml{hint}")
    if not (path / "score.json").is_file():
        raise ValueError(f"{path} has no score.json yet{reason(path)}: finish the run with the same salt-train command")
    config = flatten(read_settings(path))
    settings = {key: value for key, value in config.items() if key not in SAME_ROW}
    try:
        partial = bool(json.loads((path / "score.json").read_text(encoding="utf-8")).get("partial"))
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path / 'score.json'} is damaged: {error}") from None
    ordered = json.dumps(settings, sort_keys=True, default=str)
    return Run(path, ordered, config.get("seed"), read_tiles(path / "oof.csv"), partial, read_digest(path))


def read_digest(path: Path) -> str | None:
    """The digest of the data that a run was trained on, where it is recorded."""
    file = path / "environment.json"
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["data_sha256"]) if file.is_file() else None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is damaged: {error!r}") from None


def read_tiles(file: Path) -> pd.DataFrame:
    """Fold and score of every tile, in the order of their ids."""
    if not file.is_file():
        raise ValueError(f"{file} does not exist")
    try:
        frame = pd.read_csv(file, dtype=COLUMNS, keep_default_na=False)
    except ValueError as error:  # pandas' own errors are ValueErrors
        raise ValueError(f"{file} is damaged: {error}") from None
    absent = [column for column in COLUMNS if column not in frame]
    if absent:
        raise ValueError(f"{file} is damaged: it lacks the columns {', '.join(absent)}")
    frame = frame[list(COLUMNS)].set_index("id").sort_index()
    twice = frame.index[frame.index.duplicated()]
    if frame.empty or len(twice):
        raise ValueError(f"{file} is damaged: " + (f"tile {twice[0]} stands in it twice" if len(twice) else "no tiles"))
    if not frame["score"].between(0, 1).all():  # NaN is not between either
        raise ValueError(f"{file} is damaged: a score is not within 0 ... 1")
    return frame


def read_rows(paths: list[Path]) -> list[Row]:
    """The runs of comparable tiles, the seeds of one setting in one row."""
    runs = [read_run(path) for path in paths]
    for other in runs[1:]:
        check_same_tiles(runs[0], other)
    groups = group_seeds(runs)
    labels = [without_seed(name_of(g[0].path)) if len(g) > 1 else name_of(g[0].path) for g in groups]
    return [
        Row(label if labels.count(label) == 1 else str(group[0].path), group, mean_scores(group))
        for label, group in zip(labels, groups, strict=True)
    ]


def mean_scores(runs: list[Run]) -> NDArray[np.float64]:
    """Each tile's mean score over runs."""
    return np.mean([run.tiles["score"].to_numpy() for run in runs], axis=0)


def check_same_tiles(a: Run, b: Run) -> None:
    """Make sure that two runs scored the same tiles in the same folds.

    Raises:
        ValueError: they did not; both runs and a few tiles are named.
    """
    half = "".join(f"; {run.path} is partial" for run in (a, b) if run.partial)
    differing = a.tiles.index.symmetric_difference(b.tiles.index)
    if len(differing):
        raise ValueError(f"{a.path} and {b.path} scored different tiles; only one has {examples(differing)}{half}")
    if a.data and b.data and a.data != b.data:
        raise ValueError(f"{a.path} and {b.path} were trained on different data with the same ids")
    moved = a.tiles.index[a.tiles["fold"].to_numpy() != b.tiles["fold"].to_numpy()]
    if len(moved):
        raise ValueError(
            f"{a.path} and {b.path} have tiles in different folds: {examples(moved)}; "
            "runs to compare need the same data.n_folds, data.fold_seed and data.folds_csv"
        )


def examples(ids: pd.Index) -> str:
    """The first few ids, and how many there are."""
    return f"{', '.join(map(str, ids[:N_EXAMPLES]))}" + (f" ... ({len(ids)} tiles)" if len(ids) > N_EXAMPLES else "")


def group_seeds(runs: list[Run]) -> list[list[Run]]:
    """Runs of one setting together; a seed that is there already begins a group of its own, it is no second seed."""
    groups: dict[tuple[str, int], list[Run]] = {}
    for i, run in enumerate(runs):
        repeats = sum((run.settings, run.seed) == (other.settings, other.seed) for other in runs[:i])
        groups.setdefault((run.settings, repeats), []).append(run)
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


def finish(rows: list[Row], baseline: Row, why: str, missing: list[str], default: Path, asked: Path | None) -> str:
    """Compare, write the three files and return the text to print.

    Raises:
        OSError: they cannot be written into the folder that was asked for.
    """
    out = asked or default
    results = compare_rows(rows, baseline)
    run = baseline.runs[0]
    folds = sorted(run.tiles["fold"].unique())
    partial = ", partial" if any(run.partial for row in rows for run in row.runs) else ""
    head = (
        f"{len(run.tiles)} tiles scored in {len(folds)} fold{'s' * (len(folds) > 1)} "
        f"({', '.join(map(str, folds))}){partial}; differences are to {baseline.label} ({why})"
    )
    varying = "The runs differ in: " + (", ".join(varying_settings(rows)) or "nothing")
    text = "\n\n".join([head, varying, table(results), *(["\n".join(missing)] if missing else []), NOTE])
    try:
        write(out, text, results)
    except OSError as error:  # such as a read-only disk; the table is there all the same
        if asked is not None:
            raise
        return f"{text}\n\nnot written: {error}"
    return f"{text}\n\nwritten in {out}: compare.md, compare.csv, compare.png"


def varying_settings(rows: list[Row]) -> list[str]:
    """The settings that are not the same in all rows; of a chosen option only its group is named."""
    found = [json.loads(row.runs[0].settings) for row in rows]
    keys = dict.fromkeys(key for settings in found for key in settings)
    differing = [key for key in keys if len({json.dumps(s.get(key, "(none)"), default=str) for s in found}) > 1]
    chosen = {key.split(".")[0] for key in differing if key.endswith("._target_") and key.count(".") == 1}
    return list(dict.fromkeys(key.split(".")[0] if key.split(".")[0] in chosen else key for key in differing))


def compare_rows(rows: list[Row], baseline: Row) -> pd.DataFrame:
    """Scores, differences and intervals: the baseline first, then from the best to the worst."""
    differences = np.stack([difference(row, baseline) for row in rows])
    intervals = bootstrap(differences, baseline.runs[0].tiles["fold"].to_numpy())
    lines = []
    for row, change, (low, high) in zip(rows, differences, intervals, strict=True):
        line = {"run": row.label, "score": row.scores.mean(), "difference": change.mean()}
        if row is baseline:
            line |= {"low": np.nan, "high": np.nan, "resolved": ""}
        else:
            line |= {"low": low, "high": high, "resolved": "yes" if low > 0 or high < 0 else "no"}
        lines.append(line | {"seeds": len(row.runs), "others": row is not baseline})
    order = pd.DataFrame(lines).sort_values(["others", "score", "run"], ascending=[True, False, True])
    return order.drop(columns="others").reset_index(drop=True)


def difference(row: Row, baseline: Row) -> NDArray[np.float64]:
    """Each tile's score minus the baseline's, over the seeds that both have; over all, where they share none."""
    common = {run.seed for run in row.runs} & {run.seed for run in baseline.runs}
    pair = [[run for run in r.runs if run.seed in common] or r.runs for r in (row, baseline)]
    return mean_scores(pair[0]) - mean_scores(pair[1])


def bootstrap(
    differences: NDArray[np.float64], folds: NDArray[np.int64], n_resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """Percentile intervals of the mean differences, from the same resampled tiles for all rows; folds keep their size.

    Shape:
        differences R N (rows, tiles), folds N; returns R 2.

    Reference:
        Efron, Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    """
    rng = np.random.default_rng(seed)
    means = [
        draw_counts(rng, folds, min(CHUNK, n_resamples - begin)) @ differences.T / len(folds)
        for begin in range(0, n_resamples, CHUNK)
    ]
    tail = (100 - LEVEL) / 2
    return np.percentile(np.concatenate(means).round(DIGITS), [tail, 100 - tail], axis=0).T


def draw_counts(rng: np.random.Generator, folds: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """How often each tile is in each of `n` resamples (n N); within a fold, tiles are drawn with replacement."""
    counts = np.empty((n, len(folds)))
    for fold in np.unique(folds):
        members = np.flatnonzero(folds == fold)
        size = len(members)
        drawn = rng.integers(size, size=(n, size)) + size * np.arange(n)[:, None]  # resample i counts from i*size on
        counts[:, members] = np.bincount(drawn.ravel(), minlength=n * size).reshape(n, size)
    return counts


def table(results: pd.DataFrame) -> str:
    """The results as a Markdown table that is also readable as it is."""
    cells = [["run", "score", "difference", f"{LEVEL} % interval", "resolved", "seeds"]]
    for row in results.to_dict("records"):
        is_baseline = not row["resolved"]
        interval = "" if is_baseline else f"[{signed(row['low'])}, {signed(row['high'])}]"
        difference = "baseline" if is_baseline else signed(row["difference"])
        label = row["run"].replace("|", "\\|")
        cells.append([label, f"{row['score']:.4f}", difference, interval, row["resolved"], str(row["seeds"])])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(c.ljust(w) for c, w in zip(row, widths, strict=True))} |" for row in cells)


def signed(value: float) -> str:
    """Four digits with their sign; zero is +0.0000."""
    return f"{round(value, 4) + 0.0:+.4f}"


def draw(results: pd.DataFrame) -> bytes:
    """A forest plot as PNG: a row a run, its difference with the interval, filled where it is resolved."""
    n, longest = len(results), results["run"].str.len().max()
    figure = Figure(figsize=(6 + 0.07 * longest, 1.2 + 0.28 * n), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.axvline(0, color="0.6", linewidth=1)
    for y, row in enumerate(results.to_dict("records")):
        if not row["resolved"]:
            axes.plot(0, y, "D", color="0.4", markersize=5)
            continue
        axes.plot([row["low"], row["high"]], [y, y], color="tab:blue", linewidth=1.5)
        face = "tab:blue" if row["resolved"] == "yes" else "white"
        axes.plot(row["difference"], y, "o", markeredgecolor="tab:blue", markerfacecolor=face, markersize=6)
    axes.set_yticks(range(n), results["run"].tolist(), fontsize=9, parse_math=False)
    axes.set_ylim(n - 0.4, -0.6)
    axes.set_xlabel(f"difference in map, {LEVEL} % interval (filled: excludes 0)", fontsize=9)
    axes.tick_params(axis="x", labelsize=9)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    png = BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def write(out: Path, text: str, results: pd.DataFrame) -> None:
    """Write compare.md, compare.csv and compare.png into a folder."""
    picture = draw(results)

    def write_picture(temporary: Path) -> None:
        temporary.write_bytes(picture)

    write_text(out / "compare.md", f"{text}\n")
    write_text(out / "compare.csv", results.to_csv(index=False, lineterminator="\n"))
    write_atomic(out / "compare.png", write_picture)


if __name__ == "__main__":
    main()
