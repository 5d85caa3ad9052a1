import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from salt.data import rle

masks = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 1))


batches = st.tuples(st.integers(0, 5), st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 255]))
)


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


@given(batches)
def test_a_batch_is_encoded_and_decoded_like_its_masks_one_by_one(batch):
    texts = rle.encode_all(batch)
    assert texts == [encode_pixel_by_pixel(mask) for mask in batch]
    decoded = rle.decode_all(texts, batch.shape[1:])
    assert decoded.dtype == np.uint8 and np.array_equal(decoded, batch != 0)


@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 0.999, 1.0])
def test_batches_longer_than_a_chunk(density):
    batch = np.random.default_rng(0).random((rle.CHUNK * 2 + 3, 13, 7)) < density
    texts = rle.encode_all(batch)
    assert texts == [encode_pixel_by_pixel(mask) for mask in batch]
    assert np.array_equal(rle.decode_all(texts, (13, 7)), batch)


def test_the_real_strings(tgs):
    texts = [line.split(",")[1] for line in (tgs / "train.csv").read_text().splitlines()[1:]]
    masks = rle.decode_all(texts, (101, 101))
    assert rle.encode_all(masks) == texts
    for text, mask in zip(texts[::50], masks[::50], strict=True):
        flat = np.zeros(101 * 101, np.uint8)
        numbers = [int(token) for token in text.split()]
        for start, length in zip(numbers[::2], numbers[1::2], strict=True):
            flat[start - 1 : start - 1 + length] = 1
        assert np.array_equal(mask, flat.reshape(101, 101).T)


@pytest.mark.parametrize("text", [" 1 2 4 1", "1 2 4 1 ", "1  2 4 1", "1\t2\n4 1", "01 2 4 0001"])
def test_white_space_and_leading_zeros_change_nothing(text):
    expected = rle.decode("1 2 4 1", (3, 3))
    for before, after in ([], ["5 1"]), (["1 1 3 3"], ["", "2 1"]), ([" "], ["\t"]):
        decoded = rle.decode_all([*before, text, *after], (3, 3))
        assert np.array_equal(decoded[len(before)], expected)
        assert decoded.sum() == 3 + sum(rle.decode(other, (3, 3)).sum() for other in before + after)


def test_adjacent_runs_join():
    assert rle.encode(rle.decode("1 2 3 4 8 2", (3, 3))) == "1 6 8 2"


@pytest.mark.parametrize("texts", [[], [""], [" "], ["", ""], [" ", "  ", ""]])
def test_blank_strings_are_empty_masks(texts):
    assert rle.decode_all(texts, (3, 4)).shape == (len(texts), 3, 4)
    assert not rle.decode_all(texts, (3, 4)).any()


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
        ("1_0 2", "no positive number"),
        ("1,2", "no positive number"),
        ("1 ²", "no positive number"),
        ("1 ٣", "no positive number"),
        ("1 2\x00", "no positive number"),
        ("1 X", "no positive number"),
        ("1 2 3", "start without a length"),
        ("9223372036854775807 9223372036854775807", "outside 1..9"),
        ("1 " + "9" * 30, "outside 1..9"),
        ("9" * 5000 + " 1", "outside 1..9"),
        ("4 1 10 1 1 1", "'10 1' is outside"),
        ("4 2 3 1 10 1", "'3 1' does not come after the run that ends at 5"),
    ],
)
def test_refused(text, reason):
    with pytest.raises(ValueError, match=reason) as alone:
        rle.decode(text, (3, 3))
    for n in (0, 1, rle.CHUNK + 17):
        with pytest.raises(rle.RunLengthError, match=f"row {n}: ") as error:
            rle.decode_all(["9 1"] * n + [text, "1 1"], (3, 3))
        assert (error.value.row, error.value.reason) == (n, str(alone.value))
