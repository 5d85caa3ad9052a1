"""Comparisons of runs as a table, a picture and a page."""

import textwrap
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from salt.comparing.comparison import (
    TILES_ONLY,
    Comparison,
    choose_baseline,
    read_entries,
    varying_settings,
    without_seed,
)
from salt.comparing.page import forest_png, write_comparison_page
from salt.runs.files import write_atomic, write_text
from salt.runs.results import failure_reason, find_points, in_multirun, points_in_order
from salt.scoring.bootstrap import LEVEL, RESAMPLES
from salt.words import plural, signed

WIDTH = 110  # of the text below the table


def compare(
    paths: list[Path], baseline: str | None, out: Path | None, root: str | None = None, across_folds: bool = False
) -> str:
    """Compare runs, or the points of one sweep's folder, and return the text; raise ValueError if they do not match."""
    if len(paths) == 1 and find_points(paths[0]):
        return compare_sweep(paths[0], baseline, out, root=root, across_folds=across_folds)
    places = [path.resolve() for path in paths]
    twice = [str(path) for path, place in zip(paths, places, strict=True) if places.count(place) > 1]
    if twice:
        raise ValueError(f"one run is given more than once: {', '.join(twice)}")
    entries = read_entries(paths, across_folds)
    return write_comparison(Comparison(entries, *choose_baseline(entries, baseline, None, None), []), out, None, root)


def compare_sweep(
    folder: Path,
    baseline: str | None,
    out: Path | None = None,
    failed: Collection[str] = (),
    root: str | None = None,
    across_folds: bool = False,
) -> str:
    """Compare the finished points of a sweep, without those in `failed`, list the others, and return the text."""
    order = points_in_order(folder)
    points = sorted(find_points(folder), key=lambda point: [*order, point.name].index(point.name))
    if not points:
        raise ValueError(f"{folder} holds no runs")
    scored = [point for point in points if (point / "score.json").is_file() and point.name not in failed]
    missing = [f"- no score: {point.name}{failure_reason(point)}" for point in points if point not in scored]
    if not scored:
        raise ValueError(f"{folder} holds no run with a score\n" + "\n".join(missing))
    entries = read_entries(scored, across_folds)
    first = without_seed(folder / order[0]) if order else None
    of_sweep = in_multirun(folder, "callbacks", "sweep", "baseline")
    chosen = choose_baseline(entries, baseline, of_sweep and str(of_sweep), first)
    return write_comparison(Comparison(entries, *chosen, missing), out, folder, root)


def write_comparison(comparison: Comparison, out: Path | None, sweep: Path | None, root: str | None) -> str:
    """Write the files into `out`, the sweep's or the current folder, and return the text to print."""
    results, folder = comparison.results, out or sweep or Path()
    head, note = describe_tiles(comparison), describe_intervals(comparison)
    differing = ", ".join(varying_settings(comparison.entries)) or "nothing"
    varying = f"The runs differ in: {differing}" if len(comparison.entries) > 1 else None
    filled = textwrap.fill(note, WIDTH, break_on_hyphens=False)
    parts = [head, varying, format_table(results), "\n".join(comparison.missing), filled]
    text = "\n\n".join(filter(None, parts))
    try:
        write_text(folder / "compare.md", f"{text}\n")
        write_text(folder / "compare.csv", results.to_csv(index=False, lineterminator="\n"))
        picture = forest_png(results)
        write_atomic(folder / "compare.png", lambda temporary: temporary.write_bytes(picture))
        write_comparison_page(folder, comparison, {"head": head, "varying": varying, "note": note}, root)
    except OSError as error:  # such as a read-only disk
        if out is not None:
            raise
        return f"{text}\n\nnot written: {error}"
    return f"{text}\n\nwritten in {folder}: compare.html, compare.md, compare.csv, compare.png"


def describe_tiles(comparison: Comparison) -> str:
    """Return how many tiles were scored in which folds, and what the baseline is."""
    runs = [run for entry in comparison.entries for run in entry.runs]
    folds = sorted(set(comparison.baseline.folds))
    divided = f"{plural(len(folds), 'fold')} ({', '.join(map(str, folds))})"
    if comparison.folds_differ:
        divided = "folds that differ from run to run"
    partial = ", partial" if any(run.partial for run in runs) else ""
    return (
        f"{plural(len(runs[0].tiles), 'tile')} scored in {divided}{partial}; "
        f"differences are to {comparison.baseline.label} ({comparison.why})"
    )


def describe_intervals(comparison: Comparison) -> str:
    """Return what the intervals cover, and what the verdicts mean."""
    results, sections = comparison.results, comparison.sections is not None
    covers_seeds = results["interval_over"].str.endswith("seeds")
    all_seeds = covers_seeds[results["resolved"] != ""].all()
    drawn = "whole sections of tiles" if sections else f"the tiles{' of each fold' * (not comparison.folds_differ)}"
    text = f"The {LEVEL} % interval covers which tiles were drawn (paired bootstrap of {drawn}, {RESAMPLES:,} times)"
    if all_seeds:
        text += " and how training varies from seed to seed (docs/trust.md)."
    elif covers_seeds.any():
        text += ", and how training varies from seed to seed if both rows have several seeds (docs/trust.md)."
    else:
        text += ", not how training varies from seed to seed."
    text += " resolved: yes if it excludes 0, else no."
    if not all_seeds:
        text += (
            f' It is "{TILES_ONLY}" if it excludes 0, but one row has a single seed: then training may be the reason. '
            "Runs of one setting differed by up to 0.007 (docs/recipes.md); smaller effects need several seeds."
        )
    if not sections:
        text += " It does not cover that neighbouring tiles are alike."
    if (results["seeds"] > 1).any():
        text += (
            " After several seeds, in brackets: the standard deviation of their scores. A score is the mean over all "
            "seeds. A difference is over the seeds that both rows have, or over all if they share none."
        )
    chance = "about one" if all_seeds else "more than one"
    text += f" Of 20 rows that do not truly differ, {chance} excludes 0 by chance."
    return f"{text} A lucky baseline shifts all rows at once."


def format_table(results: pd.DataFrame) -> str:
    """Return the results as an aligned Markdown table."""
    cells = [["run", "score", "difference", f"{LEVEL} % interval", "resolved", "seeds"]]
    for row in results.to_dict("records"):
        is_baseline = not row["resolved"]
        interval = "" if is_baseline else f"[{signed(row['low'])}, {signed(row['high'])}]"
        difference = "baseline" if is_baseline else signed(row["difference"])
        seeds = str(row["seeds"] or "") + (f" ({row['seed_spread']:.4f})" if row["seeds"] > 1 else "")
        label = row["run"].replace("|", "\\|")
        cells.append([label, f"{row['score']:.4f}", difference, interval, row["resolved"], seeds])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(map(str.ljust, row, widths))} |" for row in cells)
