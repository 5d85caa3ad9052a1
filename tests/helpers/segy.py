"""SEG-Y files written byte by byte; byte numbers count from 1, as in the standard."""

import struct

import numpy as np

TYPES = {2: "i4", 3: "i2", 5: "f4", 6: "f8", 8: "i1", 9: "i8", 10: "u4", 11: "u2", 12: "u8", 16: "u1"}
CODES = (1, *TYPES)
FIELDS = {"sequence": 1, "record": 9, "channel": 13, "cdp": 21, "offset": 37, "inline": 189, "crossline": 193}
ZEROS = {name: lambda i: 0 for name in FIELDS}


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

    `binary` has pairs of a byte and what stands there, (kind, value); `headers` has functions of a trace's number;
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
            struct.pack_into(order + "i", header, FIELDS[name] - 1, value(i))
        struct.pack_into(order + "H", header, 114, size if n_samples is None else n_samples(i))
        parts += [bytes(header), stored(image[:, i], code, order)]
    return b"".join([*parts, tail])
