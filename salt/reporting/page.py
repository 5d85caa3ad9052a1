"""A run's report as one HTML file that needs neither a network nor a server."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
import numpy as np
import pandas as pd
from numpy.typing import NDArray

import salt
from salt.data.folds import coverage_class
from salt.data.tiles import Dataset
from salt.reporting import figures, sentences
from salt.reporting.facts import Facts, read_facts
from salt.reporting.gallery import Gallery, held_out_gallery, test_gallery
from salt.runs.files import write_text
from salt.scoring.bootstrap import LEVEL
from salt.scoring.errors import ERROR_KINDS, NEAR, bias, calibration_error, reliability
from salt.scoring.metrics import score_table
from salt.scoring.score import around_best
from salt.words import breakable, duration, percent, plural, signed, span

TEMPLATES = Path(__file__).parent / "templates"
REPORT = "report.html"
PANELS = (("loss", "training loss"), ("lr", "learning rate"), ("map_at_0.5", "validation map at 0.5"))
SHARP = 0.002  # a threshold is as good as the best one if its score is this near


def write_report_page(path: Path, root: str | None = None, data: Dataset | None = None) -> Facts:
    """Write report.html of a run or a blend, and return what was read; raise ValueError if it has no score."""
    facts = read_facts(path, root, data)
    write_text(facts.path / REPORT, render("report.html.j2", **page_content(facts)))
    return facts


def render(template: str, **content: Any) -> str:
    """Return a page from its template; text is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,  # blocks keep the white space around them: it separates sentences
    )
    environment.filters |= {word.__name__: word for word in (breakable, duration, percent, plural, signed, span)}
    environment.globals |= {"version": salt.__version__, "viridis": viridis(), "near": NEAR}
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # columns stay in their order
    return environment.get_template(template).render(**content)


def viridis() -> list[str]:
    """Return red, green and blue of the colours for probabilities, in 17 steps from 0 to 1, for a filter of SVG."""
    colours = mpl.colormaps["viridis"](np.linspace(0, 1, 17))
    return [" ".join(f"{value:.3f}" for value in colours[:, channel]) for channel in range(3)]


def page_content(facts: Facts) -> dict[str, Any]:
    """Return the content of the template."""
    score, folds, classes = facts.score, fold_rows(facts), coverage_rows(facts.table)
    held_out = held_out_gallery(facts.table, facts.held_out) if facts.held_out else None
    test = test_gallery(facts.test) if facts.test and len(facts.test.positions) else None
    return {
        "name": facts.path.resolve().name,
        "facts": facts,
        "score": score,
        "level": LEVEL,
        "about_score": sentences.about_score(score),
        "warnings": sentences.remarks_on(score),
        "folds": folds,
        "seconds": sum(row.get("seconds") or 0 for row in folds) or None,
        "memory": any(row.get("memory_gb") for row in folds),
        "classes": classes,
        "coverage_figure": figures.coverage_bars(*([row[key] for row in classes] for key in ("name", "score", "n"))),
        "kinds": error_rows(held_out) if held_out else None,
        "confusion": confusion(facts) if facts.held_out else None,
        **probability_content(facts),
        "curves_figures": [figures.learning_curve(facts.curves, *panel) for panel in PANELS if facts.curves],
        "command": command(facts),
        "galleries": {
            "held_out": gallery_columns(held_out, mosaic=facts.mosaic),
            "test": gallery_columns(test, mosaic=facts.mosaic),
            "changes": None,
        },
    }


def fold_rows(facts: Facts) -> list[dict[str, Any]]:
    """Return the numbers of each fold, with its thresholds and the score of predicting nothing."""
    rows = []
    for row in facts.score["folds"]:
        table = facts.table[facts.table["fold"] == row["fold"]]
        thresholds = ", ".join(f"{value:g}" for value in sorted(table["threshold"].unique()))
        rows.append(row | {"thresholds": thresholds, "all_empty": float((table["coverage"] == 0).mean())})
    return rows


