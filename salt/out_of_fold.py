"""The out-of-fold score of a run: each tile is predicted by the fold that was not trained on it."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salt.data.folds import known_sections
from salt.data.lines import distances
from salt.job import Job
from salt.reporting.sentences import remarks_on
from salt.runs.files import read_json, write_json
from salt.runs.results import write_results
from salt.runs.rundir import RunDir, how_to_remake
from salt.runs.stacks import Size, Stack, empty_stack, read_probabilities, sizes_of
from salt.scoring.score import not_scored, score_out_of_fold
from salt.words import plural

log = logging.getLogger(__name__)


def write_scores(job: Job) -> dict[str, Any]:
    """Write oof.npz, oof.csv and score.json from all finished folds, and return the content of score.json."""
    config, directory, tiles = job.config, job.directory, job.data.train
    assert tiles.masks is not None
    if config.data.n_folds == 1:
        return write_no_score(directory)
    done = directory.done_folds(config.data.n_folds)
    missing = sorted(set(range(config.data.n_folds)) - set(done))
    index = np.concatenate([job.held_out(fold) for fold in done])  # of all scored tiles, fold after fold
    ids, folds = np.array([tiles.ids[i] for i in index]), job.folds[index]
    probabilities = empty_stack(sizes_of(tiles.masks[index]), np.float16)
    for fold in done:
        here = np.flatnonzero(folds == fold)
        sizes = sizes_of(probabilities[here])
        probabilities[here] = read_fold_predictions(directory.fold_path(fold), ids[here].tolist(), sizes)
    tiles.empty_unseen(probabilities, index, config.data.constant_tiles)
    numbers = known_sections(config.data, tiles.ids)
    sections = None if numbers is None else numbers[index]
    masks, known = tiles.masks[index], tiles.known_at(index)
    result = score_out_of_fold(probabilities, masks, folds, sections, seed=config.data.fold_seed, known=known)
    for row in result.summary["folds"]:
        row |= read_timing(directory.fold_path(row["fold"]))
    score = result.summary | {"partial": bool(missing), "missing_folds": missing}
    if tiles.lines is not None:
        score["line_distance"] = summarise_distances(distances(tiles.lines, job.folds, config.data.gap)[index])
    write_results(directory.path, ids, probabilities, result.table, score)
    log.info(
        "out-of-fold map %.4f (at 0.5: %.4f; all empty: %.4f) over %s, threshold %.2f",
        *(score["map"], score["map_at_0.5"], score["map_all_empty"], plural(score["n"], "tile"), score["threshold"]),
    )
    for warning in remarks_on(score):
        log.warning("%s", warning)
    return score


def summarise_distances(apart: NDArray[np.float64]) -> dict[str, float] | None:
    """Return the least and the median distance of held-out lines to the nearest that trained, in line numbers."""
    finite = apart[np.isfinite(apart)]
    return {"least": float(finite.min()), "median": float(np.median(finite))} if finite.size else None


def write_no_score(directory: RunDir) -> dict[str, Any]:
    """Write the score.json of a run that trained on all tiles, and return its content."""
    score = not_scored() | {"partial": False, "missing_folds": []}
    score["folds"][0] |= read_timing(directory.fold_path(0))
    write_json(directory.path / "score.json", score)
    log.info("no score: data.n_folds=1 trains on all images and holds none out; the threshold is 0.5")
    return score


def read_fold_predictions(folder: Path, ids: list[str], sizes: list[Size]) -> Stack:
    """Return the out-of-fold probabilities of a finished fold; raise OSError if unreadable, ValueError if damaged."""
    file = folder / "oof.npz"
    try:
        found, probabilities = read_probabilities(file)
    except ValueError as error:
        raise ValueError(f"{error}. {how_to_remake(file)}") from None
    if found != ids or sizes_of(probabilities) != sizes:
        raise ValueError(f"{file} is damaged: it holds other tiles than those of this fold. {how_to_remake(file)}")
    return probabilities


def read_timing(folder: Path) -> dict[str, Any]:
    """Return epochs, seconds and memory of a finished fold; None for each if the file is lost."""
    keys = ("epochs", "seconds", "images_per_second", "memory_gb")
    try:
        return read_json(folder / "timing.json", *keys)
    except ValueError as error:
        log.warning("%s; score.json has no times of this fold", error)
        return dict.fromkeys(keys)
