"""Colour spaces, palettes and transparency: grey as a viewer shows it, or one line that names what it is."""

import io
import re
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image
from tiff_writer import SHORT, tiff

from salt.data.image import decode, to_mask

BYTES = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
BYTES[0, 0], BYTES[0, 1] = 0, 255
RAMP = [(i, i, i) for i in range(256)]
DRAWN = (BYTES > 128).astype(np.uint8)
VOC = [(0, 0, 0), (128, 0, 0), (0, 128, 0)]


def saved(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png(rows, bits, colour_type, *chunks):
    """A PNG of rows of packed bytes, written chunk by chunk."""
    width = rows.shape[1] * 8 // (bits * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type])
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    head = struct.pack(">IIBBBBB", width, len(rows), bits, colour_type, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    coded = (struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(coded)


def palette_files(indices, colours):
    """One picture of a palette as PNG and TIFF."""
    image = Image.frombytes("P", indices.shape[::-1], indices.tobytes())
    image.putpalette([level for colour in colours for level in colour])
    padded = [*colours, *[(0, 0, 0)] * (256 - len(colours))]
    table = [257 * colour[i] for i in range(3) for colour in padded]
    yield "a.png", saved(image, "PNG")
    yield "a.tif", tiff(indices, tags={262: (SHORT, [3]), 320: (SHORT, table)})
    yield "a.tif", saved(image, "TIFF")


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_png_of_few_bits_is_as_bright_as_shown(bits):
    levels = (BYTES[:, :48] >> (8 - bits)).astype(np.uint8)
    rows = np.packbits((levels[..., None] >> np.arange(bits)[::-1] & 1).reshape(40, -1).astype(np.uint8), axis=1)
    expected = levels * (255 // (2**bits - 1))
    table = b"".join(bytes([255 - i * (255 // (2**bits - 1))] * 3) for i in range(2**bits))
    assert np.array_equal(decode("a.png", png(rows, bits, 0)), expected)
    assert np.array_equal(decode("a.png", png(rows, bits, 3, (b"PLTE", table))), 255 - expected)
    with pytest.raises(ValueError, match="transparent"):
        decode("a.png", png(rows, bits, 0, (b"tRNS", struct.pack(">H", 1))))
    if bits == 4:
        rows[rows == rows] = 0x22
        assert (decode("a.png", png(rows, bits, 0, (b"tRNS", struct.pack(">H", 1)))) == 34).all()


def test_transparency_is_said_of_transparency_alone():
    deep = BYTES.astype(np.uint16) * 257
    key = struct.pack(">H", 257 * 7)
    for data in (
        png(deep.astype(">u2").view(np.uint8), 16, 0, (b"tRNS", key)),
        saved(Image.fromarray(np.dstack([BYTES, 255 - BYTES]), "LA"), "PNG"),
        saved(Image.fromarray(np.dstack([BYTES] * 3)), "PNG", transparency=(7, 7, 7)),
        saved(Image.fromarray(BYTES).convert("P"), "PNG", transparency=7),
    ):
        with pytest.raises(ValueError, match="transparent"):
            decode("a.png", data)
    opaque = np.full_like(BYTES, 255)
    assert np.array_equal(decode("a.png", saved(Image.fromarray(np.dstack([BYTES, opaque]), "LA"), "PNG")), BYTES)
    for alpha in (1, 2):
        tags = {338: (SHORT, [alpha])}
        for array, full in ((BYTES, 255), (deep, 65535), (BYTES.astype("f4"), 1)):
            for colours in (1, 3):
                whole = np.dstack([array] * colours + [np.full_like(array, full)])
                assert np.array_equal(decode("a.tif", tiff(whole, tags=tags)), array)
                whole[0, 0, -1] = 0
                with pytest.raises(ValueError, match="transparent"):
                    decode("a.tif", tiff(whole, tags=tags))
    for extra in ({338: (SHORT, [0])}, {}):  # a channel of no said meaning
        for n in (2, 4):
            data = tiff(np.dstack([BYTES] * (n - 1) + [255 - BYTES]), tags=extra)
            with pytest.raises(ValueError, match=f"its {n} channels differ"):
                decode("a.tif", data)
            assert np.array_equal(decode("a.tif", tiff(np.dstack([BYTES] * (n - 1) + [opaque]), tags=extra)), BYTES)


def test_a_grey_palette_is_read_as_shown():
    for colours, expected in ((RAMP, BYTES), (RAMP[::-1], 255 - BYTES)):
        for name, data in palette_files(BYTES, colours):
            assert np.array_equal(decode(name, data), expected)
    low = [i for _ in range(3) for i in range(256)]  # some writers fill the lower byte of TIFF's 16 bits alone
    assert np.array_equal(decode("a.tif", tiff(BYTES, tags={262: (SHORT, [3]), 320: (SHORT, low)})), BYTES)


def test_masks_with_a_palette():
    for name, data in palette_files(DRAWN, VOC):
        assert np.array_equal(to_mask(decode(name, data, mask=True)), DRAWN)
        with pytest.raises(ValueError, match="palette of colours"):
            decode(name, data)
    for name, data in palette_files(DRAWN * 2, VOC):
        assert np.unique(decode(name, data, mask=True)).tolist() == [0, 2]
    for name, data in palette_files(DRAWN, [(255, 255, 255), (0, 0, 0)]):  # black on white is white on black
        assert np.array_equal(to_mask(decode(name, data, mask=True)), 1 - DRAWN)
    for name, data in palette_files(DRAWN, [(255, 0, 0), (0, 0, 0)]):
        with pytest.raises(ValueError, match="not black"):
            decode(name, data, mask=True)
    for name, data in palette_files(BYTES % 3, VOC):
        with pytest.raises(ValueError, match=re.escape("[0, 1, 2]")):
            to_mask(decode(name, data, mask=True))


def test_masks_drawn_white_is_zero_are_read_as_shown():
    tags = {262: (SHORT, [0])}
    for drawn in (DRAWN * 255, DRAWN.astype("u2") * 65535):
        assert np.array_equal(to_mask(decode("a.tif", tiff(drawn, tags=tags), mask=True)), 1 - DRAWN)
    for code in ("i2", "f4"):  # 0 and the other value change places
        drawn = tiff(DRAWN.astype(code), tags=tags)
        assert np.array_equal(to_mask(decode("a.tif", drawn, mask=True)), 1 - DRAWN)
    varied = np.arange(-600, 600).reshape(30, 40)
    assert np.array_equal(decode("a.tif", tiff(varied.astype("i2"), tags=tags), smallest=1), -1 - varied)
    assert np.array_equal(decode("a.tif", tiff(varied.astype("f4"), tags=tags), smallest=1), -varied)
    bilevel = tiff(DRAWN, bits=1, tags=tags)
    assert np.array_equal(to_mask(decode("a.tif", bilevel, mask=True)), 1 - DRAWN)
    with pytest.raises(ValueError, match=re.escape("[254, 255]")):
        to_mask(decode("a.tif", tiff(DRAWN, tags=tags), mask=True))


@pytest.mark.parametrize(
    ("photometric", "n", "name"),
    [(5, 4, "CMYK"), (8, 3, "CIELAB"), (8, 1, "CIELAB"), (9, 3, "ICCLAB")],
)
def test_other_colour_spaces_of_tiff_are_named(photometric, n, name):
    data = tiff(np.dstack([BYTES] * n), tags={262: (SHORT, [photometric])})
    with pytest.raises(ValueError, match=f"its colour space is {name}"):
        decode("a.tif", data)


def test_tiff_without_the_tag_is_black_is_zero_or_rgb():
    for n in (1, 3):
        assert np.array_equal(decode("a.tif", tiff(np.dstack([BYTES] * n), tags={262: None})), BYTES)


def test_jpeg():
    smooth = cv2.GaussianBlur(BYTES, (0, 0), 3)
    colours = np.dstack([smooth, smooth, 255 - smooth])
    ycbcr = decode("a.jpg", saved(Image.fromarray(np.dstack([smooth] * 3)), "JPEG", quality=100))
    np.testing.assert_allclose(ycbcr.astype(int), smooth.astype(int), atol=3)
    with pytest.raises(ValueError, match="in colour"):
        decode("a.jpg", saved(Image.fromarray(colours), "JPEG"))
    for mode in ("CMYK", "YCCK"):
        data = saved(Image.fromarray(smooth).convert("CMYK"), "JPEG")
        if mode == "YCCK":  # Adobe's marker says how the four channels are coded
            at = data.index(b"Adobe")
            data = data[: at + 11] + b"\2" + data[at + 12 :]
        with pytest.raises(ValueError, match="CMYK"):
            decode("a.jpg", data)


def test_arrays_with_channels():
    def npy(array):
        stream = io.BytesIO()
        np.save(stream, array)
        return stream.getvalue()

    amplitudes = BYTES / 7
    amplitudes[3, 4] = np.nan
    for n in (1, 2, 3, 4):
        found = decode("a.npy", npy(np.dstack([amplitudes] * n).astype(">f4")))
        assert found.dtype == np.float32 and found.dtype.isnative
        np.testing.assert_array_equal(found, amplitudes.astype("f4"))
        with pytest.raises(ValueError, match="channels differ"):
            decode("a.npy", npy(np.dstack([amplitudes] * n + [-amplitudes])[..., -max(n, 2) :]))
