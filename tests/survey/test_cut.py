"""A part of a survey: its geometry, and its results as a file of its own."""

import numpy as np
import pytest
from helpers.volumes import MADE, chosen, volume, with_duplicates

from salt.survey import layout
from salt.survey.geometry import cut_survey, open_survey
from salt.survey.read import read_block
from salt.survey.write import SurveyWriter, required_bytes


@pytest.fixture(params=[1 << 25, 1000], ids=["", "small windows"], autouse=True)
def windows(request, monkeypatch):
    monkeypatch.setattr(layout, "WINDOW", request.param)


def saved(path, made, **settings):
    path.write_bytes(made.content(**settings))
    return open_survey(path)


@pytest.mark.parametrize("kind", MADE)
def test_a_part_is_what_a_file_of_its_traces_would_be(tmp_path, kind):
    made = MADE[kind]
    whole = saved(tmp_path / "whole.sgy", made, noise=False, texts=[b"x" * 3200])
    inlines, crosslines = (lines[1:-1].tolist() or lines.tolist() for lines in (whole.inlines, whole.crosslines))
    lines = {"inline": (inlines[0], inlines[-1]), "crossline": (crosslines[0], crosslines[-1])}
    cut = cut_survey(whole, lines)
    inside = np.flatnonzero(np.isin(made.places[:, 0], inlines) & np.isin(made.places[:, 1], crosslines))
    part = chosen(made, inside)
    np.testing.assert_array_equal(cut.inlines, inlines)
    np.testing.assert_array_equal(cut.crosslines, crosslines)
    np.testing.assert_array_equal(cut.kept, inside)
    cube = dict(zip(map(tuple, made.places[::-1].tolist()), made.traces[::-1], strict=True))
    expected = [[cube.get((i, x), np.full(made.traces.shape[1], np.nan)) for x in crosslines] for i in inlines]
    np.testing.assert_array_equal(read_block(cut, 0, len(inlines)), expected)
    with SurveyWriter(cut, tmp_path / "out.sgy") as writer:
        for first in range(len(inlines)):
            writer.write_block(first, read_block(cut, first, first + 1))
    for row, place in enumerate(part.places.tolist()):
        part.traces[row] = cube[tuple(place)]
    content = bytearray(part.content(texts=[b"x" * 3200]))
    headers = made.content(texts=[b"x" * 3200])
    length = 240 + 4 * made.traces.shape[1]
    for row, trace in enumerate(inside.tolist()):  # the traces keep their sequence numbers
        start = 6800 + row * length
        content[start : start + 240] = headers[6800 + trace * length :][:240]
    assert (tmp_path / "out.sgy").read_bytes() == bytes(content)
    assert required_bytes(cut) == len(content)


def test_one_direction_is_enough_and_lines_must_be_there(tmp_path):
    survey = saved(tmp_path / "a.sgy", with_duplicates(volume(range(-8, 6, 2))))
    cut = cut_survey(survey, {"inline": (-4, 0)})
    assert cut.inlines.tolist() == [-4, -2, 0] and cut.crosslines.tolist() == survey.crosslines.tolist()
    assert cut_survey(survey, {}) is survey and survey.kept is None
    with pytest.raises(ValueError, match=r"a.sgy has no inline 3: its inlines are -8 to 4 in steps of 2"):
        cut_survey(survey, {"inline": (-4, 3)})
    with pytest.raises(ValueError, match=r"a.sgy has no crossline 7: its crosslines are 20 to 28$"):
        cut_survey(survey, {"crossline": (7, 28)})
