"""The figures of a comparison: what they name."""

import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from salt.comparing.page import cost_and_score, draw_forest, unbeaten


def results(*rows):
    return pd.DataFrame(rows, columns=["run", "seconds", "score"])


def test_the_runs_that_no_other_beats():
    table = results(
        ("slow", 90.0, 0.83), ("quick", 10.0, 0.7), ("worse", 20.0, 0.69), ("same score", 30.0, 0.7), ("mid", 40.0, 0.8)
    )
    assert table["run"][unbeaten(table)].tolist() == ["slow", "quick", "mid"]
    twice = results(("a", 10.0, 0.8), ("b", 10.0, 0.7))
    assert twice["run"][unbeaten(twice)].tolist() == ["a"]


@pytest.mark.parametrize(("seconds", "unit"), [(30.0, "seconds"), (600.0, "minutes")])
def test_only_they_and_the_baseline_are_named(seconds, unit):
    table = results(
        ("base", seconds, 0.5), ("better", seconds / 2, 0.6), ("crowd", seconds, 0.4), ("untold", None, 0.9)
    )
    drawn = str(cost_and_score(table))
    label, figure = drawn.split(">", 1)
    assert all(name in figure for name in ("base", "better", f"time of a fold in {unit}"))
    assert "crowd" not in figure and "untold" not in figure
    assert f"crowd: {seconds if unit == 'seconds' else seconds / 60:.1f} {unit}, 0.4000" in label


def test_without_times_there_is_no_figure():
    assert cost_and_score(results(("a", None, 0.5))) is None


def test_times_that_are_nearly_equal_look_so_and_have_round_numbers():
    drawn = str(cost_and_score(results(("a", 2.83, 0.51), ("b", 2.87, 0.5125))))
    ticks = {axis: re.findall(rf'-{axis}tick_\d+">.*?<text[^>]*>([^<]*)</text>', drawn, re.DOTALL) for axis in "xy"}
    assert ticks["x"] == ["0.0", "0.5", "1.0", "1.5", "2.0", "2.5", "3.0", "3.5"]
    steps = np.diff([float(tick) for tick in ticks["y"]])
    assert min(abs(steps[0] / 10.0**power - n) for power in range(-5, 1) for n in (1, 2, 5)) < 1e-6


def test_the_marks_of_differences_tell_verdicts_apart():
    rows = [("base", ""), ("seeds", "yes"), ("one seed", "tiles only"), ("none", "no")]
    table = pd.DataFrame(rows, columns=["run", "resolved"]).assign(difference=0.1, low=0.05, high=0.2)
    axes = Figure().add_subplot()
    draw_forest(axes, table)
    assert [line.get_fillstyle() for line in axes.lines if line.get_marker() == "o"] == ["full", "left", "none"]
    assert "half: only that of tiles" in axes.get_xlabel()
