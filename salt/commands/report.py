"""The command `salt-report RUN`: what a run scored and wrote, in words and as a page."""

from pathlib import Path
from typing import Any

import pandas as pd

from salt.commands.common import make_parser, messages
from salt.reporting.figures import draw_distances, write_picture, write_png
from salt.reporting.page import REPORT, command, write_report_page
from salt.reporting.sentences import remarks_on
from salt.runs.ensemble import read_ensemble
from salt.runs.files import write_text
from salt.runs.results import check_scored
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


def main() -> None:
    """Print the report, and write RUN/report.html and report.png."""
    with messages("salt-report"):
        description = "Print what a run scored and wrote. Writes RUN/report.html and report.png."
        parser = make_parser("salt-report", description, "run", "--root")
        truth = "data=segy: SEG-Y of 0, salt, unknown as in masks; writes the IoU of other lines (truth.csv, truth.png)"
        parser.add_argument("--truth", type=Path, metavar="FILE", help=truth)
        parser.add_argument("--most", type=int, metavar="N", default=100, help="lines to compare (default: 100)")
        arguments = parser.parse_args()
        if arguments.truth is None:
            report(arguments.run, arguments.root)
        else:
            report_truth(arguments.run, arguments.truth, arguments.root, arguments.most)


def report(path: Path, root: str | None) -> None:
    """Print scores and files of a run; write its page and, with its data, its picture. Without a score: ValueError."""
    score = read_ensemble(path).score
    check_scored(path, score)
    print_scores(score)
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


def report_truth(path: Path, truth: Path, root: str | None, most: int) -> None:
    """Predict lines without a label, and write and print their IoU by the distance to the nearest interpreted line."""
    import salt
    from salt.inference.truth import by_distance, score_truth

    model = salt.load(path, engine="auto")
    table = score_truth(model, truth, root, most)
    write_text(path / "truth.csv", table.to_csv(index=False, lineterminator="\n"))
    write_png(path / "truth.png", draw_distances(table))
    print(by_distance(table).round(3).to_string(index=False))
    print(f"\nIoU of {len(table)} inlines without a label: {path / 'truth.csv'}, {path / 'truth.png'}")


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
    for warning in remarks_on(score):
        print(f"  {warning}")


if __name__ == "__main__":
    main()
