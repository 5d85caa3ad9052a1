"""The interval of a comparison, against a loop, a formula and scipy."""

import random

import numpy as np
import pytest
import scipy.stats

from salt.scoring.bootstrap import bootstrap


def test_interval_like_a_loop_over_resamples():
    rng = np.random.default_rng(1)
    folds = np.array([0] * 7 + [1] * 12 + [4] * 3)
    difference = rng.normal(0.1, 0.3, len(folds)) + 0.2 * folds
    draw, means = random.Random(2), []
    for _ in range(8000):
        total = 0.0
        for fold in (0, 1, 4):
            tiles = [d for d, f in zip(difference, folds, strict=True) if f == fold]
            total += sum(tiles[draw.randrange(len(tiles))] for _ in tiles)
        means.append(total / len(folds))
    means.sort()
    expected = [means[200], means[7799]]
    deviation = np.std(means)
    np.testing.assert_allclose(bootstrap(difference[None], folds)[0], expected, atol=0.08 * deviation)


def test_interval_of_one_fold_is_the_standard_error():
    rng = np.random.default_rng(3)
    difference = rng.normal(0.02, 0.4, 1500)
    low, high = bootstrap(difference[None], np.zeros(1500, dtype=np.int64))[0]
    half = 1.959964 * difference.std() / np.sqrt(1500)
    assert (high - low) / 2 == pytest.approx(half, rel=0.03)
    assert (high + low) / 2 == pytest.approx(difference.mean(), abs=0.05 * half)


def test_interval_of_one_fold_like_scipy():
    difference = np.random.default_rng(6).choice(np.arange(-10, 11) / 10, 800)
    ours = bootstrap(difference[None], np.zeros(800, dtype=np.int64))[0]
    rng = np.random.default_rng(7)
    theirs = scipy.stats.bootstrap((difference,), np.mean, n_resamples=10_000, method="percentile", rng=rng)
    np.testing.assert_allclose(ours, theirs.confidence_interval, atol=0.06 * theirs.standard_error)


def test_interval_covers_the_true_difference():
    rng, hits, runs = np.random.default_rng(4), 0, 400
    folds = np.repeat([0, 1], 60)
    for _ in range(runs):
        difficulty = rng.normal(0, 1, 120)  # shared by the two runs; pairing takes it out
        a = difficulty + rng.normal(0, 0.3, 120)
        b = difficulty + 0.1 * folds + rng.normal(0.05, 0.3, 120)
        low, high = bootstrap((b - a)[None], folds, n_resamples=500)[0]
        hits += low <= 0.1 <= high
        assert high - low < 0.25  # unpaired: 4 * sqrt(2 * 1.09 / 120) = 0.54
    assert 0.91 <= hits / runs <= 0.98


def test_folds_keep_their_size():
    difference = np.array([[0.3] * 5 + [-0.1] * 11, [0.1] * 5 + [-1 / 22] * 11])
    np.testing.assert_allclose(
        bootstrap(difference, np.array([0] * 5 + [3] * 11)),
        np.array([[(5 * 0.3 - 11 * 0.1) / 16] * 2, [0.0, 0.0]]),
        atol=1e-12,
    )


def test_one_draw_for_all_rows_and_repeatable():
    difference = np.random.default_rng(5).normal(0, 1, (1, 30))
    folds = np.arange(30) % 3
    both = bootstrap(np.concatenate([difference, 2 * difference, difference]), folds)
    np.testing.assert_array_equal(both[0], both[2])
    np.testing.assert_allclose(both[1], 2 * both[0], atol=1e-11)
    np.testing.assert_allclose(bootstrap(difference, folds), both[:1], atol=1e-11)


def test_sections_are_drawn_whole():
    # neighbours that are copies of each other say as much as one of them
    rng = np.random.default_rng(3)
    one = rng.normal(size=200)
    folds = np.arange(200) % 4
    single = bootstrap(one[None], folds)[0]
    copies, units = np.repeat(one, 5), np.repeat(np.arange(200), 5)
    together = bootstrap(copies[None], np.repeat(folds, 5), units)[0]
    apart = bootstrap(copies[None], np.repeat(folds, 5))[0]
    np.testing.assert_allclose(np.diff(together), np.diff(single), rtol=0.05)
    np.testing.assert_allclose(np.diff(apart), np.diff(single) / 5**0.5, rtol=0.1)


def test_sections_over_several_folds_are_drawn_from_all():
    rng = np.random.default_rng(4)
    values, sections = rng.normal(size=300), np.arange(300) // 3
    low, high = bootstrap(values[None], np.arange(300) % 3, sections)[0]
    means = values.reshape(100, 3).mean(axis=1)
    assert high - low == pytest.approx(2 * 1.96 * means.std() / 10, rel=0.1)
    assert low < values.mean() < high


def test_sections_of_different_size_weigh_by_their_tiles():
    values, sections = np.array([1.0] * 30 + [0.0] * 11), np.array([0] * 30 + list(range(1, 12)))
    low, high = bootstrap(values[None], np.zeros(41, dtype=np.int64), sections)[0]
    assert low == 0 and high == pytest.approx(90 / 99)  # without the large one; with it three times, and nine others


def test_where_a_fold_has_few_sections_all_are_drawn_from_together():
    rng = np.random.default_rng(5)
    values, sections = rng.random(100), np.arange(100) // 5
    folds = (sections >= 15).astype(np.int64)  # 15 sections and 5
    pooled = bootstrap(values[None], np.zeros(100, dtype=np.int64), sections)
    np.testing.assert_allclose(bootstrap(values[None], folds, sections), pooled)


def test_of_few_sections_the_tiles_are_drawn():
    values, folds = np.random.default_rng(6).random(100), np.arange(100) // 20
    np.testing.assert_allclose(bootstrap(values[None], folds, folds), bootstrap(values[None], folds))
