"""The table and the picture of several runs."""

import textwrap
from collections.abc import Collection
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from salt.comparing.compare_page import write_page
from salt.comparing.comparison import (
    ALL_EMPTY,
    Row,
    choose_baseline,
    compare_rows,
    folds_differ,
    read_rows,
    without_seed,
)
from salt.comparing.forest import draw_forest
from salt.comparing.sentences import about_comparison, runs_differ_in
from salt.runs.files import write_atomic, write_text
from salt.runs.results import failure_reason, find_points, points_in_order, sweep_baseline
from salt.scoring.bootstrap import LEVEL
from salt.words import plural, signed

WIDTH = 110  # of the text below the table


def compare(
    paths: list[Path], baseline: str | None, out: Path | None, root: str | None = None, across_folds: bool = False
) -> str:
    """Compare the given runs, or those of one sweep's folder; returns the text to print.

    `root` is the data's folder, where it is not at the place that the runs were trained from. With `across_folds` the
    runs may divide the tiles into other folds.

    Raises:
        ValueError: a path is no finished run, the runs scored different tiles or folds, or the baseline is unknown.
    """
    if len(paths) == 1 and find_points(paths[0]):
        return compare_sweep(paths[0], baseline, out, root=root, across_folds=across_folds)
    places = [path.resolve() for path in paths]
    twice = [str(path) for path, place in zip(paths, places, strict=True) if places.count(place) > 1]
    if twice:
        raise ValueError(f"one run is given more than once: {', '.join(twice)}")
    rows = read_rows(paths, across_folds)
    return finish(rows, *choose_baseline(rows, baseline, None, None), [], Path(), out, root)


def compare_sweep(
    folder: Path,
    baseline: str | None,
    out: Path | None = None,
    failed: Collection[str] = (),
    root: str | None = None,
    across_folds: bool = False,
) -> str:
    """Compare the finished runs of a sweep, list the others, write the files; returns the text to print.

    The points named in `failed` are listed with the others even if they have a score, of an earlier command.

    Raises:
        ValueError: no run has a score, the runs scored different tiles or folds, or the baseline is unknown.
    """
    order = points_in_order(folder)
    points = sorted(
        find_points(folder), key=lambda point: order.index(point.name) if point.name in order else len(order)
    )
    if not points:
        raise ValueError(f"{folder} holds no runs")
    scored = [point for point in points if (point / "score.json").is_file() and point.name not in failed]
    missing = [f"- no score: {point.name}{failure_reason(point)}" for point in points if point not in scored]
    if not scored:
        raise ValueError(f"{folder} holds no run with a score\n" + "\n".join(missing))
    rows = read_rows(scored, across_folds)
    first = without_seed(folder / order[0]) if order else None
    return finish(rows, *choose_baseline(rows, baseline, sweep_baseline(folder), first), missing, folder, out, root)


def finish(
    rows: list[Row],
    baseline: Row,
    why: str,
    missing: list[str],
    default: Path,
    asked: Path | None,
    root: str | None,
) -> str:
    """Compare, write the files and return the text to print.

    Raises:
        OSError: they cannot be written into the folder that was asked for.
    """
    out = asked or default
    results = compare_rows(rows, baseline)
    run = baseline.runs[0]
    folds = sorted(run.tiles["fold"].unique())
    partial = ", partial" if any(run.partial for row in rows for run in row.runs) else ""
    divided = f"{plural(len(folds), 'fold')} ({', '.join(map(str, folds))})"
    if folds_differ(rows):
        divided = "folds that differ from run to run"
    scored = f"{plural(len(run.tiles), 'tile')} scored in {divided}{partial}"
    head = f"{scored}; differences are to {baseline.label} ({why})"
    note = textwrap.fill(about_comparison(rows, results), WIDTH, break_on_hyphens=False)
    text = "\n\n".join(filter(None, [head, runs_differ_in(rows), table(results), "\n".join(missing), note]))
    try:
        write(out, text, results)
        write_page(out, rows, results, head, missing, root)
    except OSError as error:  # such as a read-only disk; the table is there all the same
        if asked is not None:
            raise
        return f"{text}\n\nnot written: {error}"
    return f"{text}\n\nwritten in {out}: compare.html, compare.md, compare.csv, compare.png"


def table(results: pd.DataFrame) -> str:
    """The results as a Markdown table that is also readable as it is."""
    cells = [["run", "score", "difference", f"{LEVEL} % interval", "resolved", "seeds"]]
    for row in results.to_dict("records"):
        is_baseline = not row["resolved"]
        interval = "" if is_baseline else f"[{signed(row['low'])}, {signed(row['high'])}]"
        difference = "baseline" if is_baseline else signed(row["difference"])
        label = row["run"].replace("|", "\\|")
        cells.append([label, f"{row['score']:.4f}", difference, interval, row["resolved"], seeds_in_words(row)])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(c.ljust(w) for c, w in zip(row, widths, strict=True))} |" for row in cells)


def seeds_in_words(row: dict[Any, Any]) -> str:
    """The number of seeds of a row, with the spread of their scores where there are several."""
    return str(row["seeds"] or "") + (f" ({row['seed_spread']:.4f})" if row["seeds"] > 1 else "")


def draw(results: pd.DataFrame) -> bytes:
    """The forest plot of the differences as PNG."""
    n, longest = len(results) - (results["run"] == ALL_EMPTY).sum(), results["run"].str.len().max()
    figure = Figure(figsize=(6 + 0.07 * longest, 1.2 + 0.28 * n), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    draw_forest(axes, results, "0.4", "tab:blue")
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
