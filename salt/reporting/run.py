"""What a run scored and wrote, on the terminal."""

from pathlib import Path
from typing import Any

import pandas as pd

from salt.reporting.page import REPORT, command, write_report_page
from salt.reporting.pictures import write_picture
from salt.reporting.sentences import no_better, partial
from salt.runs.ensemble import read_ensemble
from salt.words import plural

FILES = {
    "score.json": "scores of the run and of each fold",
    "oof.csv": "every training tile: fold, coverage, IoU, score, threshold",
    "oof.npz": "its probabilities from the fold that did not see it",
    "submission.csv": "the Kaggle submission",
    "test.npz": "probabilities of the test tiles, 255 times as large and rounded",
    "report.html": "the page to look at: curves, figures, every tile; open it in a browser",
    "report.png": "tile, truth, probability and prediction of a few tiles",
    "folds.csv": "which tile is validated in which fold",
    "config.yaml": "all settings",
    "environment.json": "commit, versions, machine, threads: what the bytes depend on",
    "local.json": "paths and names of this machine, not to be shared",
    "train.log": "log",
    "blend.json": "the runs that are averaged, with their weights",
    "fold_*": "model.safetensors, metrics.csv, metrics.png (learning curves), oof.npz, timing.json",
}


def report(path: Path, root: str | None) -> None:
    """Print scores and files of the run in `path`; write its page and, with its data, its picture.

    Raises:
        ValueError: it is no run with a score of its finished folds.
    """
    print_scores(read_ensemble(path).score)
    try:
        facts = write_report_page(path, root)
        if command(facts):
            print(f"\nthe command that reproduces this run:\n  {command(facts)}")
        for problem in facts.problems:
            print(f"\n{REPORT} lacks a part: {problem}")
        if facts.held_out is not None:
            write_picture(facts)
    except OSError as error:  # such as a read-only disk; the numbers are printed anyway
        print(f"\nnot written: {error}")
    print(f"\nwritten in {path}:")
    for name, meaning in FILES.items():
        if list(path.glob(name)):
            print(f"  {name:<18}{meaning}")


def print_scores(score: dict[str, Any]) -> None:
    """Print the numbers of score.json as a small table."""
    whole = {key: score.get(key) for key in ("map", "map_at_0.5", "iou", "n")}
    nothing = {"map": score["map_all_empty"], "map_at_0.5": score["map_all_empty"], "iou": 0.0, "n": score["n"]}
    rows = pd.DataFrame([*score["folds"], {"fold": "together"} | whole, {"fold": "all empty"} | nothing])
    rows = rows.set_index("fold").round(4).convert_dtypes().astype(object)
    print(rows.where(rows.notna(), "").to_string())
    chosen = "; each tile at one chosen on others" if score["gains"]["threshold"]["used"] else ""
    tiles, threshold = plural(score["n"], "tile"), f"{score['threshold']:g}{chosen}"
    print(f"\nout-of-fold map {score['map']:.4f} over {tiles} (threshold {threshold})")
    for warning in filter(None, (no_better(score), partial(score))):
        print(f"  {warning}")
