"""Lines of a survey: folds of neighbours, what may train beside a held-out line, and distances."""

import numpy as np
import pytest

from salt.data.lines import Line, block_folds, distance_to, distances, parts_to_train


def line(number, direction="inline", survey="a", across=range(200, 210)):
    return Line(survey, direction, number, np.array(across))


def test_folds_are_blocks_of_neighbouring_lines_of_each_direction_and_survey():
    lines = [line(n) for n in (7, 1, 3, 9, 5, 11)] + [line(n, "crossline") for n in (202, 200)]
    lines += [line(n, survey="b") for n in (30, 10, 20)]
    assert block_folds(lines, 3).tolist() == [1, 0, 0, 2, 1, 2, 1, 0, 1, 2, 0]
    single = [line(n) for n in (1, 2)] + [line(0, survey=name) for name in "bcd"]
    assert block_folds(single, 3).tolist() == [0, 1, 2, 0, 1]
    with pytest.raises(ValueError, match=r"n_folds=4 is more than the 3 .* data.n_folds=1"):
        block_folds(lines[-3:], 4)


def test_near_lines_and_crossing_traces_do_not_train():
    lines = [
        line(100),
        line(104),
        line(105),
        line(130),
        line(205, "crossline", across=range(98, 133, 2)),
        line(104, survey="b"),
    ]
    held_out = np.array([True, False, False, False, False, False])
    parts = parts_to_train(lines, held_out, gap=4)
    assert [part.all() for part in parts] == [False, False, True, True, False, True]
    assert not parts[0].any() and not parts[1].any()
    across = lines[4].across
    assert np.array_equal(parts[4], np.abs(across - 100) > 4)
    held_out = np.array([False, False, False, False, True, False])
    parts = parts_to_train(lines, held_out, gap=0)
    assert all(np.array_equal(part, lines[0].across != 205) for part in parts[:4]) and parts[5].all()


def test_distances_are_those_to_the_nearest_line_that_trained():
    lines = [line(n) for n in (100, 104, 120, 150, 152)]
    folds = np.array([0, 1, 1, 0, 1])
    assert distances(lines, folds, gap=0).tolist() == [4, 4, 20, 2, 2]
    assert distances(lines, folds, gap=3).tolist() == [4, 4, 20, 30, 52]  # 150 and 152 are too near to each other
    assert np.isinf(distances(lines, np.zeros(5, int), gap=0)).all()


def test_a_crossing_line_that_trained_counts_for_the_distance():
    lines = [line(n) for n in (100, 200)] + [line(205, "crossline", across=range(90, 211, 2))]
    folds = np.array([0, 1, 1])
    assert distances(lines, folds, gap=2).tolist() == [4, 100, 3]
    assert distances(lines, folds, gap=10).tolist() == [12, np.inf, np.inf]  # the crossline leaves no trace of 100
    assert parts_to_train(lines, folds == 1, 10)[0].tolist() == [abs(x - 205) > 10 for x in range(200, 210)]


def test_the_distance_to_sorted_numbers():
    numbers = np.array([-5, 0, 1, 7, 100])
    others = np.array([-1, 4, 90])
    assert distance_to(numbers, others).tolist() == [abs(others - n).min() for n in numbers]
    assert np.isinf(distance_to(numbers, None)).all()
