"""Sentences about the numbers of a run, for its pages and its log."""

from collections.abc import Mapping
from typing import Any

from salt.scoring.bootstrap import LEVEL, RESAMPLES
from salt.words import numbered, signed, span

FEW_LINES = 20  # whose mean score may change by a tenth with other lines


def about_score(score: Mapping[str, Any]) -> str:
    """Say what the interval of a score covers, and how the folds differ."""
    sections = score.get("interval_over") == "sections"
    resampled = "whole sections of neighbouring tiles" if sections else "the tiles of each fold"
    text = (
        "The interval says how much the score would change with other tiles of the same kind "
        f"({RESAMPLES:,} resamples of {resampled}). It does not cover how training varies from seed to seed."
    )
    if not sections:
        text += " Neighbouring tiles are alike, so it is rather too narrow."
    if score.get("fold_spread"):
        text += f" The scores of the folds have a standard deviation of {score['fold_spread']:.4f}."
    return text


def remarks_on(score: Mapping[str, Any]) -> list[str]:
    """Return what to keep in mind with a score."""
    return list(filter(None, (no_better(score), partial(score), about_lines(score))))


def no_better(score: Mapping[str, Any]) -> str | None:
    """Say that a run is no better than predicting no salt at all; None if it is."""
    if score["map_all_empty"] == 1:
        return "No tile has salt, so predicting none anywhere scores 1: these tiles say little about a network."
    if score["map"] <= score["map_all_empty"]:
        return f"This run is no better than predicting every tile empty, which scores {score['map_all_empty']:.4f}."
    return None


def about_lines(score: Mapping[str, Any]) -> str | None:
    """Say over which distance the score of lines generalises, and what so few lines are worth; None without lines."""
    apart = score.get("line_distance")
    if apart is None:
        return None
    text = (
        f"Each held-out line is {apart['least']:g} line numbers or more (half of them {apart['median']:g} or more) "
        "from the nearest line that trained: the score holds for lines as far away, not for other surveys."
    )
    return text + (f" It is the mean of only {score['n']} lines." if score["n"] < FEW_LINES else "")


def partial(score: Mapping[str, Any]) -> str | None:
    """Name the folds of a run that are not trained; None if all are."""
    missing = score["missing_folds"]
    if not missing:
        return None
    verb, whose = ("is", "its") if len(missing) == 1 else ("are", "their")
    return f"Partial: {numbered('fold', missing)} {verb} not trained, so {whose} tiles are not scored."


def about_threshold(used: float, low: float, high: float, near: float) -> str:
    """Name the threshold in use, and the range in which the score is within `near` of the best."""
    where = f"Only at {low:g}" if low == high else f"From {low:g} to {high:g}"
    return f"Used: {used:g}. {where} the score is within {near} of the best."


def about_gain(gain: Mapping[str, Any]) -> str:
    """Say by how much thresholds chosen on other tiles change the score, and whether they are used."""
    low, high = gain["interval"]
    change = f"change the score by {signed(gain['gain'])} against 0.5 ({LEVEL} % interval {span(low, high, sign=True)})"
    if signed(gain["gain"]) == signed(low) == signed(high) == signed(0):
        change = "do not change the score against 0.5"
    return f"Thresholds chosen on other tiles {change}: {'used' if gain['used'] else 'not used'}."


def about_bias(bias: float | None) -> str:
    """Say whether probabilities between 0.1 and 0.9 are too high or too low on average."""
    if bias is None:
        return "No pixel has a probability between 0.1 and 0.9."
    if f"{abs(bias):.2f}" == "0.00":
        return "Between 0.1 and 0.9 they are right to 0.01 on average."
    return f"Between 0.1 and 0.9 they are too {'high' if bias > 0 else 'low'} by {abs(bias):.2f} on average."
