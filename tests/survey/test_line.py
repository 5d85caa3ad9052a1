"""SEG-Y: every sample format in both byte orders, lines told from surveys, broken files, and what is written."""

import re

import numpy as np
import pytest
from helpers.segy import CODES, IMAGE, LINES, TYPES, segy, to_ibm

from salt.survey.line import numbers_of_line, read_line, write_like

segyio = pytest.importorskip("segyio")

ORDERS = {">": "big", "<": "little"}
NO_LINES = {
    "survey": (
        {"inline": lambda i: 10 + i // 12, "crossline": lambda i: 20 + 2 * (i % 12)},
        "is a 3-D survey of 7 inlines and 12 crosslines, expected one line",
    ),
    "two inlines": ({"inline": lambda i: i // 42, "crossline": lambda i: i % 42}, "of 2 inlines and 42 crosslines"),
    "survey with gaps": (
        {"inline": lambda i: (i + i // 3) // 15, "crossline": lambda i: (i + i // 3) % 15},
        "is a 3-D survey of 8 inlines and 15 crosslines",
    ),
    "survey before revision 1": (
        {"record": lambda i: i % 7, "cdp": lambda i: i // 7},
        "is a 3-D survey of 7 field records and 12 CDPs",
    ),
    "survey before the stack": (
        {"inline": lambda i: i // 28, "crossline": lambda i: i % 28 // 4, "offset": lambda i: i % 4},
        "is a 3-D survey of 3 inlines and 7 crosslines",
    ),
    "gathers": (
        {
            "inline": lambda i: 1,
            "crossline": lambda i: i // 6,
            "cdp": lambda i: i // 6,
            "offset": lambda i: 50 * (i % 6),
        },
        "is a set of 14 gathers of several offsets, expected one line; stack them first",
    ),
    "shots": (
        {"record": lambda i: i // 12, "channel": lambda i: i % 12, "offset": lambda i: 50 * (i % 12)},
        "is a set of shots of 7 field records and 12 channels, expected one line",
    ),
}
everywhere = pytest.mark.parametrize("order", ORDERS)
every_format = pytest.mark.parametrize("code", CODES)


def amplitudes(code):
    return IMAGE - 50 if code != 1 and TYPES[code][0] != "u" else IMAGE


@pytest.fixture
def save(tmp_path):
    def write(content):
        (tmp_path / "line.sgy").write_bytes(content)
        return tmp_path / "line.sgy"

    return write


@every_format
@everywhere
@pytest.mark.parametrize("line", LINES)
def test_a_line_is_read_whatever_its_words_say(save, code, order, line):
    image = amplitudes(code) if code != 1 else IMAGE / 7 - 5
    found = read_line(save(segy(image, code, order, headers=LINES[line])))
    assert found.shape == image.shape and found.dtype in (np.float32, np.float64)
    np.testing.assert_allclose(found, image, rtol=1e-6 if code == 1 else 0)


@every_format
@everywhere
@pytest.mark.parametrize("kind", NO_LINES)
def test_what_is_no_line_is_refused(save, code, order, kind):
    headers, message = NO_LINES[kind]
    with pytest.raises(ValueError, match=message):
        read_line(save(segy(amplitudes(code), code, order, headers=headers)))


@every_format
@everywhere
def test_segyio_reads_the_same(save, code, order):
    path = save(segy(amplitudes(code), code, order))
    with segyio.open(str(path), ignore_geometry=True, endian=ORDERS[order]) as file:
        np.testing.assert_array_equal(read_line(path), file.trace.raw[:].T)


def test_ibm_floats_of_every_size(save):
    known = {0xC276A000: -118.625, 0x42640000: 100.0, 0x40000001: 2.0**-24, 0x80000000: 0.0, 0x00FFFFFF: 0.0}
    words = np.array(list(known), ">u4").view(">f4")[:, None]
    content = bytearray(segy(words, 5))
    content[3224:3226] = b"\0\1"
    found = read_line(save(bytes(content)))
    assert found[:, 0].tolist() == list(known.values()) and found.dtype == np.float32
    content[-4:] = b"\x7f\xff\xff\xff"  # more than 32 bits hold
    assert float(read_line(save(bytes(content)))[-1, 0]) == (1 - 2**-24) * 16.0**63
    assert [to_ibm(value) for value in (-118.625, 100.0)] == [0xC276A000, 0x42640000]


def test_large_numbers_stay_exact_and_nan_stays(save):
    large = np.array([[2**31 - 1, -(2**31) + 1, 16777217]])
    assert read_line(save(segy(large, 2)))[0].tolist() == large[0].tolist()
    doubles = np.array([[1e300, np.nan, 1 / 3]])
    np.testing.assert_array_equal(read_line(save(segy(doubles, 6, "<"))), doubles)


END = "((SEG: EndText))".ljust(3200)
TEXTS = {
    "garbage": [bytes(range(256)) * 12 + bytes(128)],
    "blank": [b" " * 3200] * 2,
    "variable, EBCDIC": [b"x" * 3200, END.encode("cp037")],
    "variable, ASCII": [END.encode()],
}


@everywhere
@pytest.mark.parametrize("kind", TEXTS)
def test_extended_text_headers(save, order, kind):
    binary = {3505: ("h", -1)} if kind.startswith("variable") else {}
    np.testing.assert_array_equal(read_line(save(segy(IMAGE, 3, order, binary.items(), texts=TEXTS[kind]))), IMAGE)


SECOND = {3501: ("H", 0x0200)}  # revision
SOUND = {
    "junk before revision 1": {"binary": {3501: ("H", 0), 3505: ("h", 16448)}},
    "a number of texts without texts": {"binary": {3505: ("h", 2)}},
    "variable, and none": {"binary": {3505: ("h", -1)}},
    "the traces alone know": {"binary": {3221: ("H", 0)}},
    "the binary header alone knows": {"n_samples": lambda i: 0},
    "dead traces of no samples": {"n_samples": lambda i: 30 * (i % 3 > 0)},
    "cut, in the binary header alone": {"n_samples": lambda i: 60},
    "cut, in the traces alone": {"binary": {3221: ("H", 60)}},
    "many samples": {"binary": SECOND | {3221: ("H", 0), 3269: ("I", 30)}, "n_samples": lambda i: 0},
    "revision 2, far first trace": {"binary": SECOND | {3521: ("Q", 3700)}, "between": bytes(100)},
    "revision 2, data behind": {"binary": SECOND | {3529: ("i", 2)}, "tail": b"x" * 6400},
    "no trace numbers": {"headers": {"sequence": lambda i: 0}},
}


@everywhere
@pytest.mark.parametrize("kind", SOUND)
def test_headers_that_are_wrong_in_one_place(save, order, kind):
    settings = SOUND[kind] | {"binary": SOUND[kind].get("binary", {}).items()}
    path = save(segy(IMAGE, 3, order, **settings))
    np.testing.assert_array_equal(read_line(path), IMAGE)
    write_like(path, path.with_name("out.sgy"), IMAGE)
    assert path.with_name("out.sgy").read_bytes() == segy(IMAGE, 5, order, **settings)


SHORT = segy(IMAGE, 3)
BROKEN = {
    "empty": (b"", "has 0 bytes"),
    "short": (SHORT[:3599], "has 3599 bytes, fewer than the 3600"),
    "no traces": (SHORT[:3600], "no traces"),
    "no traces after texts": (segy(IMAGE[:, :0], texts=[b" " * 3200]), "no traces"),
    "text": (b"x,y,z\n" * 1000, "sample format code"),
    "format 0": (segy(IMAGE, binary={3225: ("h", 0)}.items()), "sample format code 0 in bytes 3225-3226"),
    "format 4": (segy(IMAGE, binary={3225: ("h", 4)}.items()), "sample format code 4 in bytes 3225-3226"),
    "format 7": (segy(IMAGE, binary={3225: ("h", 7)}.items()), "sample format code 7"),
    "cut in the first trace": (SHORT[:3880], "ends with 280 bytes more than 0 traces of 30 samples"),
    "cut": (SHORT[:-50], "ends with 250 bytes more than 83 traces of 30 samples"),
    "bytes behind": (SHORT + b"x" * 77, f"ends with 77 bytes more than 84 traces .* head -c {len(SHORT)} FILE"),
    "no samples": (segy(IMAGE[:0]), "0 samples"),
    "contradiction": (
        segy(IMAGE, 3, binary={3221: ("H", 31)}.items(), n_samples=lambda i: 29),
        r"traces of 31 samples \(its headers say 31 or 29\)",
    ),
    "several lengths": (
        segy(IMAGE[:, :1], 3) + segy(IMAGE[:20, :1], 3)[3600:] + segy(IMAGE[:, :9], 3)[3600:],
        "several lengths",
    ),
    "lengths that fit by chance": (
        segy(IMAGE[:20, :1], 3) + segy(np.zeros((40, 1)), 3)[3600:],
        "several lengths",
    ),
    "odd trace headers": (segy(IMAGE, 3, n_samples=lambda i: 30 + i % 7), "30 samples in the binary header"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_broken_is_named_in_one_line(save, kind):
    content, message = BROKEN[kind]
    with pytest.raises(ValueError, match=message) as caught:
        read_line(save(content))
    assert "\n" not in str(caught.value)


def test_no_header_makes_the_memory_grow(save):
    """Whatever word of the headers is wrong, the answer is an image no larger than the file, or a ValueError."""
    content = segy(IMAGE[:, :20], 3)
    for byte in range(3200, 3840, 2):
        for word in (b"\xff\xff", b"\x7f\xff", b"\0\0"):
            changed = bytearray(content)
            changed[byte : byte + 2] = word
            try:
                assert read_line(save(bytes(changed))).size <= len(content)
            except ValueError as error:
                assert re.match("has|is|says|ends", str(error))


@every_format
@everywhere
@pytest.mark.parametrize("texts", [[], [b"\1" * 3200, b"\2" * 3200]], ids=["", "texts"])
def test_every_other_byte_is_kept(save, code, order, texts):
    binary = {3501: ("H", 0x0100)}.items()
    path = save(segy(amplitudes(code), code, order, binary, (), texts, noise=True))
    first = 3600 + 3200 * len(texts)
    assert len(set(path.read_bytes()[first + 232 : first + 240])) > 1  # bytes 233-240 of the first header are random
    probability = np.random.default_rng(1).random(IMAGE.shape).astype(np.float32)
    out = path.with_name("out.sgy")
    write_like(path, out, probability)
    assert out.read_bytes() == segy(probability, 5, order, binary, (), texts, noise=True)
    np.testing.assert_array_equal(read_line(out), probability)
    with segyio.open(str(out), ignore_geometry=True, endian=ORDERS[order]) as file:
        np.testing.assert_array_equal(file.trace.raw[:].T, probability)
        assert int(file.format) == 5 and file.ext_headers == len(texts)


@pytest.mark.parametrize(
    ("kind", "direction", "number", "byte"),
    [("an inline", "inline", 7, "crossline"), ("a crossline", "crossline", 7, "inline")],
)
def test_the_headers_of_an_extracted_line_say_which_it_is(save, kind, direction, number, byte):
    before = {"record": LINES[kind]["inline"], "cdp": LINES[kind]["crossline"]}  # revision 1
    for headers in (LINES[kind], before):
        found = numbers_of_line(save(segy(IMAGE, headers=headers)))
        assert found[:2] == (direction, number) and found[2].tolist() == [LINES[kind][byte](i) for i in range(84)]


@pytest.mark.parametrize("kind", [kind for kind in LINES if kind not in ("an inline", "a crossline")])
def test_the_headers_of_other_lines_say_nothing(save, kind):
    assert numbers_of_line(save(segy(IMAGE, headers=LINES[kind]))) is None
