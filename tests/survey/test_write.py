"""Copies of a survey with other samples: every other byte stays, and blocks may come in any order and from anywhere."""

import itertools
import multiprocessing

import numpy as np
import pytest
from helpers.segy import CODES, TYPES
from helpers.volumes import MADE, chosen, volume, with_duplicates, with_holes

from salt.survey import layout, write
from salt.survey.geometry import open_survey
from salt.survey.read import read_block
from salt.survey.write import SurveyWriter, required_bytes

segyio = pytest.importorskip("segyio")

ORDERS = {">": "big", "<": "little"}
everywhere = pytest.mark.parametrize("order", ORDERS)
as_int8 = pytest.mark.parametrize("as_int8", [False, True], ids=["float", "int8"])


@pytest.fixture
def opened(tmp_path):
    def save(content):
        path = tmp_path / "survey.sgy"
        path.write_bytes(content)
        return open_survey(path)

    return save


@pytest.fixture(params=[1 << 25, 1000], ids=["", "small windows"], autouse=True)
def windows(request, monkeypatch):
    """The file is copied and written as a whole, or few traces at a time."""
    monkeypatch.setattr(layout, "WINDOW", request.param)
    monkeypatch.setattr(write, "WRITTEN", max(5, request.param // 10_000))


def values_of(survey):
    """Probabilities that an 8-bit percentage holds too."""
    shape = (*survey.trace_of.shape, survey.n_samples)
    return (np.random.default_rng(2).integers(0, 101, shape) / 100).astype(np.float32)


def as_written(made, survey, values):
    """The volume whose traces have the value of their place."""
    rows = np.searchsorted(survey.inlines, made.places[:, 0])
    columns = np.searchsorted(survey.crosslines, made.places[:, 1])
    result = chosen(made, np.arange(len(made.places)))
    result.traces = values[rows, columns]
    return result


@as_int8
@everywhere
@pytest.mark.parametrize("kind", MADE)
def test_every_other_byte_is_kept(opened, tmp_path, kind, order, as_int8):
    made, out = MADE[kind], tmp_path / "out.sgy"
    made = chosen(made, np.arange(len(made.places)))
    made.headers |= {29: np.ones(len(made.places))}
    if 37 not in made.headers:
        made.headers[37] = np.zeros(len(made.places))
    if made.words != (189, 193):  # else the noise would be line numbers
        made.headers |= {189: np.zeros(len(made.places)), 193: np.zeros(len(made.places))}
    settings = {"order": order, "texts": [b"\1" * 3200], "noise": True}
    survey = opened(made.content(2, **settings))
    values = values_of(survey)
    with SurveyWriter(survey, out, as_int8) as writer:
        for first in np.random.default_rng(3).permutation(len(values)).tolist():
            writer.write_block(first, values[first : first + 1])
    stored = np.rint(100 * values) if as_int8 else values
    expected = as_written(made, survey, stored).content(8 if as_int8 else 5, **settings)
    assert out.read_bytes() == expected and required_bytes(survey, as_int8) == len(expected)
    with segyio.open(str(out), ignore_geometry=True, endian=ORDERS[order]) as file:
        np.testing.assert_array_equal(file.trace.raw[:], as_written(made, survey, stored).traces)


@as_int8
@everywhere
@pytest.mark.parametrize("code", CODES)
def test_every_format_becomes_one_that_others_read(opened, tmp_path, code, order, as_int8):
    made, out = with_duplicates(with_holes(volume())), tmp_path / "out.sgy"
    survey = opened(made.content(code, order))
    values = values_of(survey)
    with SurveyWriter(survey, out, as_int8) as writer:
        writer.write_block(0, values)
    again = open_survey(out)
    np.testing.assert_array_equal(again.trace_of, survey.trace_of)
    known = survey.trace_of >= 0
    expected = (np.rint(values * 100) if as_int8 else values)[known]
    expected[~expected.any(axis=1)] = np.nan
    np.testing.assert_array_equal(read_block(again, 0, 7)[known], expected)
    assert again.layout.code == (8 if as_int8 else 5) and np.isnan(read_block(again, 0, 7)[~known]).all()
    size = {1: 4}.get(code) or np.dtype(TYPES[code]).itemsize
    assert out.stat().st_size - survey.path.stat().st_size == len(made.places) * 12 * ((1 if as_int8 else 4) - size)


@everywhere
def test_data_behind_the_traces_stay(opened, tmp_path, order):
    made = volume()
    settings = {"order": order, "binary": {3501: ("H", 0x0200), 3529: ("i", 2)}.items(), "tail": b"xy" * 3200}
    survey = opened(made.content(3, **settings))
    values = values_of(survey)
    with SurveyWriter(survey, tmp_path / "out.sgy") as writer:
        writer.write_block(0, values)
    assert (tmp_path / "out.sgy").read_bytes() == as_written(made, survey, values).content(5, **settings)


def test_a_started_file_is_continued_and_any_block_may_come_twice(opened, tmp_path):
    made = with_duplicates(volume())
    survey, out = opened(made.content()), tmp_path / "out.sgy"
    values = values_of(survey)
    with SurveyWriter(survey, out) as writer:
        writer.write_block(2, values[2:5] * 0)
        assert out.stat().st_size == required_bytes(survey)
    begun = out.read_bytes()
    assert begun == as_written(made, survey, values * 0).content()
    for first in (2, 0, 1, 5, 5):
        with SurveyWriter(survey, out) as writer:
            writer.write_block(first, values[first : first + 2])
    with SurveyWriter(survey, out) as writer:
        writer.write_block(3, values[3:6])
    assert out.read_bytes() == as_written(made, survey, values).content()


def write_part(path, out, part):
    survey = open_survey(path)
    with SurveyWriter(survey, out) as writer:
        for first in range(part, len(survey.inlines), 3):
            writer.write_block(first, values_of(survey)[first : first + 1])


@pytest.mark.parametrize("windows", [1 << 25], indirect=True)  # a new process has its own
def test_processes_write_one_file_at_once(opened, tmp_path):
    made = MADE["duplicates and holes, by crosslines"]
    survey, out = opened(made.content(1)), tmp_path / "new" / "out.sgy"
    spawn = multiprocessing.get_context("spawn")
    parts = [spawn.Process(target=write_part, args=(survey.path, out, part)) for part in range(3)]
    for part in parts:
        part.start()
    for part in parts:
        part.join()
    assert [part.exitcode for part in parts] == [0, 0, 0]
    assert out.read_bytes() == as_written(made, survey, values_of(survey)).content(5)


def test_traces_that_pad_the_file_stay_zero(opened, tmp_path):
    made = volume(range(-2, 5), range(-3, 6))
    padded = chosen(made, np.r_[0, 0:63, 5, 6, 62])
    padded.places[[0, -1, -2]] = 0
    survey = opened(padded.content())
    assert survey.trace_of.shape == (7, 9) and survey.duplicates.tolist() == [64]
    values = values_of(survey)
    expected = as_written(padded, survey, values)
    expected.traces[(padded.places == 0).all(axis=1)] = 0
    with SurveyWriter(survey, tmp_path / "out.sgy") as writer:
        writer.write_block(0, values)
    assert (tmp_path / "out.sgy").read_bytes() == expected.content()


def test_unknown_values_are_written_as_zero(opened, tmp_path):
    survey = opened(volume().content())
    values = values_of(survey)
    values[1, 2, 3:], values[4] = np.nan, np.nan
    for as_int8, scale in ((False, 1), (True, 100)):
        out = tmp_path / f"{scale}.sgy"
        with SurveyWriter(survey, out, as_int8) as writer:
            writer.write_block(0, values)
        with segyio.open(str(out), ignore_geometry=True) as file:
            found = file.trace.raw[:].reshape(values.shape)
        np.testing.assert_array_equal(found, np.rint(np.nan_to_num(values) * 100) if as_int8 else np.nan_to_num(values))


def test_percent_are_rounded(opened, tmp_path):
    survey = opened(volume(n_samples=5).content())
    values = np.broadcast_to(np.float32([0, 0.0049, 0.0051, 0.996, 1]), (7, 9, 5))
    with SurveyWriter(survey, tmp_path / "out.sgy", as_int8=True) as writer:
        writer.write_block(0, values)
    with segyio.open(str(tmp_path / "out.sgy"), ignore_geometry=True) as file:
        assert file.trace.raw[:].tolist() == [[0, 0, 1, 100, 100]] * 63


def test_a_file_of_another_size_is_refused(opened, tmp_path):
    survey, out = opened(volume().content()), tmp_path / "out.sgy"
    SurveyWriter(survey, out).close()
    with pytest.raises(ValueError, match=r"out.sgy has 21744 bytes, expected 19476 for .*survey.sgy: delete it"):
        SurveyWriter(survey, out, as_int8=True)
    assert out.stat().st_size == required_bytes(survey)


@pytest.mark.parametrize("kind", ["shuffled", "duplicates", "duplicates and holes, by crosslines"])
def test_blocks_of_any_size_and_direction_make_the_same_file(opened, tmp_path, kind):
    survey = opened(MADE[kind].content())
    values, files = values_of(survey), []
    for cuts in ((0, 7), (0, 3, 7), (0, 1, 2, 3, 4, 5, 6, 7)):
        files.append(tmp_path / f"{len(cuts)}.sgy")
        with SurveyWriter(survey, files[-1]) as writer:
            for first, last in itertools.pairwise(cuts):
                writer.write_block(first, values[first:last])
    files.append(tmp_path / "crosslines.sgy")
    with SurveyWriter(survey, files[-1]) as writer:
        for first, last in ((4, 9), (0, 4)):
            writer.write_block(first, values[:, first:last].transpose(1, 0, 2), "crossline")
    assert {file.read_bytes() for file in files} == {as_written(MADE[kind], survey, values).content()}
