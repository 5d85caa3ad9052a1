"""What the pages of a run say about its numbers."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from salt.scoring.bootstrap import LEVEL, RESAMPLES
from salt.scoring.metrics import THRESHOLDS
from salt.words import numbered, percent, signed, span

FEW = 4  # epochs that are named one by one


def about_score(score: Mapping[str, Any]) -> str:
    """Return what the interval of a run's score covers, and how its folds differ."""
    sections = score.get("interval_over") == "sections"
    drawn = "whole sections of neighbouring tiles" if sections else "the tiles of each fold"
    text = (
        "The interval says how much the score would change with other tiles of the same kind "
        f"({RESAMPLES:,} resamples of {drawn}). It does not cover how training varies from seed to seed"
    )
    text += "." if sections else ", nor that neighbouring tiles are alike, so it is too narrow rather than too wide."
    if score.get("fold_spread"):
        text += f" The folds' scores have a standard deviation of {score['fold_spread']:.4f}."
    return text


def no_better(score: Mapping[str, Any]) -> str | None:
    """Return that a run is no better than predicting no salt at all, if so."""
    if score["map_all_empty"] == 1:
        return "No tile has salt, so predicting none anywhere scores 1: these tiles say little about a network."
    if score["map"] <= score["map_all_empty"]:
        return f"This run is no better than predicting every tile empty, which scores {score['map_all_empty']:.4f}."
    return None


def partial(score: Mapping[str, Any]) -> str | None:
    """Return which folds of a run are not trained, if there are some."""
    missing = score["missing_folds"]
    if not missing:
        return None
    verb, whose = ("is", "its") if len(missing) == 1 else ("are", "their")
    return f"Partial: {numbered('fold', missing)} {verb} not trained, so {whose} tiles are not scored."


def most_lost(missing: float, kind: Mapping[str, Any] | None, coverage: Mapping[str, Any], sampled: bool) -> str:
    """Return which tiles lose most of the `missing` score: by kind of error, if known, and by share of salt."""
    if not missing:
        return "Every tile has the full score."
    where = "without salt" if coverage["number"] == 0 else f"with {coverage['name']} % salt"
    text = f"Of the score that is missing ({missing:.4f}), the largest part is lost on tiles "
    if kind is not None and kind["share"]:
        share = f"{percent(kind['share'])}{' of the loss in this page' if sampled else ''}"
        text += f"with the error “{kind['name']}” ({share}) and, by share of salt, on tiles "
    return f"{text}{where} ({percent(coverage['share'])})."


def good_thresholds(threshold: float, low: float, high: float, near: float) -> str:
    """Return the threshold in use, and the range around the best one in which the score is `near` to it."""
    if low == high:
        return f"Used: {threshold:g}. Only at {low:g} is the score within {near} of the best."
    if (low, high) == (THRESHOLDS[0], THRESHOLDS[-1]):
        return (
            f"Used: {threshold:g}. At every threshold from {low:g} to {high:g} the score is within {near} of the best."
        )
    return f"Used: {threshold:g}. From {low:g} to {high:g} the score is within {near} of the best."


def about_gain(gain: Mapping[str, Any]) -> str:
    """Return by how much thresholds chosen on other tiles change the score, and whether they are used."""
    low, high = gain["interval"]
    change = f"change the score by {signed(gain['gain'])} against 0.5 ({LEVEL} % interval {span(low, high, sign=True)})"
    if signed(gain["gain"]) == signed(low) == signed(high) == signed(0):
        change = "do not change the score against 0.5"
    return f"Thresholds chosen on other tiles {change}: {'used' if gain['used'] else 'not used'}."


def about_bias(bias: float | None) -> str:
    """Return whether probabilities between 0.1 and 0.9 are too high or too low on average."""
    if bias is None:
        return "No pixel has a probability between 0.1 and 0.9."
    if f"{abs(bias):.2f}" == "0.00":
        return "Between 0.1 and 0.9 they are right to 0.01 on average."
    return f"Between 0.1 and 0.9 they are too {'high' if bias > 0 else 'low'} by {abs(bias):.2f} on average."


def validations(curves: Mapping[int, pd.DataFrame]) -> str:
    """Return after which epochs each fold was validated, as their metrics.csv has it."""
    folds: dict[str, list[int]] = {}
    for fold, table in curves.items():
        folds.setdefault(validated(table), []).append(fold)
    if len(folds) == 1:
        return f"Validation, without mirroring: {next(iter(folds))}."
    parts = [f"{numbered('fold', numbers)} {when}" for when, numbers in folds.items()]
    return f"Validation, without mirroring: {'; '.join(parts)}."


def validated(table: pd.DataFrame) -> str:
    """Return after which of its epochs one fold was validated."""
    epochs = table["epoch"].astype(int)
    done = epochs[table["map_at_0.5"].notna()].tolist()
    if not done:
        return "none yet"
    if len(done) == len(epochs):
        return "after every epoch" if len(done) > 1 else "after the only epoch"
    if done == [epochs.max()]:
        return f"only after the last epoch, {done[0]}"
    if len(done) <= FEW:
        return f"after {numbered('epoch', done)}"
    step, tail = done[1] - done[0], done[-1] == epochs.max() and done[-1] % (done[1] - done[0]) > 0
    regular = done[: len(done) - tail]
    if step > 1 and regular == list(range(step, regular[-1] + 1, step)):
        return f"every {step} epochs{' and after the last' if tail else ''}"
    return f"after {len(done)} of {len(epochs)} epochs"
