"""Where the traces of a survey lie, for every kind of file; what is no survey is refused."""

import logging

import numpy as np
import pytest
from helpers.segy import CODES, IMAGE, LINES, segy
from helpers.volumes import MADE, Volume, chosen, volume

from salt.survey.geometry import first_at, is_volume, open_survey
from salt.survey.line_numbers import PAIRS

segyio = pytest.importorskip("segyio")

everywhere = pytest.mark.parametrize("order", "<>")


@pytest.fixture
def save(tmp_path):
    def write(made, **settings):
        path = tmp_path / "survey.sgy"
        path.write_bytes(made if isinstance(made, bytes) else made.content(**settings))
        return path

    return write


@everywhere
@pytest.mark.parametrize("kind", MADE)
def test_each_place_has_its_trace(save, kind, order):
    made = MADE[kind]
    survey = open_survey(save(made, code=2, order=order))
    inlines, crosslines, _ = made.cube()
    assert survey.words == made.words and survey.n_samples == made.traces.shape[1]
    assert survey.inlines.tolist() == inlines and survey.crosslines.tolist() == crosslines
    rows, columns = np.nonzero(survey.trace_of >= 0)
    places = np.stack((survey.inlines[rows], survey.crosslines[columns]), axis=1)
    assert places.tolist() == made.places[survey.trace_of[rows, columns]].tolist()
    assert {tuple(place) for place in made.places.tolist()} == {tuple(place) for place in places.tolist()}
    used = {*survey.trace_of[rows, columns].tolist(), *survey.duplicates.tolist()}
    assert used == set(range(len(made.places))) and len(rows) + len(survey.duplicates) == len(made.places)
    first = survey.trace_of.ravel()[survey.duplicate_places]
    assert (first < survey.duplicates).all()
    assert made.places[first].tolist() == made.places[survey.duplicates].tolist()
    assert is_volume(survey.path)


@pytest.mark.parametrize(
    "kind", ["full", "by crosslines", "inlines reversed", "negative", "steps", "before revision 1"]
)
def test_segyio_finds_the_same_lines(save, kind):
    made = MADE[kind]
    survey = open_survey(save(made))
    with segyio.open(str(survey.path), iline=made.words[0], xline=made.words[1]) as file:
        assert sorted(file.ilines) == survey.inlines.tolist() and sorted(file.xlines) == survey.crosslines.tolist()
        first = file.header[int(survey.trace_of[2, 3])]
        assert (first[made.words[0]], first[made.words[1]]) == (survey.inlines[2], survey.crosslines[3])


def test_duplicates_are_counted_in_a_warning(save, caplog):
    with caplog.at_level(logging.WARNING):
        survey = open_survey(save(MADE["duplicates"]))
    assert "survey.sgy: 3 traces at a place that an earlier trace has" in caplog.text
    assert survey.duplicates.tolist() == [43, 64, 65] and survey.duplicate_places.tolist() == [41, 3, 40]


@pytest.mark.parametrize("words", [(189, 193), (221, 21), (181, 185)])
def test_traces_without_numbers_are_left_out(save, words, caplog):
    made = chosen(volume(words=words), np.r_[0:63, np.zeros(50, int)])
    made.places[63:] = 0
    survey = open_survey(save(made), *words)
    assert survey.trace_of.tolist() == np.arange(63).reshape(7, 9).tolist() and not len(survey.duplicates)
    assert "50 traces without line numbers; they are left out" in caplog.text
    if words != (181, 185):
        assert open_survey(survey.path).trace_of.shape == (7, 9)


@everywhere
def test_other_bytes_are_named(save, order):
    made = volume(words=(181, 77), headers={109: np.full(63, -8), 37: np.arange(63)})
    path = save(made, order=order)
    with pytest.raises(
        ValueError, match=r"survey.sgy: geometry cannot be derived: tried .* 189/193, 9/21, .*crossline_byte"
    ):
        open_survey(path)
    survey = open_survey(path, 181, 77)
    assert survey.inlines.tolist() == list(range(10, 17)) and survey.crosslines.tolist() == list(range(20, 29))
    assert survey.start == -8 and survey.words == (181, 77)
    with pytest.raises(
        ValueError, match=r"derived from data.inline_byte=181 \(7 different numbers\) and .*=197 \(1 diff"
    ):
        open_survey(path, 181, 197)


def test_named_bytes_win(save):
    other = {5: np.repeat(range(9), 7), 21: np.tile(range(7), 9)}
    path = save(volume(headers=other))
    assert open_survey(path).trace_of.shape == (7, 9) and open_survey(path, 5, 21).trace_of.shape == (9, 7)


@pytest.mark.parametrize(
    "named, message", [((189, None), "both"), ((0, 193), "data.inline_byte=0"), ((9, 238), "1 to 237")]
)
def test_bytes_that_cannot_be(save, named, message):
    with pytest.raises(ValueError, match=message):
        open_survey(save(volume()), *named)


@everywhere
def test_the_interval_and_the_start(save, order, caplog):
    made = volume(headers={109: np.r_[0, np.full(61, 100), 120], 117: np.full(63, 2500)})
    found = open_survey(save(made, order=order))
    assert (found.interval, found.start) == (4, 100)
    assert "start at different times (bytes 109), 0 to 120 ms" in caplog.text
    nothing = {3217: ("h", 0)}.items()
    assert open_survey(save(made, order=order, binary=nothing)).interval == 2.5
    assert open_survey(save(volume(), order=order, binary=nothing)).interval is None


