"""The figures of the pages: what is named in them."""

import pandas as pd
import pytest

from salt.reporting.figures import cost_and_score, unbeaten


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
