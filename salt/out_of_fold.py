"""The out-of-fold score of a run: each tile is predicted by the fold that was not trained on it."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from salt.data.places import known_sections
from salt.job import Job
from salt.reporting.sentences import no_better, partial
from salt.runs.files import read_json
from salt.runs.results import write_results
from salt.runs.rundir import how_to_remake
from salt.runs.stacks import Size, Stack, empty_stack, read_probabilities, sizes_of
from salt.scoring.score import score_out_of_fold
from salt.words import plural

log = logging.getLogger(__name__)


def write_scores(job: Job) -> dict[str, Any]:
    """Write oof.npz, oof.csv and score.json from all finished folds, and return the content of score.json.

    `score_out_of_fold` chooses the threshold (0.5, unless another one's gain has an interval above 0) and makes the
    columns of oof.csv.
    """
    config, directory, tiles = job.config, job.directory, job.data.train
    assert tiles.masks is not None
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
    known = known_sections(config.data, tiles.ids)
    sections = None if known is None else known[index]
    result = score_out_of_fold(probabilities, tiles.masks[index], folds, sections, config.data.fold_seed)
    for row in result.summary["folds"]:
        row |= read_timing(directory.fold_path(row["fold"]))
    score = result.summary | {"partial": bool(missing), "missing_folds": missing}
    write_results(directory.path, ids, probabilities, result.table, score)
    log.info(
        "out-of-fold map %.4f (at 0.5: %.4f; all empty: %.4f) over %s, threshold %.2f",
        score["map"],
        score["map_at_0.5"],
        score["map_all_empty"],
        plural(score["n"], "tile"),
        score["threshold"],
    )
    for warning in filter(None, (no_better(score), partial(score))):
        log.warning("%s", warning)
    return score


def read_fold_predictions(folder: Path, ids: list[str], sizes: list[Size]) -> Stack:
    """Return the out-of-fold probabilities (N H W, or N arrays) of a finished fold.

    Raises:
        OSError: its file cannot be read, which says nothing about its content.
        ValueError: its file is missing, damaged or of other tiles.
    """
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