def coverage_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return score and number of the tiles of each class of coverage that has some."""
    number = coverage_class(table["coverage"].to_numpy())
    classes = []
    for i in np.unique(number).tolist():
        rows = table[number == i]
        name = "none" if i == 0 else f"{10 * i - 10}-{10 * i}"
        share = share_of_loss(table, number == i)
        classes.append({"number": i, "name": name, "n": len(rows), "score": rows["score"].mean(), "share": share})
    return classes


def error_rows(gallery: Gallery) -> list[dict[str, Any]]:
    """Return how many tiles of the page make each kind of error, and the share of the loss on them."""
    found = []
    for kind, meaning in ERROR_KINDS.items():
        here = (gallery.table["error"] == kind).to_numpy()
        share = share_of_loss(gallery.table, here)
        found.append({"name": kind, "meaning": meaning, "n": int(here.sum()), "share": share})
    return found


def share_of_loss(table: pd.DataFrame, here: NDArray[np.bool_]) -> float:
    """Return the share of the missing score (to 1, over all tiles) that is lost on some tiles; 0 if none is missing."""
    lost = 1 - table["score"].to_numpy()
    return float(lost[here].sum() / lost.sum()) if lost.sum() else 0.0


def confusion(facts: Facts) -> dict[str, int]:
    """Count tiles by whether they have salt and whether some is predicted."""
    assert facts.held_out is not None
    has = facts.table["coverage"].to_numpy() > 0
    found = np.array([facts.held_out.known_salt(i).any() for i in range(len(has))])
    cells = {"none_none": ~has & ~found, "none_some": ~has & found, "some_none": has & ~found, "some_some": has & found}
    return {name: int(cell.sum()) for name, cell in cells.items()}


def probability_content(facts: Facts) -> dict[str, Any]:
    """Return what needs the probabilities of all tiles: score by threshold, and calibration."""
    if facts.held_out is None:
        return {"threshold_figure": None}
    masks = facts.held_out.tiles.masks
    assert masks is not None
    truths, known = masks[facts.held_out.positions], facts.held_out.known
    scores, fold = score_table(facts.held_out.probabilities, truths, known), facts.table["fold"].to_numpy()
    means, used = scores.mean(axis=0), facts.score["threshold"]
    by_fold = {int(number): scores[fold == number].mean(axis=0) for number in np.unique(fold)}
    bins = reliability(facts.held_out.probabilities, truths, known)
    error = calibration_error(bins)
    return {
        "threshold_figure": figures.threshold_curve(means, by_fold, used),
        "about_threshold": sentences.about_threshold(used, *around_best(means, SHARP), SHARP),
        "about_gain": sentences.about_gain(facts.score["gains"]["threshold"]),
        "reliability_figure": figures.reliability_diagram(bins, error),
        "calibration_error": error,
        "about_bias": sentences.about_bias(bias(bins, 0.1, 0.9)),
    }


def command(facts: Facts) -> str | None:
    """Return the command that reproduces the run, None if it is not recorded; without local.json it lacks paths."""
    text: str | None = facts.private.get("command") or facts.environment.get("command")
    if text is not None and facts.score["partial"]:
        text += " " + shlex.quote(f"folds=[{','.join(str(row['fold']) for row in facts.score['folds'])}]")
    return text


def gallery_columns(
    gallery: Gallery | None, runs: Sequence[str] = (), mosaic: pd.DataFrame | None = None
) -> dict[str, Any] | None:
    """Return a gallery for the page's script: a list for each column of its table, and the chunks of pictures."""
    if gallery is None:
        return None
    table = gallery.table.round({"coverage": 4, "iou": 4, "unsure": 5, "change": 2})
    lists = {name: table[name].tolist() for name in table.columns}
    lists["class"] = coverage_class(gallery.table["coverage"].to_numpy()).tolist()
    if mosaic is not None:
        places = mosaic.reindex(table["id"])
        for name in ("mosaic", "row", "column"):
            lists[name] = [None if pd.isna(value) else value for value in places[name]]
    sizes = {"n_all": gallery.n_all, "n": len(table), "side": gallery.side}
    return {"columns": lists, "chunks": gallery.chunks, "runs": list(runs), **sizes}
