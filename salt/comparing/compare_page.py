"""The page of a comparison: differences with intervals, cost beside score, and where two runs differ."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from salt.comparing import forest
from salt.comparing.comparison import Row
from salt.comparing.sentences import about_comparison, runs_differ_in
from salt.data.load import load_data_of_run
from salt.reporting.facts import read_predicted_oof, read_scored_tiles
from salt.reporting.gallery import Gallery, changes_gallery
from salt.reporting.page import gallery_columns, render
from salt.runs.ensemble import first_run
from salt.runs.files import read_json, write_text
from salt.runs.results import Run
from salt.scoring.bootstrap import LEVEL
from salt.words import plural

PAGE = "compare.html"


def write_page(
    out: Path, rows: Sequence[Row], results: pd.DataFrame, head: str, missing: Sequence[str], root: str | None
) -> None:
    """Write compare.html into a folder; `results` begins with the baseline, `missing` are the runs without a score."""
    problems: list[str] = []
    costs = pd.DataFrame([cost(row, problems) for row in rows]).set_index("run")
    pair = [next(row for row in rows if row.label == label) for label in results["run"] if label in costs.index]
    gallery, names = None, [row.label for row in pair]
    if len(pair) == 2:
        try:
            gallery = changes(pair[0].runs[0], pair[1].runs[0], root)
        except (ValueError, OSError) as error:
            problems.append(str(error))
    page = render(
        "compare.html.j2",
        title=plural(sum(len(row.runs) for row in rows), "run"),
        head=head,
        varying=runs_differ_in(rows),
        level=LEVEL,
        note=about_comparison(rows, results),
        results=results.merge(costs, how="left", left_on="run", right_index=True).to_dict("records"),
        forest=forest.forest(results),
        costs=forest.cost_and_score(results.merge(costs, left_on="run", right_index=True)),
        missing=list(missing),
        problems=problems,
        names=names,
        seeds=any(len(row.runs) > 1 for row in pair),
        galleries={"held_out": None, "test": None, "changes": gallery_columns(gallery, names)},
        folds=[{"fold": fold} for fold in sorted(rows[0].runs[0].tiles["fold"].unique().tolist())],
    )
    write_text(out / PAGE, page)


def cost(row: Row, problems: list[str]) -> dict[str, Any]:
    """Mean time of a fold and images per second of the runs of a row, and the most memory, where they are told."""
    folds: list[dict[str, Any]] = []
    for run in row.runs:
        try:
            folds += read_json(run.path / "score.json", "folds")["folds"]
        except ValueError as error:
            problems.append(str(error))
    told = pd.DataFrame(folds).reindex(columns=["seconds", "images_per_second", "memory_gb"]).astype(float)
    return {
        "run": row.label,
        "seconds": told["seconds"].mean(),
        "images_per_second": told["images_per_second"].mean(),
        "memory_gb": told["memory_gb"].max(),
    }


def changes(first: Run, second: Run, root: str | None) -> Gallery:
    """The tiles on which two runs differ most.

    Raises:
        ValueError: the data is not at hand, or a file of the runs is missing or damaged.
    """
    directory = first_run(first.path)
    data = load_data_of_run(directory, directory.read_config(), root)
    tables, predicted = [], []
    for run in (first, second):
        table = read_scored_tiles(run.path / "oof.csv")
        held_out = read_predicted_oof(run.path, data.train, table)
        order = np.argsort(table["id"].to_numpy())  # the runs may have their tiles in another one
        salt = [held_out.salt[i] for i in order]
        positions, probabilities = held_out.positions[order], held_out.probabilities[order]
        predicted.append(replace(held_out, positions=positions, probabilities=probabilities, salt=salt))
        tables.append(table.iloc[order].reset_index(drop=True))
    return changes_gallery(tables, predicted)
