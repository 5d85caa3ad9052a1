"""TIFF files written byte by byte, by no library, for the tests that read them."""

import itertools
import math
import struct
import zlib

import numpy as np

SHORT, LONG, LONG8 = 3, 4, 16
CODES = {2: ("H", SHORT), 4: ("I", LONG), 8: ("Q", LONG8)}
SIZES = {1: 1, 2: 1, SHORT: 2, LONG: 4, LONG8: 8}
LETTERS = {1: "B", 2: "B", SHORT: "H", LONG: "I", LONG8: "Q"}
FORMATS = {"u": 1, "b": 1, "i": 2, "f": 3}
COMPRESSIONS = {"none": 1, "deflate": 8}


def packed(block, bits):
    """The bytes of a block (H W C) of samples of fewer bits than a byte, or of 12; rows begin at whole bytes."""
    flat = block.reshape(len(block), -1).astype(np.uint16)
    places = (flat[..., None] >> np.arange(bits)[::-1]) & 1
    return np.packbits(places.reshape(len(block), -1).astype(np.uint8), axis=1).tobytes()


def cut(array, rows, tile):
    """The blocks of an image (H W C): strips of rows, or tiles (h, w) that are filled up with zeros."""
    if tile is None:
        return [array[i : i + rows] for i in range(0, len(array), rows)]
    h, w = tile
    full = np.zeros((math.ceil(array.shape[0] / h) * h, math.ceil(array.shape[1] / w) * w, array.shape[2]), array.dtype)
    full[: array.shape[0], : array.shape[1]] = array
    return [full[i : i + h, j : j + w] for i in range(0, len(full), h) for j in range(0, full.shape[1], w)]


def directory(tags, order, big, at, next_at=0):
    """A directory at a place in the file, its longer values behind it; tags: number to (type, values)."""
    place, head, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    n_inline, tail = struct.calcsize(place), b""
    end = at + struct.calcsize("<" + head) + entry * len(tags) + n_inline
    out = struct.pack(order + head, len(tags))
    for tag, (kind, values) in sorted(tags.items()):
        raw = struct.pack(f"{order}{len(values)}{LETTERS[kind]}", *values)
        out += struct.pack(f"{order}HH{place}", tag, kind, len(values))
        if len(raw) > n_inline:
            out += struct.pack(order + place, end + len(tail))
            tail += raw + b"\0" * (len(raw) % 2)
        else:
            out += raw.ljust(n_inline, b"\0")
    return out + struct.pack(order + place, next_at) + tail


def page(array, at, order="<", big=False, rows=None, tile=None, compression="none", bits=None, **options):
    """The pixels and the directory of one page, and the place of that directory; options: planar, tags (added last)."""
    array = array.reshape(*array.shape[:2], -1)
    height, width, channels = array.shape
    rows = rows or height
    layers = [array[..., i : i + 1] for i in range(channels)] if options.get("planar") else [array]
    blocks = [block for layer in layers for block in cut(layer, rows, tile)]
    stored = array.dtype.newbyteorder(order)
    raw = [packed(block, bits) if bits else block.astype(stored).tobytes() for block in blocks]
    coded = [zlib.compress(block) for block in raw] if compression == "deflate" else raw
    counts = [len(block) for block in coded]
    offsets = [at + sum(counts[:i]) for i in range(len(counts))]
    bits = bits or 8 * array.dtype.itemsize
    kind = LONG8 if big else LONG
    tags = {256: (LONG, [width]), 257: (LONG, [height]), 258: (SHORT, [bits] * channels)}
    tags |= {259: (SHORT, [COMPRESSIONS[compression]]), 262: (SHORT, [2 if channels >= 3 else 1])}
    tags |= {277: (SHORT, [channels]), 339: (SHORT, [FORMATS[array.dtype.kind]] * channels)}
    tags |= {284: (SHORT, [2 if options.get("planar") else 1])}
    if tile:
        tags |= {322: (LONG, [tile[1]]), 323: (LONG, [tile[0]]), 324: (kind, offsets), 325: (LONG, counts)}
    else:
        tags |= {273: (kind, offsets), 278: (LONG, [rows]), 279: (LONG, counts)}
    tags |= options.get("tags", {})
    tags = {tag: value for tag, value in tags.items() if value is not None}
    pixels = b"".join(coded)
    pixels += b"\0" * (len(pixels) % 2)
    return pixels, tags, at + len(pixels)


def tiff(*arrays, order="<", big=False, pages=(), **options):
    """A TIFF of one page for each array (H W) or (H W C); what is said of the others in `pages` goes beyond options."""
    start = 16 if big else 8
    body, links, at = b"", [], start
    for i, array in enumerate(arrays):
        own = options | (pages[i] if i < len(pages) else {})
        pixels, tags, place = page(array, at, order, big, **own)
        links.append(place)
        body += pixels + directory(tags, order, big, place)
        at = start + len(body)
    magic = b"II" if order == "<" else b"MM"
    head = magic + (struct.pack(order + "HHHQ", 43, 8, 0, links[0]) if big else struct.pack(order + "HI", 42, links[0]))
    data = bytearray(head + body)
    for place, following in itertools.pairwise(links):
        n_tags = struct.unpack_from(order + ("Q" if big else "H"), data, place)[0]
        link = place + (8 + 20 * n_tags if big else 2 + 12 * n_tags)
        struct.pack_into(order + ("Q" if big else "I"), data, link, following)
    return bytes(data)


def text(string):
    """A tag's value of type ASCII."""
    return 2, list(string.encode() + b"\0")
