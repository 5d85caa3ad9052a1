"""Damaged TIFF files, and tags that lie: one line that says what is wrong, and little memory."""

import io
import re
import resource

import numpy as np
import pytest
import tiff_writer
from PIL import Image
from tiff_writer import LONG, SHORT, text, tiff

from salt.data.image import decode

BYTES = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
DAMAGED = "does not decode as a TIFF: "


def refused(data, message):
    with pytest.raises(ValueError) as caught:
        decode("a.tif", data)
    assert message in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({258: (SHORT, [5, 6, 5]), 277: (SHORT, [3])}, "has samples of (5, 6, 5) bits, expected the same number"),
        ({258: (SHORT, [64]), 339: (SHORT, [6])}, "has samples of 64 bits and the format COMPLEXIEEEFP"),
        ({258: (SHORT, [9]), 339: (SHORT, [3])}, "has samples of 9 bits and the format IEEEFP, expected real numbers"),
        ({259: (SHORT, [34887])}, "has the compression LERC, expected one of none, CCITT, LZW, JPEG, Deflate"),
        ({259: (SHORT, [4711])}, "has the compression 4711, expected one of"),
        ({262: (SHORT, [4711])}, "is in the colour space 4711"),
        ({317: (SHORT, [2])}, "has a predictor without the compression for it"),
        ({277: (SHORT, [900])}, "has 900 channels, expected a grey image"),
        ({256: (LONG, [20_000]), 257: (LONG, [20_000])}, "is too large: more than 178 million pixels"),
        ({322: (LONG, [1 << 20]), 323: (LONG, [1 << 20]), 324: (LONG, [8]), 325: (LONG, [9])}, "is too large"),
        ({257: (LONG, [0])}, DAMAGED + "a length is 0"),
        ({256: None}, DAMAGED + "a length is 0"),
        ({256: (SHORT, [50, 50])}, DAMAGED + "imagewidth is (50, 50), expected a number"),
        ({257: (LONG, [41])}, DAMAGED),
        ({258: (SHORT, [16])}, DAMAGED),
        ({278: (LONG, [20])}, DAMAGED + "it lists 1 of 2 blocks"),
        ({273: (LONG, [900_000])}, DAMAGED + "a block lies beyond the end of the file"),
        ({279: (LONG, [900_000])}, DAMAGED + "a block lies beyond the end of the file"),
        ({279: (LONG, [0])}, DAMAGED + "a block lies beyond the end of the file"),
        ({273: (LONG, [0]), 279: (LONG, [0])}, DAMAGED + "1 of 1 blocks were never written"),
        ({273: None}, DAMAGED),
        ({32997: (LONG, [3])}, "has 3 pages, expected one image"),
        ({262: (SHORT, [3])}, "has a palette of 0 colours, but the pixel value 255"),
        ({262: (SHORT, [3]), 320: (SHORT, [1, 2, 3, 4])}, "has a palette of 0 colours"),
    ],
)
def test_tags_that_lie(tags, message):
    refused(tiff(BYTES, tags=tags), message)


@pytest.mark.parametrize("compression", tiff_writer.COMPRESSIONS)
@pytest.mark.parametrize("layout", [{}, {"rows": 16}, {"tile": (16, 16)}])
def test_truncated_at_any_place(compression, layout):
    data = tiff(BYTES, compression=compression, **layout)
    for size in (*range(0, 20), *range(20, len(data) - 9, 97)):
        refused(data[:size], DAMAGED)
    assert np.array_equal(decode("a.tif", data), BYTES)


def test_blocks_that_are_shorter_than_the_tags_say():
    for compression in tiff_writer.COMPRESSIONS:
        data = tiff(BYTES[:39], compression=compression, tags={257: (LONG, [40]), 278: (LONG, [40])})
        refused(data, DAMAGED)


def test_blocks_never_written_are_missing_pixels_if_the_file_names_a_value_for_them():
    whole = tiff(BYTES, rows=10, compression="deflate")
    place = int(np.frombuffer(whole, "<u4", 1, 4)[0])
    offsets = np.frombuffer(whole, "<u4", 4, whole.index(np.array([8], "<u4").tobytes(), place + 120)).tolist()
    counts = [b - a for a, b in zip(offsets, [*offsets[1:], place], strict=True)]
    gaps = {273: (LONG, [0, *offsets[1:]]), 279: (LONG, [0, *counts[1:]])}
    refused(tiff(BYTES, rows=10, compression="deflate", tags=gaps), "1 of 4 blocks were never written")
    found = decode("a.tif", tiff(BYTES, rows=10, compression="deflate", tags={**gaps, 42113: text("3")}))
    assert found.mask[:10].all() and np.array_equal(found.mask[10:], BYTES[10:] == 3)
    assert np.array_equal(found.data[10:], BYTES[10:])


def test_jpeg_that_is_cut_short_or_larger_than_the_tags_say():
    stream = io.BytesIO()
    Image.fromarray(BYTES).save(stream, "TIFF", compression="jpeg")
    data, before = stream.getvalue(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    end = data.index(b"\xff\xd9")
    refused(data[: end - 200] + b"\0" * 202 + data[end + 2 :], "a block of JPEG is damaged or cut short")
    at = data.index(b"\xff\xc0") + 5
    refused(data[:at] + b"\xea\x60\xea\x60" + data[at + 4 :], "a block of JPEG is damaged or cut short")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


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
    refused(bytes(data[:link] + data[4:8] + data[link + 4 :]), "has 100 or more pages, expected one image")
    refused(tiff(*[BYTES] * 120), "has 100 or more pages, expected one image")
