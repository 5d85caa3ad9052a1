import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from salt import rle

masks = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 1))


def encode_pixel_by_pixel(mask: np.ndarray) -> str:
    height, width = mask.shape
    runs: list[list[int]] = []
    for x in range(width):
        for y in range(height):
            position = x * height + y + 1
            if not mask[y, x]:
                continue
            if runs and runs[-1][0] + runs[-1][1] == position:
                runs[-1][1] += 1
            else:
                runs.append([position, 1])
    return " ".join(f"{start} {length}" for start, length in runs)


@given(masks)
def test_encode_equals_a_walk_over_the_pixels(mask):
    assert rle.encode(mask) == encode_pixel_by_pixel(mask)


@given(masks)
def test_decode_inverts_encode(mask):
    assert np.array_equal(rle.decode(rle.encode(mask), mask.shape), mask)


def test_order_is_column_major_and_one_indexed():
    mask = np.zeros((101, 101), np.uint8)
    mask[1:3, 0] = 1
    mask[100, 100] = 1
    assert rle.encode(mask) == "2 2 10201 1"


def test_empty_and_full():
    assert rle.encode(np.zeros((101, 101))) == ""
    assert rle.encode(np.full((101, 101), 255)) == "1 10201"
    assert not rle.decode("", (101, 101)).any()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1", "start without a length"),
        ("0 3", "outside"),
        ("1 0", "outside"),
        ("10 1", "outside"),
        ("9 2", "outside"),
        ("3 2 4 1", "does not come after"),
        ("5 1 2 1", "does not come after"),
        ("a b", "no positive number"),
        ("-1 3", "no positive number"),
        ("nan", "no positive number"),
        ("1.0 2", "no positive number"),
    ],
)
def test_decode_refuses(text, reason):
    with pytest.raises(ValueError, match=reason):
        rle.decode(text, (3, 3))
