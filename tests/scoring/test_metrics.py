from bisect import bisect_left
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salt.scoring import metrics


def score_by_definition(truth: np.ndarray, prediction: np.ndarray) -> float:
    if not truth.any() and not prediction.any():
        return 1.0
    if not truth.any() or not prediction.any():
        return 0.0
    iou = Fraction(int((truth & prediction).sum()), int((truth | prediction).sum()))
    return sum(iou > Fraction(k, 20) for k in range(10, 20)) / 10


@given(st.integers(0, 2**32 - 1))
def test_table_equals_the_definition_at_every_threshold(seed):
    rng = np.random.default_rng(seed)
    masks = (rng.random((4, 6, 5)) < rng.choice([0, 0.1, 0.7, 1], size=(4, 1, 1))).astype(np.uint8)
    noise = rng.random((4, 6, 5))
    probabilities = np.where(masks, 1 - noise * rng.random(), noise * rng.random()).astype(np.float16)
    probabilities.flat[:3] = metrics.THRESHOLDS[rng.integers(0, 31, 3)]  # values on a threshold are not above it
    table = metrics.score_table(probabilities, masks)
    for j, threshold in enumerate(metrics.THRESHOLDS):
        prediction = probabilities.astype(np.float64) > threshold
        assert table[:, j].tolist() == [score_by_definition(m == 1, p) for m, p in zip(masks, prediction, strict=True)]


def neighbours(kind: type) -> np.ndarray:
    """Numbers of a type around every threshold, the middle between two, and the ends."""
    near = [metrics.THRESHOLDS.astype(kind)]
    for towards in (0, 1):
        for _ in range(3):
            near.append(np.nextafter(near[-1] if len(near) % 3 != 1 else near[0], kind(towards)))
    middle = (metrics.THRESHOLDS - 0.015).astype(kind)
    ends = np.array([0, -0.0, np.nextafter(kind(0), kind(1)), 1e-7, np.nextafter(kind(1), kind(0)), 1], kind)
    return np.concatenate([*near, middle, ends])


ALL_HALVES = np.arange(0x3C01, dtype=np.uint16).view(np.float16)  # 0 ... 1


@pytest.mark.parametrize(
    "values",
    [ALL_HALVES, ALL_HALVES.astype(np.float32), *(neighbours(kind) for kind in (np.float16, np.float32, np.float64))],
    ids=["all halves", "all halves as float32", "near float16", "near float32", "near float64"],
)
@pytest.mark.parametrize(
    "thresholds",
    [metrics.THRESHOLDS, np.array([0.5]), np.array([0.3, 0.3001, 0.30011, 0.9]), np.linspace(0.01, 0.99, 128)],
    ids=["candidates", "half", "close", "128"],
)
def test_a_pixel_is_salt_when_strictly_above_the_threshold(values, thresholds):
    exact = [Fraction(float(t)) for t in thresholds]
    n_below = [bisect_left(exact, Fraction(float(value))) for value in values]  # thresholds less than the value
    expected = np.arange(len(thresholds)) < np.array(n_below)[:, None]
    found = np.transpose([metrics.is_salt(values, float(t)) for t in thresholds])
    assert found.dtype == bool and (found == expected).all()
    ones = np.ones((len(values), 1, 1), np.uint8)
    intersection, truth, prediction = metrics.count_pixels(values[:, None, None], ones, thresholds)
    assert (intersection == expected).all() and (prediction == expected).all() and (truth == 1).all()
    intersection, truth, prediction = metrics.count_pixels(values[:, None, None], 0 * ones, thresholds)
    assert not intersection.any() and (prediction == expected).all() and not truth.any()


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_table_of_each_number_type(kind):
    rng = np.random.default_rng(0)
    masks = (rng.random((150, 9, 7)) < 0.4).astype(np.uint8)
    probabilities = np.clip(0.6 * masks + 0.2 + 0.2 * rng.normal(size=masks.shape), 0, 1).astype(kind)
    table = metrics.score_table(probabilities, masks)
    assert table.shape == (150, 31)
    for j in (0, 7, metrics.HALF, 30):
        prediction = probabilities.astype(np.float64) > metrics.THRESHOLDS[j]
        assert table[:, j].tolist() == [score_by_definition(m == 1, p) for m, p in zip(masks, prediction, strict=True)]
    assert metrics.score_table(probabilities[:0], masks[:0]).shape == (0, 31)


@pytest.mark.parametrize(
    ("intersection", "expected"), [(10, 0.0), (11, 0.1), (19, 0.9), (20, 1.0), (15, 0.5), (0, 0.0)]
)
def test_iou_on_an_edge_does_not_pass_it(intersection, expected):
    truth, prediction = 20, intersection  # the prediction lies inside the truth: IoU = intersection / 20
    assert metrics.score_counts(np.array(intersection), np.array(truth), np.array(prediction)) == expected


def test_threshold_half_is_a_candidate():
    assert metrics.THRESHOLDS[metrics.HALF] == 0.5
    assert metrics.THRESHOLDS.tolist() == [float(Decimal(5 + 3 * i) / 100) for i in range(31)]


def test_iou():
    counts = np.array([5, 0, 0, 1]), np.array([10, 0, 4, 1]), np.array([5, 0, 0, 1])
    assert metrics.iou(*counts).tolist() == [0.5, 1, 0, 1]


def test_salt_and_empty():
    counts = np.array([5, 0, 0, 0, 0]), np.array([10, 0, 0, 0, 1]), np.array([5, 0, 7, 1, 0])
    assert metrics.mean_metrics(*counts) == {"iou": 0.25, "empty": 1 / 3}
    assert metrics.mean_metrics(*(c[:1] for c in counts)) == {"iou": 0.5, "empty": None}
    assert metrics.mean_metrics(*(c[1:2] for c in counts)) == {"iou": None, "empty": 1.0}
