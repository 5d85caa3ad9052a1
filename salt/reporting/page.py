"""A run's report as one HTML file that needs neither a network nor a server."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import jinja2
import matplotlib as mpl
import numpy as np
import pandas as pd
from numpy.typing import NDArray

import salt
from salt.data.folds import coverage_class
from salt.data.tiles import Dataset
from salt.reporting import figures
from salt.reporting.facts import Facts, read_facts
from salt.reporting.gallery import Gallery, held_out_gallery, test_gallery
from salt.reporting.sentences import (
    about_bias,
    about_gain,
    about_score,
    good_thresholds,
    most_lost,
    no_better,
    partial,
    validations,
)
from salt.runs.files import write_text
from salt.scoring.bootstrap import LEVEL
from salt.scoring.calibration import bias, calibration_error, reliability
from salt.scoring.errors import ERROR_KINDS, NEAR
from salt.scoring.metrics import score_table
from salt.scoring.score import around_best
from salt.words import breakable, duration, percent, plural, signed, span

TEMPLATES = Path(__file__).parent / "templates"
PAGE = "report.html"
SHARP = 0.002  # thresholds whose score is this near to the best are as good


def write_page(path: Path, root: str | None = None, data: Dataset | None = None) -> Facts:
    """Write report.html of a run or a blend, from what lies in its folder and from its data; return what was read.

    Raises:
        ValueError: it has no score of its finished folds.
    """
    facts = read_facts(path, root, data)
    write_text(facts.path / PAGE, render("report.html.j2", **describe(facts)))
    return facts


def render(template: str, **content: Any) -> str:
    """A page from its template; text is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,  # blocks keep the white space around them: it stands between sentences
    )
    environment.filters |= {word.__name__: word for word in (breakable, duration, percent, plural, signed, span)}
    environment.globals |= {"version": salt.__version__, "viridis": viridis(), "near": NEAR}
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # columns stay in their order
    return environment.get_template(template).render(**content)


def viridis() -> list[str]:
    """Red, green and blue of the colours for probabilities, at equal steps from 0 to 1, as SVG's filter wants them."""
    colours = mpl.colormaps["viridis"](np.linspace(0, 1, 17))
    return [" ".join(f"{value:.3f}" for value in colours[:, channel]) for channel in range(3)]


def describe(facts: Facts) -> dict[str, Any]:
    """Return what the template shows."""
    rows, classes = folds(facts), coverage_classes(facts.table)
    held_out = held_out_gallery(facts.table, facts.held_out) if facts.held_out else None
    errors = kinds(held_out) if held_out else None
    test = test_gallery(facts.test) if facts.test and len(facts.test.positions) else None
    return {
        "name": facts.path.resolve().name,
        "facts": facts,
        "score": facts.score,
        "level": LEVEL,
        "folds": rows,
        "seconds": sum(row.get("seconds") or 0 for row in rows) or None,
        "memory": any(row.get("memory_gb") for row in rows),
        "classes": classes,
        "coverage_figure": coverage_figure(classes),
        "kinds": errors,
        "confusion": None if facts.held_out is None else confusion(facts),
        "linked": linked(held_out),
        **by_probability(facts),
        "curves_figures": figures.learning_curves(facts.curves) if facts.curves else [],
        "command": command(facts),
        "said": said(facts, held_out, errors, classes),
        "galleries": {
            "held_out": columns(held_out, mosaic=facts.mosaic),
            "test": columns(test, mosaic=facts.mosaic),
            "changes": None,
        },
    }


def said(
    facts: Facts, held_out: Gallery | None, errors: list[dict[str, Any]] | None, classes: list[dict[str, Any]]
) -> dict[str, str | None]:
    """Return the sentences that depend on the run."""
    worst = {
        key: max(rows, key=lambda row: row["share"]) for key, rows in (("kind", errors), ("class", classes)) if rows
    }
    sampled = held_out is not None and len(held_out.table) < held_out.n_all
    return {
        "score": about_score(facts.score),
        "no_better": no_better(facts.score),
        "partial": partial(facts.score),
        "lost": most_lost(1 - facts.score["map"], worst.get("kind"), worst["class"], sampled),
        "gain": about_gain(facts.score["gains"]["threshold"]),
        "validations": validations(facts.curves) if facts.curves else None,
        "sampled": f"Kinds of error are of the {len(held_out.table):,} tiles in this page, and links show no others."
        if sampled and held_out
        else None,
    }


def linked(gallery: Gallery | None) -> set[str]:
    """Return the addresses within the page that show tiles at least one of which is there."""
    if gallery is None:
        return set()
    table, classes = gallery.table, coverage_class(gallery.table["coverage"].to_numpy())
    pairs = {
        ("some" if c > 0 else "none", "some" if p else "none") for c, p in table[["coverage", "predicted"]].to_numpy()
    }
    return {
        *(f"fold={fold}" for fold in table["fold"]),
        *(f"class={number}" for number in classes),
        *(f"error={quote_plus(kind)}" for kind in table["error"]),
        *(f"truth={truth}&predicted={predicted}" for truth, predicted in pairs),
    }