@everywhere
def test_coordinates_are_scaled(save, order):
    n = np.arange(63)
    x, y, scalar = 500_000 + 25 * n, 7 * n - 40, np.resize([-100, 10, 0, 1, -1], 63)
    factor = np.array([{-100: 0.01, 10: 10, 0: 1, 1: 1, -1: 1}[s] for s in scalar.tolist()])
    for words in ((181, 185), (73, 77)):
        survey = open_survey(save(volume(headers={words[0]: x, words[1]: y, 71: scalar}), order=order))
        np.testing.assert_allclose(survey.coordinates(n[::-2]), ((x * factor)[::-2], (y * factor)[::-2]), rtol=1e-15)
    with segyio.open(str(survey.path), endian={">": "big", "<": "little"}[order]) as file:
        assert file.attributes(73)[:].tolist() == x.tolist()


GATHERS = {
    "survey": (volume(headers={37: np.resize([0, 50, 100], 63)}), 3, "inline 10, crossline 20 has 3 traces"),
    "before revision 1": (volume(words=(9, 21)), 4, "inline 10, crossline 20 has 4 traces"),
    "line": (volume([7], range(300, 340), headers={21: np.arange(40)}), 6, "CDP 0 has 6 traces"),
}


@everywhere
@pytest.mark.parametrize("kind", GATHERS)
def test_gathers_are_refused(save, kind, order):
    one, fold, message = GATHERS[kind]
    rows = np.repeat(np.arange(len(one.places)), fold)
    headers = {byte: column[rows] for byte, column in one.headers.items()} | {37: 50 * (np.arange(len(rows)) % fold)}
    path = save(Volume(one.places[rows], one.traces[rows], headers, one.words), order=order)
    words = f"survey.sgy: {message}, as gathers have, expected one: stack them first$"
    for read in (open_survey, is_volume):
        with pytest.raises(ValueError, match=words):
            read(path)


@everywhere
@pytest.mark.parametrize("record", [9, 17])
def test_shots_are_no_survey(save, record, order):
    path = save(volume(words=(record, 13), headers={37: 50 * (np.arange(63) % 9)}), order=order)
    with pytest.raises(ValueError, match="geometry cannot be derived"):
        open_survey(path)


@pytest.mark.parametrize("offset", [0, 50])
def test_gathers_at_named_bytes_are_refused_even_without_offsets(save, offset):
    one, rows = volume(words=(181, 77)), np.arange(630) // 10
    path = save(Volume(one.places[rows], one.traces[rows], {37: offset * np.arange(630)}, one.words))
    with pytest.raises(ValueError, match="inline 10, crossline 20 has 10 traces"):
        open_survey(path, 181, 77)


def test_one_gather_among_many_places_is_named(save):
    rows = np.r_[0:63, np.repeat(17, 10)]
    one = volume()
    path = save(Volume(one.places[rows], one.traces[rows], {37: np.r_[np.zeros(63), 1:11]}))
    with pytest.raises(ValueError, match="inline 11, crossline 28 has 11 traces"):
        open_survey(path)


@everywhere
@pytest.mark.parametrize("line", LINES)
def test_a_line_is_no_volume(save, line, order):
    path = save(segy(IMAGE, 3, order, headers=LINES[line]))
    assert not is_volume(path)
    with pytest.raises(ValueError, match="geometry cannot be derived"):
        open_survey(path)


@pytest.mark.parametrize("pair", PAIRS[:2])
def test_constant_words_are_refused(save, pair):
    path = save(volume(words=(181, 185), headers=dict.fromkeys(pair, np.full(63, 5))))
    for named in ((), pair):
        with pytest.raises(ValueError, match="geometry cannot be derived"):
            open_survey(path, *named)


def test_words_that_span_too_large_a_grid_are_refused(save):
    wide = volume(range(1000), [5], headers={25: np.arange(1000)}, n_samples=1)
    with pytest.raises(ValueError, match="1,000 traces make no grid"):
        open_survey(save(wide), 189, 25)


@pytest.mark.parametrize("code", CODES)
def test_a_truncated_file_is_named(save, code):
    content = volume().content(code)
    with pytest.raises(ValueError, match=r"survey.sgy ends with .* bytes more than 62 traces of 12 samples"):
        open_survey(save(content[:-7]))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none.sgy cannot be read: No such file"):
        open_survey(tmp_path / "none.sgy")


def test_no_header_makes_the_memory_grow(save):
    """Whatever word of the headers is wrong, the answer is a survey of this size, or one line that tells it."""
    content = volume().content(3)
    for byte in range(3200, 3840, 2):
        changed = bytearray(content)
        changed[byte : byte + 2] = b"\xff\xff"
        try:
            survey = open_survey(save(bytes(changed)))
            assert survey.trace_of.size <= 80 and survey.layout.n_traces <= 63
        except ValueError as error:
            assert "survey.sgy" in str(error) and "\n" not in str(error)


def test_the_first_of_several_traces_at_a_place_counts():
    rng = np.random.default_rng(2)
    places, traces = rng.integers(0, 60, 500), np.sort(rng.permutation(2000)[:500])
    expected = [next((t for p, t in zip(places, traces, strict=True) if p == place), -1) for place in range(70)]
    assert first_at(places, traces, 70).tolist() == expected
