"""The out-of-fold score of a run: the predictions of all its finished folds, each for the tiles it did not see."""

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
from salt.runs.stacks import Size, Stack, empty_stack, load_stack, sizes_of
from salt.scoring.score import score_out_of_fold
from salt.words import plural

log = logging.getLogger(__name__)


def write_scores(job: Job) -> dict[str, Any]:
    """Write oof.npz, oof.csv and score.json from all finished folds, and return the content of score.json."""
    config, directory, tiles, folds = job.config, job.directory, job.data.train, job.folds
    assert tiles.masks is not None
    done = directory.done_folds(config.data.n_folds)
    missing = sorted(set(range(config.data.n_folds)) - set(done))
    index = np.concatenate([np.flatnonzero(folds == fold) for fold in done])
    ids = np.array([tiles.ids[i] for i in index])
    probabilities = empty_stack(sizes_of(tiles.masks[index]), np.float16)
    for fold in done:
        here = np.flatnonzero(folds[index] == fold)
        probabilities[here] = read_held_out(directory.fold(fold), ids[here].tolist(), sizes_of(probabilities[here]))
    tiles.empty_unseen(probabilities, index, config.data.constant_tiles)
    known, seed = known_sections(config.data, tiles.ids), config.data.fold_seed
    sections = None if known is None else known[index]
    result = score_out_of_fold(probabilities, tiles.masks[index], folds[index], sections, seed)
    for row in result.summary["folds"]:
        row |= read_timing(directory.fold(row["fold"]))
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


def read_held_out(fold: Path, ids: list[str], sizes: list[Size]) -> Stack:
    """The out-of-fold probabilities (N H W, or N arrays) of a finished fold.

    Raises:
        OSError: its file cannot be read, which says nothing about its content.
        ValueError: its file is missing, damaged or of other tiles.
    """
    file = fold / "oof.npz"
    if not file.exists():
        raise ValueError(f"{file} is missing. {how_to_remake(file)}")
    content = file.read_bytes()
    try:
        found, probabilities = load_stack(content, "probabilities")
    except ValueError as error:
        raise ValueError(f"{file} is damaged: {error}. {how_to_remake(file)}") from None
    if found != ids or sizes_of(probabilities) != sizes:
        raise ValueError(f"{file} is damaged: it holds other tiles than those of this fold. {how_to_remake(file)}")
    return probabilities


def read_timing(fold: Path) -> dict[str, Any]:
    """Return epochs, seconds and memory of a finished fold; None if their file is lost: nothing else needs them."""
    keys = ("epochs", "seconds", "images_per_second", "memory_gb")
    try:
        return read_json(fold / "timing.json", *keys)
    except ValueError as error:
        log.warning("%s; score.json tells no times of this fold", error)
        return dict.fromkeys(keys)
