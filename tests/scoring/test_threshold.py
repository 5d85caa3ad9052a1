import numpy as np
import pytest

from salt.scoring.bootstrap import bootstrap
from salt.scoring.metrics import HALF, THRESHOLDS
from salt.scoring.score import accept_thresholds, around_best, best_threshold, cross_fit


def test_best_threshold_breaks_ties_towards_half():
    table = np.zeros((3, 31))
    table[:, [2, 12, 29]] = 0.3
    assert best_threshold(table) == 12


def test_a_group_has_no_say_in_its_own_threshold():
    rng = np.random.default_rng(0)
    table, groups = rng.random((60, 31)), np.arange(60) % 3
    before = cross_fit(table, groups)
    table[groups == 1] = rng.random((20, 31))
    assert (cross_fit(table, groups)[groups == 1] == before[groups == 1]).all()
    for group in range(3):
        others = table[groups != group].mean(axis=0)
        assert (cross_fit(table, groups)[groups == group] == others.argmax()).all()


def test_two_groups_choose_for_each_other():
    table = np.zeros((4, 31))
    table[:2, 3] = table[2:, 20] = 1
    assert cross_fit(table, np.array([7, 7, 9, 9])).tolist() == [20, 20, 3, 3]


def test_what_gains_for_certain_is_used():
    table, folds = np.random.default_rng(0).random((400, len(THRESHOLDS))).round(1), np.arange(400) % 5
    table[:, 20] = np.clip(table[:, 20] + 0.3, 0, 1)
    fitted = cross_fit(table, folds)
    used, threshold, gain = accept_thresholds(table, fitted, folds, None)
    differences = table[np.arange(400), fitted] - table[:, HALF]
    assert gain["gain"] == pytest.approx(differences.mean()) and gain["used"] and gain["interval"][0] > 0
    assert gain["interval"] == pytest.approx(bootstrap(differences[None], folds)[0])
    assert (used == fitted).all() and threshold == THRESHOLDS[best_threshold(table)] != 0.5


def test_what_may_be_chance_is_not_used():
    table, folds = np.full((200, len(THRESHOLDS)), 0.6), np.arange(200) % 5
    table[2:4, 20] = 0.8  # two tiles in two folds gain by another threshold
    used, threshold, gain = accept_thresholds(table, cross_fit(table, folds), folds, None)
    assert gain["gain"] > 0 and gain["interval"][0] == 0 and not gain["used"]
    assert (used == HALF).all() and threshold == 0.5


def test_where_nothing_is_to_gain_nothing_is_chosen():
    table, folds = np.ones((40, len(THRESHOLDS))), np.arange(40) % 2
    gain = accept_thresholds(table, np.full(40, HALF), folds, None)[2]
    assert gain == {"gain": 0, "interval": [0, 0], "used": False}


def test_the_range_around_the_best_ends_where_a_worse_one_begins():
    means = np.zeros(len(THRESHOLDS))
    assert around_best(means, 0.01) == (THRESHOLDS[0], THRESHOLDS[-1])
    means[[3, 4, 6, 7]] = 0.5, 0.495, 0.495, 0.49  # 6 is as good, but 5 lies between
    assert around_best(means, 0.006) == (THRESHOLDS[3], THRESHOLDS[4])
    assert around_best(means, 0.001) == (THRESHOLDS[3], THRESHOLDS[3])
    assert around_best(np.arange(len(THRESHOLDS)), 1.5) == (THRESHOLDS[-2], THRESHOLDS[-1])
