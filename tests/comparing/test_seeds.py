"""Intervals over tiles and seeds: against formulas, and how often they hold the truth in simulated trainings."""

import numpy as np
import pytest
import scipy.stats

from salt.comparing.comparison import Side, seed_margin, widen
from salt.scoring.bootstrap import bootstrap


def trained(rng, base, n_seeds, folds, network, tile):
    """Scores S N of one setting: each fold's network has a level of its own, and noise on each tile."""
    levels = network * rng.normal(size=(n_seeds, folds.max() + 1))
    return Side(base + levels[:, folds] + tile * rng.normal(size=(n_seeds, len(folds))), folds)


def interval(first, second, sections=None, n_resamples=400):
    change = first.scores.mean(axis=0) - second.scores.mean(axis=0)
    low, high = bootstrap(change[None], first.folds, sections, n_resamples=n_resamples)[0]
    return low, high, *widen(change.mean(), low, high, seed_margin([first, second], sections))


@pytest.mark.parametrize(("n_seeds", "n_folds"), [(2, 1), (2, 5), (4, 2)])
@pytest.mark.parametrize(("own", "network", "tile"), [(0.2, 0.03, 0.2), (0.05, 0.1, 0.1), (0.0, 0.0, 0.2)])
def test_the_true_difference_lies_within(n_seeds, n_folds, own, network, tile):
    rng, n, runs, truth = np.random.default_rng(n_seeds), 200, 400, 0.1
    folds, tiles_alone, both = np.arange(n) % n_folds, 0, 0
    for _ in range(runs):
        difficulty = rng.normal(0, 0.3, n)  # both settings find the same tiles hard
        better = difficulty + truth + own * rng.normal(size=n)  # and one is better on some of them
        sides = [trained(rng, base, n_seeds, folds, network, tile) for base in (better, difficulty)]
        low, high, wide_low, wide_high = interval(*sides)
        assert wide_low <= low + 1e-9 and high <= wide_high + 1e-9  # rounded
        tiles_alone += low <= truth <= high
        both += wide_low <= truth <= wide_high
    assert both / runs >= 0.92  # binomial: 0.95 less three standard errors
    if network == 0.1:
        assert tiles_alone / runs < 0.7


def test_with_many_seeds_it_is_as_wide_as_the_truth_needs():
    rng, folds = np.random.default_rng(3), np.arange(300) % 3
    own, network, tile, n_seeds = 0.2, 0.03, 0.2, 8
    widths = []
    for _ in range(60):
        sides = [trained(rng, base, n_seeds, folds, network, tile) for base in (own * rng.normal(size=300), 0.0)]
        _, _, low, high = interval(*sides)
        widths.append(high - low)
    variance = own**2 / 300 + 2 * network**2 / (3 * n_seeds) + 2 * tile**2 / (300 * n_seeds)
    assert np.mean(widths) == pytest.approx(2 * 1.96 * variance**0.5, rel=0.08)


def test_one_fold_whose_tiles_do_not_vary_is_welchs_interval():
    rng, folds = np.random.default_rng(4), np.zeros(40, dtype=np.int64)
    levels = rng.normal(size=(3, 1)), 2 * rng.normal(size=(5, 1))
    sides = [Side(np.repeat(level, 40, axis=1), folds) for level in levels]
    change = levels[0].mean() - levels[1].mean()
    theirs = scipy.stats.ttest_ind(levels[0][:, 0], levels[1][:, 0], equal_var=False).confidence_interval(0.95)
    ours = widen(change, change, change, seed_margin(sides) * (1 - 1 / 40) ** -0.5)  # a tile's part is its own: 1/N
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_a_side_without_training_has_no_seeds():
    side = trained(np.random.default_rng(5), np.zeros(100), 4, np.arange(100) % 2, 0.1, 0.0)
    alone, twice = seed_margin([side]), seed_margin([side, side])
    assert 2**0.5 * 0.8 * alone < twice < 2**0.5 * alone  # twice the variance, more degrees of freedom
    assert seed_margin([]) == 0


def test_equal_seeds_add_nothing():
    scores = np.tile(np.random.default_rng(6).random(50), (3, 1))
    assert seed_margin([Side(scores, np.arange(50) % 2)] * 2) == 0


def test_sections_that_vary_together_are_counted_once():
    rng, folds, sections = np.random.default_rng(7), np.zeros(400, dtype=np.int64), np.repeat(np.arange(100), 4)
    by_section = 0.2 * rng.normal(size=(200, 100))[:, sections]  # no network is better than another
    side = Side(by_section, folds)
    assert seed_margin([side], sections) < 0.4 * seed_margin([side])


def test_widen_is_the_root_of_squares_on_either_side():
    assert widen(1.0, 0.7, 1.1, 0.4) == pytest.approx((0.5, 1 + 0.17**0.5))
    assert widen(0.2, 0.1, 0.4, 0.0) == pytest.approx((0.1, 0.4))
