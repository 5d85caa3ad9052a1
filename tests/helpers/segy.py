"""SEG-Y files written byte by byte; byte numbers count from 1, as in the standard."""

import struct

import numpy as np

TYPES = {2: "i4", 3: "i2", 5: "f4", 6: "f8", 8: "i1", 9: "i8", 10: "u4", 11: "u2", 12: "u8", 16: "u1"}
CODES = (1, *TYPES)
FIELDS = {"sequence": 1, "record": 9, "channel": 13, "cdp": 21, "offset": 37, "inline": 189, "crossline": 193}
SHORT = {29, 71, 109, 117}  # bytes where words of two bytes begin, not four
ZEROS = {name: lambda i: 0 for name in FIELDS}
RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 100, (30, 84))  # samples, traces
JUNK = RNG.integers(-(2**31), 2**31, (2, 84)).tolist()
FEW = RNG.integers(1, 4, (2, 84)).tolist()
# functions of a trace's number that are no grid; of the 84 traces of IMAGE
LINES = {
    "no numbers": {},
    "an inline": {"inline": lambda i: 7, "crossline": lambda i: 300 + i},
    "a crossline": {"inline": lambda i: 300 + 2 * i, "crossline": lambda i: 7},
    "diagonal": {"inline": lambda i: 100 + i, "crossline": lambda i: 300 - i},
    "crooked": {"inline": lambda i: 100 + i // 42, "crossline": lambda i: i - i // 42, "cdp": lambda i: i},
    "zigzag": {"inline": lambda i: abs(i % 20 - 10), "crossline": lambda i: i // 2, "cdp": lambda i: i},
    "stairs": {"inline": lambda i: (i + 1) // 2, "crossline": lambda i: i // 2},
    "trace numbers": {"inline": lambda i: i + 1, "crossline": lambda i: i + 1, "channel": lambda i: i + 1},
    "CDPs": {"inline": lambda i: 5000 + i, "crossline": lambda i: 1 + i % 2, "cdp": lambda i: 5000 + i},
    "junk": {"inline": lambda i: JUNK[0][i], "crossline": lambda i: JUNK[1][i]},
    "junk of few values": {"inline": lambda i: FEW[0][i], "crossline": lambda i: FEW[1][i]},
    "headers of a stack": {
        "record": lambda i: i // 3,
        "channel": lambda i: 7 * i % 48,
        "offset": lambda i: 25 * (i % 4),
    }
    | {"cdp": lambda i: 1000 + i},
}


def to_ibm(value):
    """The word of IBM's float that is nearest to a number: (-1)^sign 16^(exponent - 64) fraction / 2^24."""
    if value == 0:
        return 0
    fraction, exponent = abs(value), 64
    while fraction >= 1:
        fraction, exponent = fraction / 16, exponent + 1
    while fraction < 1 / 16:
        fraction, exponent = fraction * 16, exponent - 1
    return (value < 0) << 31 | exponent << 24 | round(fraction * 2**24)


def stored(trace, code, order):
    """The bytes of one trace."""
    if code == 1:
        return np.array([to_ibm(float(x)) for x in trace], order + "u4").tobytes()
    return trace.astype(order + TYPES[code]).tobytes()


def segy(image, code=5, order=">", binary=(), headers=(), texts=(), between=b"", tail=b"", n_samples=None, noise=False):
    """The bytes of a file of an image (samples, traces).

    `binary` has pairs of a byte and what stands there, (kind, value); `headers` has functions of a trace's number, by
    names or bytes;
    `n_samples(i)` is what the header of trace i says; with `noise` all bytes that have no meaning are random.
    """
    rng = np.random.default_rng(0)
    size, n_traces = image.shape
    head = bytearray(rng.bytes(400) if noise else 400)
    usual = {3213: ("h", 1), 3217: ("h", 4000), 3221: ("H", size), 3225: ("h", code), 3255: ("h", 1)}
    usual |= {3501: ("H", 0x0100), 3503: ("h", 1), 3505: ("h", len(texts))}
    for byte, (kind, value) in (usual | dict(binary)).items():
        struct.pack_into(order + kind, head, byte - 3201, value)
    text = rng.bytes(3200) if noise else "C 1 MADE-UP LINE".ljust(3200).encode("cp037")
    parts = [text, bytes(head), *texts, between]
    for i in range(n_traces):
        header = bytearray(rng.bytes(240) if noise else 240)
        for name, value in (ZEROS | {"sequence": lambda i: i + 1} | dict(headers)).items():
            byte = FIELDS.get(name, name)
            struct.pack_into(order + ("h" if byte in SHORT else "i"), header, byte - 1, value(i))
        struct.pack_into(order + "H", header, 114, size if n_samples is None else n_samples(i))
        parts += [bytes(header), stored(image[:, i], code, order)]
    return b"".join([*parts, tail])
