import numpy as np
import pytest

from salt.scoring.errors import ERROR_KINDS, classify, distance_to_outline

SIDE = 40


def box(top, left, height, width):
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    mask[top : top + height, left : left + width] = 1
    return mask


HALF = box(0, 0, SIDE, 20)
CASES = {
    "both empty": (box(0, 0, 0, 0), box(0, 0, 0, 0), "perfect", 0, 0),
    "the same": (HALF, HALF, "perfect", 0, 0),
    "an IoU of 19 / 20, which is not above 0.95": (box(0, 0, SIDE, 20), box(0, 0, SIDE, 19), "boundary", SIDE, 0),
    "an IoU of 39 / 40": (box(0, 0, SIDE, 40), box(0, 0, SIDE, 39), "perfect", SIDE, 0),
    "nothing there": (box(0, 0, 0, 0), box(3, 3, 1, 1), "invented salt", 0, 1),
    "nothing found": (box(3, 3, 1, 1), box(0, 0, 0, 0), "missed salt", 1, 0),
    "two pixels beside the outline": (HALF, box(0, 0, SIDE, 22), "boundary", 0, 2 * SIDE),
    "a body far away": (HALF, HALF | box(0, 30, SIDE, 5), "invented salt", 0, 5 * SIDE),
    "half of it missed": (HALF, box(0, 10, SIDE, 10), "missed salt", 10 * SIDE, 0),
    "a full tile of which half is missed": (box(0, 0, SIDE, SIDE), HALF, "missed salt", 20 * SIDE, 0),
    # 2 columns at the outline and 3 far from it, then 3 and 3: which are more decides
    "more wrong far away than at the outline": (
        HALF,
        box(0, 0, SIDE, 22) | box(0, 30, SIDE, 3),
        "invented salt",
        0,
        200,
    ),
    "more wrong at the outline than far away": (HALF, box(0, 0, SIDE, 22) | box(0, 30, SIDE, 1), "boundary", 0, 120),
    "five columns of which two are far away": (
        HALF,
        box(0, 0, SIDE, 22) | box(0, 30, SIDE, 2),
        "invented salt",
        0,
        160,
    ),
    "more invented than missed": (HALF, box(0, 5, SIDE, 35), "invented salt", 5 * SIDE, 20 * SIDE),
}


@pytest.mark.parametrize("case", CASES)
def test_a_tile_has_the_kind_of_its_error(case):
    truth, prediction, kind, missed, invented = CASES[case]
    found = classify(truth, prediction)
    assert (found.kind, found.missed, found.invented) == (kind, missed, invented) and kind in ERROR_KINDS
    assert classify(truth * 255, prediction.astype(bool)) == found
    assert classify(truth.T, prediction.T) == found


def test_the_distance_is_that_to_the_nearest_pixel_of_the_other_side():
    mask = np.random.default_rng(0).random((12, 17)) < 0.8
    found = distance_to_outline(mask)
    rows, columns = np.mgrid[:12, :17]
    for y in range(12):
        for x in range(17):
            other = mask != mask[y, x]
            assert found[y, x] == pytest.approx(np.hypot(rows[other] - y, columns[other] - x).min(), abs=1e-4)