def folds(facts: Facts) -> list[dict[str, Any]]:
    """The numbers of each fold, with its thresholds, and the share of its tiles that predicting nothing gets right."""
    rows = []
    for row in facts.score["folds"]:
        table = facts.table[facts.table["fold"] == row["fold"]]
        thresholds = ", ".join(f"{value:g}" for value in sorted(table["threshold"].unique()))
        rows.append(row | {"thresholds": thresholds, "all_empty": float((table["coverage"] == 0).mean())})
    return rows


def coverage_classes(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Score and number of the tiles of each class of coverage that has some."""
    number = coverage_class(table["coverage"].to_numpy())
    classes = []
    for i in np.unique(number).tolist():
        rows = table[number == i]
        name = "none" if i == 0 else f"{10 * i - 10}-{10 * i}"
        lost = share_of_loss(table, number == i)
        classes.append({"number": i, "name": name, "n": len(rows), "score": rows["score"].mean(), "share": lost})
    return classes


def coverage_figure(classes: list[dict[str, Any]]) -> str:
    """The bars of the classes of coverage."""
    return figures.coverage_bars(*([row[key] for row in classes] for key in ("name", "score", "n")))


def kinds(gallery: Gallery) -> list[dict[str, Any]]:
    """How many of the shown tiles make each kind of error, and how much of the missing score is lost on them."""
    found = []
    for kind, meaning in ERROR_KINDS.items():
        here = (gallery.table["error"] == kind).to_numpy()
        share = share_of_loss(gallery.table, here)
        found.append({"name": kind, "meaning": meaning, "n": int(here.sum()), "share": share})
    return found


def share_of_loss(table: pd.DataFrame, here: NDArray[np.bool_]) -> float:
    """Of the score that is missing to 1 over all tiles, the share that some of them lose; 0 if none is missing."""
    lost = 1 - table["score"].to_numpy()
    return float(lost[here].sum() / lost.sum()) if lost.sum() else 0.0


def confusion(facts: Facts) -> dict[str, int]:
    """Tiles by whether they have salt and whether some is predicted."""
    assert facts.held_out is not None
    has = facts.table["coverage"].to_numpy() > 0
    says = np.array([mask.any() for mask in facts.held_out.salt])
    pairs = {"none_none": ~has & ~says, "none_some": ~has & says, "some_none": has & ~says, "some_some": has & says}
    return {name: int(cell.sum()) for name, cell in pairs.items()}


def by_probability(facts: Facts) -> dict[str, Any]:
    """The figures that need the probabilities of all tiles: by threshold, and how far they can be believed."""
    if facts.held_out is None:
        return dict.fromkeys(("threshold_figure", "good", "reliability_figure", "calibration_error", "bias"))
    masks = facts.held_out.tiles.masks
    assert masks is not None
    truths = masks[facts.held_out.positions]
    scores = score_table(facts.held_out.probabilities, truths)
    means, of = scores.mean(axis=0), facts.table["fold"].to_numpy()
    by_fold = {int(fold): scores[of == fold].mean(axis=0) for fold in np.unique(of)}
    bins = reliability(facts.held_out.probabilities, truths)
    error = calibration_error(bins)
    return {
        "threshold_figure": figures.threshold_curve(means, by_fold, facts.score["threshold"]),
        "good": good_thresholds(facts.score["threshold"], *around_best(means, SHARP), SHARP),
        "reliability_figure": figures.reliability_diagram(bins, error),
        "calibration_error": error,
        "bias": about_bias(bias(bins, 0.1, 0.9)),
    }


def command(facts: Facts) -> str | None:
    """Return the command that reproduces the run, None if it is not recorded; without local.json it lacks paths."""
    text: str | None = facts.private.get("command") or facts.environment.get("command")
    if text is None:
        return None
    if facts.score["partial"]:
        text += " " + shlex.quote(f"folds=[{','.join(str(row['fold']) for row in facts.score['folds'])}]")
    return text


def columns(
    gallery: Gallery | None, runs: Sequence[str] = (), mosaic: pd.DataFrame | None = None
) -> dict[str, Any] | None:
    """A gallery for the page's script: a list for each column of its table, and the chunks of pictures."""
    if gallery is None:
        return None
    table = gallery.table.round({"coverage": 4, "iou": 4, "unsure": 5, "change": 2})
    lists = {name: table[name].tolist() for name in table.columns}
    if "coverage" in lists:
        lists["class"] = coverage_class(gallery.table["coverage"].to_numpy()).tolist()
    if mosaic is not None:
        places = mosaic.reindex(table["id"])
        for name in ("mosaic", "row", "column"):
            lists[name] = [None if pd.isna(value) else value for value in places[name]]
    sizes = {"n_all": gallery.n_all, "n": len(table), "side": gallery.side}
    return {"columns": lists, "chunks": gallery.chunks, "runs": list(runs), **sizes}
