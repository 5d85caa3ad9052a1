import warnings

import numpy as np
import pytest

from salt.data.folds import count_split_sections, coverage_class, make_folds, read_folds, write_folds


def test_coverage_class():
    assert coverage_class(np.array([0, 0.01, 0.1, 0.11, 0.95, 1.0])).tolist() == [0, 1, 1, 2, 10, 10]


def test_every_fold_has_its_share_of_every_class():
    coverages = [0] * 40 + [0.05] * 20 + [0.5] * 15 + [1.0] * 5
    folds = make_folds(np.array(coverages), 5, seed=0)
    for start, stop, share in ((0, 40, 8), (40, 60, 4), (60, 75, 3), (75, 80, 1)):
        assert np.bincount(folds[start:stop], minlength=5).tolist() == [share] * 5


def test_the_seed_decides():
    m = np.linspace(0, 1, 50).round(2)
    assert (make_folds(m, 5, 1) == make_folds(m, 5, 1)).all()
    assert (make_folds(m, 5, 1) != make_folds(m, 5, 2)).any()


@pytest.mark.parametrize("seed", range(3))
def test_a_class_with_one_tile_for_each_fold_is_shared_out(seed):
    folds = make_folds(np.array([0] * 5 + [0.5] * 5), 5, seed)
    assert sorted(folds[:5]) == sorted(folds[5:]) == [0, 1, 2, 3, 4]


def test_rare_classes_are_no_fault_and_too_few_tiles_are():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sorted(make_folds(np.array([0, 0.2, 0.4, 0.6]), 4, 0)) == [0, 1, 2, 3]
        assert np.bincount(make_folds(np.array([0.0] * 9 + [1]), 5, 0)).tolist() == [2] * 5
    with pytest.raises(ValueError, match=r"data\.n_folds=5 is more than the 4"):
        make_folds(np.array([0, 0, 1, 1]), 5, 0)


def test_a_given_file_is_used_as_it_is(tmp_path):
    write_folds(tmp_path / "folds.csv", ["b", "123e456789", "a"], np.array([1, 0, 1]))
    assert (tmp_path / "folds.csv").read_bytes() == b"id,fold\nb,1\n123e456789,0\na,1\n"
    assert read_folds(tmp_path / "folds.csv", ["a", "b", "123e456789"], 2).tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,fold\na,0\nb,1\nb,0\n", "id b occurs twice"),
        ("id,fold\na,0\n", r"1 differ.*'b'"),
        ("id,fold\na,0\nb,2\n", r"expected the folds 0..1 .* found \['0', '2'\]"),
        ("id,fold\na,0\nb,\n", "expected the folds"),
        ("", "cannot be read as a CSV: No columns"),
        ("tile,fold\na,0\nb,1\n", "expected the columns id,fold"),
    ],
)
def test_refused(tmp_path, text, message):
    (tmp_path / "folds.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_folds(tmp_path / "folds.csv", ["a", "b"], 2)


def test_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        read_folds(tmp_path / "folds.csv", ["a"], 2)


@pytest.mark.parametrize("seed", range(3))
def test_a_section_is_never_split(seed):
    rng = np.random.default_rng(seed)
    sections = np.repeat(np.arange(120), rng.integers(1, 6, 120))
    coverages = rng.choice([0, 0.05, 0.5, 0.9], len(sections))
    folds = make_folds(coverages, 5, seed, sections)
    assert count_split_sections(sections, folds) == 0
    assert sorted(np.unique(folds)) == [0, 1, 2, 3, 4]
    for part in (coverages == 0, coverages > 0.4):  # each fold has about its share
        share = np.bincount(folds[part], minlength=5) / part.sum()
        assert (abs(share - 0.2) < 0.06).all()
    assert count_split_sections(sections, make_folds(coverages, 5, seed)) > 20


def test_fewer_sections_than_folds_are_refused():
    with pytest.raises(ValueError, match=r"data\.n_folds=5 is more than the 3 sections"):
        make_folds(np.zeros(30), 5, 0, np.arange(30) % 3)
