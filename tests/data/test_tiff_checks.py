"""Damaged TIFF files, and tags that lie: one line that says what is wrong."""

import re

import numpy as np
import pytest
import tiff_writer
from tiff_writer import LONG, SHORT, text, tiff

from salt.data.image import decode

BYTES = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)


def refused(data, message=""):
    with pytest.raises(ValueError) as caught:
        decode("a.tif", data)
    assert "cannot be read" in str(caught.value) and message in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({258: (SHORT, [5, 6, 5]), 277: (SHORT, [3])}, "(5, 6, 5) bits"),
        ({258: (SHORT, [64]), 339: (SHORT, [6])}, "64 bits and the format COMPLEXIEEEFP"),
        ({258: (SHORT, [9]), 339: (SHORT, [3])}, "9 bits and the format IEEEFP"),
        ({259: (SHORT, [4711])}, "4711"),
        ({262: (SHORT, [4711])}, "4711"),
        ({277: (SHORT, [900])}, ""),
        ({256: (LONG, [20_000]), 257: (LONG, [20_000])}, "truncated"),
        ({322: (LONG, [1 << 20]), 323: (LONG, [1 << 20]), 324: (LONG, [8]), 325: (LONG, [9])}, ""),
        ({257: (LONG, [0])}, ""),
        ({256: None}, ""),
        ({256: (SHORT, [50, 50])}, ""),
        ({257: (LONG, [41])}, ""),
        ({258: (SHORT, [16])}, ""),
        ({278: (LONG, [20])}, "truncated, or some of its 2 blocks"),
        ({273: (LONG, [900_000])}, "truncated"),
        ({279: (LONG, [900_000])}, "truncated"),
        ({279: (LONG, [0])}, "truncated"),
        ({273: (LONG, [0]), 279: (LONG, [0])}, "never written"),
        ({273: None}, ""),
        ({32997: (LONG, [3])}, ""),
        ({262: (SHORT, [3])}, ""),
        ({262: (SHORT, [3]), 320: (SHORT, [1, 2, 3] * 9)}, "palette has 9 colours"),
    ],
)
def test_tags_that_lie(tags, message):
    refused(tiff(BYTES, tags=tags), message)


@pytest.mark.parametrize("compression", tiff_writer.COMPRESSIONS)
@pytest.mark.parametrize("layout", [{}, {"rows": 16}, {"tile": (16, 16)}])
def test_truncated_at_any_place(compression, layout):
    data = tiff(BYTES, compression=compression, **layout)
    for size in (*range(0, 20), *range(20, len(data) - 9, 97)):
        refused(data[:size])
    assert np.array_equal(decode("a.tif", data), BYTES)


def test_blocks_that_are_shorter_than_the_tags_say():
    for compression in tiff_writer.COMPRESSIONS:
        data = tiff(BYTES[:39], compression=compression, tags={257: (LONG, [40]), 278: (LONG, [40])})
        refused(data)


def test_any_damaged_byte_is_one_line_or_other_pixels():
    random = np.random.default_rng(1)
    for options in ({}, {"rows": 7, "compression": "deflate"}, {"tile": (16, 16), "big": True}, {"order": ">"}):
        sound = tiff(BYTES, **options, tags={42113: text("7"), 270: text("ImageJ=1.53t\nimages=1\n")})
        for _ in range(150):
            data = bytearray(sound)
            for place in random.integers(0, len(data), 3) if random.random() < 0.5 else random.integers(-400, 0, 2):
                data[place] = random.integers(0, 256)
            try:
                found = decode("a.tif", bytes(data))
            except ValueError as error:
                assert not re.search(r"\n|Traceback|<.*object", str(error))
            else:
                assert found.ndim == 2


def test_directories_in_a_circle_and_in_their_hundreds():
    data = bytearray(tiff(BYTES, BYTES[::2, ::2], pages=({}, {"tags": {254: (LONG, [1])}})))
    first = int(np.frombuffer(data, "<u4", 1, 4)[0])
    n_tags = int(np.frombuffer(data, "<u2", 1, first)[0])
    second = int(np.frombuffer(data, "<u4", 1, first + 2 + 12 * n_tags)[0])
    link = second + 2 + 12 * (n_tags + 1)
    refused(bytes(data[:link] + data[4:8] + data[link + 4 :]), "pages, expected one image")
    refused(tiff(*[BYTES] * 120), "pages, expected one image")
