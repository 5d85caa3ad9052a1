"""What choices after the network are worth, against loops over tiles."""

import numpy as np
import pytest

from salt.scoring.bootstrap import bootstrap
from salt.scoring.gates import LEAST_AREAS, choose_gates, cross_fit_least_area, with_least_area
from salt.scoring.metrics import HALF, THRESHOLDS
from salt.scoring.threshold import best_threshold, cross_fit


def example(n=60, seed=0):
    """Tiles of which those without salt are often predicted with a little of it."""
    rng = np.random.default_rng(seed)
    empty = rng.random(n) < 0.4
    areas = np.where(empty, rng.choice([0, 0.004], n), rng.choice([0.002, 0.1, 0.4], n))[:, None] * np.ones(
        len(THRESHOLDS)
    )
    table = np.where(empty[:, None], areas == 0, rng.random((n, len(THRESHOLDS))).round(1))
    return table.astype(np.float64), areas, empty, np.arange(n) % 5


def test_small_predictions_become_empty():
    scores, areas, empty = (
        np.array([0.0, 0.7, 0.9, 1.0]),
        np.array([0.001, 0.001, 0.3, 0]),
        np.array([1, 0, 0, 1], bool),
    )
    assert with_least_area(scores, areas, empty, 0.01).tolist() == [1, 0, 0.9, 1]
    assert with_least_area(scores, areas, empty, 0.0).tolist() == scores.tolist()


def test_the_least_area_of_a_tile_is_the_best_on_the_other_folds():
    table, areas, empty, folds = example()
    chosen = cross_fit(table, folds)
    least = cross_fit_least_area(table, areas, empty, chosen, folds)
    for fold in range(5):
        t = chosen[folds == fold][0]
        means = []
        for a in LEAST_AREAS:
            values = [float(empty[i]) if areas[i, t] < a else table[i, t] for i in np.flatnonzero(folds != fold)]
            means.append(sum(values) / len(values))
        best = next(a for a, m in zip(LEAST_AREAS, means, strict=True) if m > max(means) - 1e-9)
        assert (least[folds == fold] == best).all() and best > 0


def test_a_tile_takes_no_part_in_its_own_choice():
    table, areas, empty, folds = example()
    chosen = cross_fit(table, folds)
    before = cross_fit_least_area(table, areas, empty, chosen, folds)
    table[folds == 2], empty[folds == 2] = 1 - table[folds == 2], ~empty[folds == 2]
    after = cross_fit_least_area(table, areas, empty, chosen, folds)
    assert (before[folds == 2] == after[folds == 2]).all()


def test_what_gains_for_certain_is_used():
    table, areas, empty, folds = example(400)
    large = areas[:, 0] > 0.05
    table[large, 20] = np.clip(table[large, 20] + 0.3, 0, 1)  # a threshold that is better than 0.5
    fitted = cross_fit(table, folds)
    gates = choose_gates(table, areas, empty, fitted, folds, folds, None)
    row = np.arange(400)
    differences = table[row, fitted] - table[:, HALF]
    threshold, area = gates.gains["threshold"], gates.gains["least_area"]
    assert threshold["gain"] == pytest.approx(differences.mean()) and threshold["used"] and threshold["interval"][0] > 0
    assert threshold["interval"] == pytest.approx(bootstrap(differences[None], folds)[0])
    assert (gates.thresholds == fitted).all() and gates.threshold == THRESHOLDS[best_threshold(table)]
    assert area["gain"] > 0.05 and area["used"] and area["chosen"] == [0.005]
    assert (gates.least_areas == 0.005).all() and gates.least_area == 0.005


def test_what_may_be_chance_is_not_used():
    table, areas = np.full((200, len(THRESHOLDS)), 0.6), np.full((200, len(THRESHOLDS)), 0.2)
    empty, folds = np.arange(200) < 2, np.arange(200) % 5
    table[2:4, 20] = 0.8  # two tiles in two folds gain by another threshold
    areas[:2] = 0.004  # two without salt gain by a least area
    gates = choose_gates(table, areas, empty, cross_fit(table, folds), folds, folds, None)
    for gate in gates.gains.values():
        assert gate["gain"] > 0 and gate["interval"][0] == 0 and not gate["used"]
    assert (gates.thresholds == HALF).all() and gates.threshold == 0.5
    assert (gates.least_areas == 0).all() and gates.least_area == 0


def test_where_nothing_is_to_gain_nothing_is_chosen():
    table, folds = np.ones((40, len(THRESHOLDS))), np.arange(40) % 2
    gates = choose_gates(table, table * 0.3, np.zeros(40, bool), np.full(40, HALF), folds, folds, None)
    nothing = {"gain": 0, "interval": [0, 0], "used": False}
    assert gates.gains == {"threshold": nothing, "least_area": nothing | {"chosen": [0]}}
