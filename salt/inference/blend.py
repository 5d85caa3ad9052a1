"""Weights for the mean of several runs' probabilities, chosen on tiles that no network saw."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from tqdm.auto import tqdm

from salt.runs.ensemble import Member
from salt.runs.files import read_json
from salt.runs.stacks import Stack, empty_stack, read_probabilities, sizes_of
from salt.scoring.metrics import count_pixels, known_sizes, score_table
from salt.scoring.score import OutOfFold, best_threshold, score_counted

SAMPLED = 500  # pixels of each tile on which the weights are chosen
SURE = 1e-4  # the least probability of the truth, so that no single wrong pixel decides


def read_out_of_fold(members: Sequence[Member]) -> tuple[list[str], list[Stack]]:
    """Return the ids of the scored tiles, and each run's out-of-fold probabilities of them.

    Raises:
        ValueError: the runs differ in data or folds, or there are fewer than two runs or two folds.
    """
    if len(members) < 2:
        raise ValueError("expected two or more runs to blend")
    paths = [member.directory.path for member in members]
    if len(members[0].score["folds"]) < 2:
        raise ValueError(f"{paths[0]} has one finished fold, expected two: weights are chosen on the other folds")
    found = [read_probabilities(path / "oof.npz") for path in paths]
    shared = {
        "data (environment.json)": [
            read_json(path / "environment.json", "data_sha256")["data_sha256"] for path in paths
        ],
        "data.amplitudes or data.nodata": [(m.config.data.amplitudes, m.config.data.nodata) for m in members],
        "folds (folds.csv)": [(path / "folds.csv").read_bytes() for path in paths],
        "finished folds": [ids for ids, _ in found],
    }
    for what, values in shared.items():
        for path, value in zip(paths, values, strict=True):
            if value != values[0]:
                raise ValueError(f"{paths[0]} and {path} have different {what}")
    return found[0][0], [probabilities for _, probabilities in found]


def blend(
    stacks: Sequence[Stack],
    masks: Stack,
    folds: NDArray[np.int64],
    sections: NDArray[np.int64] | None = None,
    known: Stack | None = None,
) -> tuple[NDArray[np.float64], Stack, OutOfFold]:
    """Return weights for all tiles, the blended out-of-fold probabilities, and their score.

    Weights and threshold of a fold are chosen on the other folds. Weights are never negative and sum to 1. `sections`
    (N) numbers the sections that the interval of the score resamples, if known. If `known` is given (as masks, bool),
    only these pixels count.

    Reference: Breiman 1996, "Stacked Regressions", Machine Learning 24, 49-64.
    """
    together = empty_stack(sizes_of(masks), np.float16)
    chosen = np.empty(len(masks), dtype=np.int64)
    for fold in tqdm(np.unique(folds), "weights", unit="fold", disable=None, leave=False):
        others, here = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        seen = None if known is None else known[others]
        weights = choose_weights([stack[others] for stack in stacks], masks[others], seen)
        together_others = mean([stack[others] for stack in stacks], weights)
        chosen[here] = best_threshold(score_table(together_others, masks[others], seen))
        together[here] = mean([stack[here] for stack in stacks], weights)
    counts = count_pixels(together, masks, known=known)
    result = score_counted(counts, known_sizes(masks, known), chosen, folds, sections)
    return choose_weights(stacks, masks, known), together, result


def mean(stacks: Sequence[Stack], weights: NDArray[np.float64]) -> Stack:
    """Return the weighted mean of probabilities (each N H W, or N arrays), in half precision."""
    result = empty_stack(sizes_of(stacks[0]), np.float16)
    for i in range(len(result)):
        parts = [np.float32(w) * stack[i].astype(np.float32) for w, stack in zip(weights, stacks, strict=True)]
        result[i][:] = sum(parts[1:], parts[0])
    return result


def choose_weights(stacks: Sequence[Stack], masks: Stack, known: Stack | None = None) -> NDArray[np.float64]:
    """Return the weights with the least cross entropy over random known pixels of each tile; it is convex in them."""
    rng = np.random.default_rng(0)
    if known is None:
        places = [rng.integers(0, mask.size, SAMPLED) for mask in masks]
    else:
        places = [rng.choice(np.flatnonzero(seen), SAMPLED) for seen in known]
    salt = np.concatenate([mask.ravel()[at] for mask, at in zip(masks, places, strict=True)]) != 0
    given = np.array(
        [np.concatenate([p.ravel()[at] for p, at in zip(s, places, strict=True)]).astype(np.float64) for s in stacks]
    )
    right = np.where(salt, given, 1 - given).clip(SURE, 1)  # probability of the truth, of each run and pixel

    def cross_entropy(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        together = weights @ right
        return -float(np.log(together).mean()), -(right / together).mean(axis=1)

    n = len(stacks)
    start = np.full(n, 1 / n)
    sum_to_one = {"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(n)}
    found = minimize(cross_entropy, start, jac=True, bounds=[(0, 1)] * n, constraints=sum_to_one, method="SLSQP")
    weights = np.clip(found.x, 0, 1)
    return np.asarray(weights / weights.sum())


def entries_of(out: Path, members: Sequence[Member], weights: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Return the entries of blend.json in `out`; paths are relative, so that all can be moved together."""
    return [
        {
            "run": os.path.relpath(member.bundle or member.directory.path, out),
            "weight": float(weight),
            "weights_sha256": member.weights_sha256,
        }
        for member, weight in zip(members, weights, strict=True)
    ]
