"""The page of a comparison: differences with intervals, score against cost, and where two runs differ."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from salt.comparing.comparison import Comparison, Entry
from salt.comparing.figures import cost_and_score, forest_svg
from salt.data.load import load_data_of_run
from salt.reporting.facts import read_predicted_oof, read_scored_tiles
from salt.reporting.gallery import Gallery, changes_gallery
from salt.reporting.page import gallery_columns, render
from salt.runs.ensemble import first_run
from salt.runs.files import read_json, write_text
from salt.runs.results import FinishedRun
from salt.scoring.bootstrap import LEVEL
from salt.words import plural


def write_comparison_page(folder: Path, comparison: Comparison, texts: dict[str, str | None], root: str | None) -> None:
    """Write compare.html; `texts` are its head, its varying settings and a note."""
    problems: list[str] = []
    entries, results = comparison.entries, comparison.results
    costs = pd.DataFrame([cost_of(entry, problems) for entry in entries]).set_index("run")
    by_label = {entry.label: entry for entry in entries}
    pair = [by_label[label] for label in results["run"] if label in by_label]
    gallery = None
    if len(pair) == 2:
        try:
            gallery = compare_tiles(pair[0].runs[0], pair[1].runs[0], root)
        except (ValueError, OSError) as error:
            problems.append(str(error))
    names = [entry.label for entry in pair]
    page = render(
        "compare.html.j2",
        **texts,
        title=plural(sum(len(entry.runs) for entry in entries), "run"),
        level=LEVEL,
        results=results.merge(costs, how="left", left_on="run", right_index=True).to_dict("records"),
        forest=forest_svg(results),
        costs=cost_and_score(results.merge(costs, left_on="run", right_index=True)),
        missing=comparison.missing,
        problems=problems,
        names=names,
        seeds=any(len(entry.runs) > 1 for entry in pair),
        galleries={"held_out": None, "test": None, "changes": gallery_columns(gallery, names)},
        folds=[{"fold": fold} for fold in np.unique(comparison.baseline.folds).tolist()],
    )
    write_text(folder / "compare.html", page)


def cost_of(entry: Entry, problems: list[str]) -> dict[str, Any]:
    """Return the mean time of a fold, the mean images per second and the most memory; NaN if unknown."""
    folds: list[dict[str, Any]] = []
    for run in entry.runs:
        try:
            folds += read_json(run.path / "score.json", "folds")["folds"]
        except ValueError as error:
            problems.append(str(error))
    how = {"seconds": "mean", "images_per_second": "mean", "memory_gb": "max"}
    return {"run": entry.label, **pd.DataFrame(folds).reindex(columns=[*how]).astype(float).agg(how)}


def compare_tiles(first: FinishedRun, second: FinishedRun, root: str | None) -> Gallery:
    """Return the tiles on which two runs differ most.

    Raises:
        ValueError: the data is missing, or a file of the runs is missing or damaged.
    """
    directory = first_run(first.path)
    data = load_data_of_run(directory, directory.read_config(), root)
    tables, predicted = [], []
    for run in (first, second):
        table = read_scored_tiles(run.path / "oof.csv")
        held_out = read_predicted_oof(run.path, data.train, table)
        order = np.argsort(table["id"].to_numpy())  # the runs may list their tiles in different orders
        predicted.append(
            replace(
                held_out,
                positions=held_out.positions[order],
                probabilities=held_out.probabilities[order],
                salt=[held_out.salt[i] for i in order],
            )
        )
        tables.append(table.iloc[order].reset_index(drop=True))
    return changes_gallery(tables, predicted)
