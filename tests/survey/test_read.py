"""Lines and blocks of a survey against the samples it was made of, and against segyio's own cube."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.segy import CODES, TYPES, segy
from helpers.volumes import MADE, by_crosslines, chosen, volume, with_holes

from salt.survey import layout
from salt.survey.geometry import open_survey
from salt.survey.read import read_block, read_line_of

segyio = pytest.importorskip("segyio")

ORDERS = {">": "big", "<": "little"}
everywhere = pytest.mark.parametrize("order", ORDERS)


@pytest.fixture
def opened(tmp_path):
    def write(made, **settings):
        path = tmp_path / "survey.sgy"
        path.write_bytes(made if isinstance(made, bytes) else made.content(**settings))
        return open_survey(path)

    return write


@pytest.fixture(params=[1 << 25, 1000], ids=["", "small windows"])
def windows(request, monkeypatch):
    """The file is mapped as a whole, or three traces at a time."""
    monkeypatch.setattr(layout, "WINDOW", request.param)


@everywhere
@pytest.mark.parametrize("kind", MADE)
def test_lines_and_blocks_are_those_of_the_cube(opened, windows, kind, order):
    survey = opened(MADE[kind], code=3, order=order)
    inlines, crosslines, cube = MADE[kind].cube()
    np.testing.assert_array_equal(read_block(survey, 0, len(inlines)), cube)
    np.testing.assert_array_equal(read_block(survey, 1, 2), cube[1:2])
    np.testing.assert_array_equal(read_block(survey, 1, 4, "crossline"), cube[:, 1:4].transpose(1, 0, 2))
    for i, number in enumerate(inlines):
        np.testing.assert_array_equal(read_line_of(survey, "inline", number), cube[i].T)
    for i, number in enumerate(crosslines):
        line = read_line_of(survey, "crossline", number)
        np.testing.assert_array_equal(line, cube[:, i].T)
        assert line.dtype == np.float32


@everywhere
@pytest.mark.parametrize("code", CODES)
def test_every_format_is_read_as_segyio_reads_it(opened, windows, code, order):
    made = by_crosslines(volume(range(16, 9, -1)))
    sign = 1 if code != 1 and TYPES[code][0] == "u" else -1
    made.traces = made.traces * (sign / 7 if code in (1, 5, 6) else sign)
    survey = opened(made, code=code, order=order)
    found = read_block(survey, 0, 7)
    np.testing.assert_allclose(found, made.cube()[2], rtol=1e-6)
    assert found.dtype == np.float32
    with segyio.open(str(survey.path), endian=ORDERS[order]) as file:
        assert file.sorting == segyio.TraceSortingFormat.CROSSLINE_SORTING
        cube = segyio.tools.cube(file).transpose(1, 0, 2)
        assert (file.ilines == survey.inlines[::-1]).all() and (file.xlines == survey.crosslines).all()
    np.testing.assert_array_equal(found, cube[::-1].astype(np.float32))


def test_numbers_too_large_for_32_bits_stay(opened, windows):
    made = volume()
    made.traces = made.traces * 1e300
    np.testing.assert_array_equal(read_block(opened(made, code=6), 0, 7), made.cube()[2])
    made.traces[:30] = 1  # in another window
    found = read_block(opened(made, code=6), 0, 7)
    np.testing.assert_array_equal(found, made.cube()[2])
    assert found.dtype == np.float64 and read_block(opened(made, code=6), 0, 2).dtype == np.float32


def test_infinity_is_no_reason_for_64_bits(opened):
    made = volume()
    made.traces = made.traces.astype(float)
    made.traces[5, 3], made.traces[5, 4] = np.inf, np.nan
    found = read_block(opened(made, code=6), 0, 7)
    assert found.dtype == np.float32 and np.isinf(found[0, 5, 3]) and np.isnan(found[0, 5, 4])
    assert np.isnan(found).sum() == 1


def test_large_integers_are_rounded_to_32_bits(opened):
    made = volume()
    made.traces = made.traces + 2**30
    found = read_block(opened(made, code=2), 0, 7)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, made.cube()[2].astype(np.float32))


@everywhere
@pytest.mark.parametrize("code", CODES)
def test_dead_traces_are_missing(opened, code, order):
    made = volume(headers={29: np.where(np.arange(63) == 20, 2, 1)})
    made.traces[[7, 50]] = 0
    expected = made.cube()[2].reshape(63, -1)
    expected[[7, 20, 50]] = np.nan
    np.testing.assert_array_equal(read_block(opened(made, code=code, order=order), 0, 7).reshape(63, -1), expected)


def test_an_unknown_line_is_named_with_those_there_are(opened):
    survey = opened(volume(range(100, 114, 2), (1, 2, 5, 6)))
    with pytest.raises(ValueError, match=r"survey.sgy has no inline 101: its inlines are 100 to 112 in steps of 2$"):
        read_line_of(survey, "inline", 101)
    with pytest.raises(ValueError, match=r"survey.sgy has no crossline 3: its crosslines are 1 to 6 with gaps$"):
        read_line_of(survey, "crossline", 3)
    with pytest.raises(ValueError, match=r"has no crossline 100: its crosslines are 20 to 28$"):
        read_line_of(opened(volume()), "crossline", 100)


def test_a_place_of_a_duplicate_has_the_first_trace(opened):
    made = volume()
    rows = np.r_[0:63, 5]
    doubled = chosen(made, rows)
    doubled.traces[63] = 99
    survey = opened(doubled)
    np.testing.assert_array_equal(read_line_of(survey, "inline", 10)[:, 5], made.traces[5])


def test_extended_texts_and_data_behind_the_traces(opened):
    made = with_holes(volume())
    second = {3501: ("H", 0x0200), 3529: ("i", 1)}.items()
    content = made.content(binary=second, texts=[b"x" * 3200] * 2, tail=b"y" * 3200)
    np.testing.assert_array_equal(read_block(opened(content), 0, 7), made.cube()[2])


def test_headers_full_of_noise_do_no_harm(opened):
    made = volume(headers={29: np.ones(63), 109: np.zeros(63)})
    np.testing.assert_array_equal(read_block(opened(made, noise=True, order="<"), 0, 7), made.cube()[2])


def test_volume_of_the_helpers_is_what_segyio_writes(tmp_path):
    """The helpers write byte by byte; segyio's own file of the same cube is read alike."""
    made = volume()
    spec = segyio.spec()
    spec.ilines, spec.xlines, spec.samples = range(10, 17), range(20, 29), range(12)
    spec.sorting, spec.format = 2, 1
    with segyio.create(str(tmp_path / "theirs.sgy"), spec) as file:
        for i, ((inline, crossline), trace) in enumerate(zip(made.places, made.traces, strict=True)):
            file.header[i] = {segyio.su.iline: inline, segyio.su.xline: crossline}
            file.trace[i] = trace.astype(np.float32)
    survey = open_survey(tmp_path / "theirs.sgy")
    np.testing.assert_array_equal(read_block(survey, 0, 7), made.cube()[2])
    assert survey.inlines.tolist() == [*range(10, 17)] and survey.crosslines.tolist() == [*range(20, 29)]


LIMITED = """
import resource, sys
from pathlib import Path
from salt.survey.geometry import open_survey
from salt.survey.read import read_block
pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
limit = pages * resource.getpagesize() + 300 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
survey = open_survey(Path(sys.argv[1]))
for direction in ("inline", "crossline"):
    assert read_block(survey, 3, 5, direction).shape == (2, 64, 65000)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_follows_the_block_not_the_file(tmp_path):
    """The geometry and blocks are read in an address space with 300 MiB left, the file has 1 GiB."""
    path = tmp_path / "survey.sgy"
    made = volume(range(64), range(64), n_samples=1)
    content = segy(np.zeros((65000, 1)))
    header = bytearray(content[3600:3840])
    with path.open("wb") as file:  # its samples are holes in the file, which take no space on the disk
        file.write(content[:3600])
        for i, place in enumerate(made.places):
            header[188:196] = place.astype(">i4").tobytes()
            file.seek(3600 + i * (240 + 4 * 65000))
            file.write(header)
        file.truncate(3600 + len(made.places) * (240 + 4 * 65000))
    subprocess.run([sys.executable, "-c", LIMITED, path], check=True)
