"""Lines of a survey as tiles: folds of neighbouring lines, kept apart, and the distance that a score spans."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
OBLIQUE = "oblique"  # the direction of a file whose line runs through a survey along neither


class Line(NamedTuple):
    """Where a tile lies in a survey."""

    survey: str
    direction: str  # inline, crossline or OBLIQUE
    number: int
    across: Numbers  # (W), the line number of the other direction at each trace, ascending


def block_folds(lines: list[Line], n_folds: int) -> Numbers:
    """Return the fold of each line (N): blocks of consecutive lines, of each direction and survey on its own.

    Raises:
        ValueError: there are fewer lines than folds, or a line runs obliquely through a survey.
    """
    if odd := [line.survey for line in lines if line.direction == OBLIQUE]:
        raise ValueError(
            f"{odd[0]} runs obliquely through a survey of this folder: neighbours cannot be kept out of training; "
            "remove its label or the survey's, or train without a score (data.n_folds=1)"
        )
    folds, counts = np.full(len(lines), -1, dtype=np.int64), np.zeros(n_folds, dtype=np.int64)
    for place in dict.fromkeys((line.survey, line.direction) for line in lines):
        here = [i for i, line in enumerate(lines) if (line.survey, line.direction) == place]
        here.sort(key=lambda i: lines[i].number)
        blocks = np.array_split(np.array(here), min(n_folds, len(here)))
        for fold, block in zip(np.argsort(counts, kind="stable"), blocks, strict=False):  # the smallest fold first
            folds[block] = fold
            counts[fold] += len(block)
    if not counts.all():
        raise ValueError(
            f"data.n_folds={n_folds} is more than the {len(lines)} interpreted lines; "
            "data.n_folds=1 trains on all of them without a score"
        )
    return folds


def held_out_numbers(lines: list[Line], held_out: NDArray[np.bool_]) -> dict[tuple[str, str], Numbers]:
    """Return the numbers of the held-out lines by survey and direction."""
    numbers: dict[tuple[str, str], list[int]] = {}
    for line, out in zip(lines, held_out, strict=True):
        if out:
            numbers.setdefault((line.survey, line.direction), []).append(line.number)
    return {place: np.unique(found) for place, found in numbers.items()}


def parts_to_train(lines: list[Line], held_out: NDArray[np.bool_], gap: int) -> list[NDArray[np.bool_]]:
    """Return which traces (W) of each line may train a fold: those more than `gap` numbers from a held-out line.

    `gap` counts line numbers. Lines of both directions cross, so a crossing line loses only some traces.
    """
    numbers = held_out_numbers(lines, held_out)
    parts = []
    for line, out in zip(lines, held_out, strict=True):
        other = "crossline" if line.direction == "inline" else "inline"
        along = distance_to(np.array([line.number]), numbers.get((line.survey, line.direction)))[0]
        across = distance_to(line.across, numbers.get((line.survey, other)))
        parts.append(np.zeros(len(across), np.bool_) if out or along <= gap else across > gap)
    return parts


def distance_to(numbers: Numbers, others: Numbers | None) -> NDArray[np.float64]:
    """Return the distance of each number (N) to the nearest of others, ascending; infinity if there are none."""
    if others is None or not len(others):
        return np.full(len(numbers), np.inf)
    at = np.searchsorted(others, numbers)
    below, above = others[np.maximum(at - 1, 0)], others[np.minimum(at, len(others) - 1)]
    return np.minimum(np.abs(numbers - below), np.abs(numbers - above)).astype(np.float64)


def distances(lines: list[Line], folds: Numbers, gap: int) -> NDArray[np.float64]:
    """Return how many line numbers each held-out line (N) is from the nearest trace that trained, infinity if none."""
    found = np.full(len(lines), np.inf)
    for fold in np.unique(folds[folds >= 0]):
        parts = parts_to_train(lines, folds == fold, gap)
        for i in np.flatnonzero(folds == fold):
            trained = [(line, part) for line, part in zip(lines, parts, strict=True) if part.any()]
            found[i] = min((trace_distance(lines[i], *one) for one in trained), default=np.inf)
    return found


def trace_distance(held_out: Line, trained: Line, part: NDArray[np.bool_]) -> float:
    """Return the distance of a line to the nearest trace (of `part`, W) of a line that trained."""
    if held_out.survey != trained.survey:
        return np.inf
    if held_out.direction == trained.direction:
        return abs(held_out.number - trained.number)
    return float(np.abs(trained.across[part] - held_out.number).min())
