"""Scores of partly known masks are those of the known pixels alone, whatever lies under the others."""

import numpy as np
import pandas as pd
import pytest

from salt.inference.blend import choose_weights
from salt.scoring.errors import reliability
from salt.scoring.metrics import count_pixels, known_sizes
from salt.scoring.score import score_out_of_fold

N, SIZE = 40, (12, 15)


@pytest.fixture
def scored():
    """Probabilities that are often right, masks, and what is known; a tile of which all is, one with a single pixel."""
    rng = np.random.default_rng(3)
    masks = (rng.random((N, *SIZE)) < rng.choice([0, 0.2, 0.6], (N, 1, 1))).astype(np.uint8)
    probabilities = np.clip(0.25 + 0.4 * masks + 0.2 * rng.normal(size=masks.shape), 0, 1).astype(np.float16)
    known = rng.random(masks.shape) < rng.uniform(0.2, 0.9, (N, 1, 1))
    known[0], known[1] = True, False
    known[1, 3, 4] = True
    return probabilities, masks * known, known, np.arange(N) % 4


def as_rows(stack, known):
    """The known pixels of each tile as an image of one row."""
    rows = np.empty(len(stack), object)
    for i, (image, seen) in enumerate(zip(stack, known, strict=True)):
        rows[i] = image[seen][None]
    return rows


def test_all_numbers_are_those_of_the_known_pixels(scored):
    probabilities, masks, known, folds = scored
    found = score_out_of_fold(probabilities, masks, folds, known=known)
    alone = score_out_of_fold(as_rows(probabilities, known), as_rows(masks, known), folds)
    pd.testing.assert_frame_equal(found.table, alone.table)
    assert found.summary == alone.summary and 0.1 < found.summary["map"] < 0.9
    assert known_sizes(masks, known).tolist() == [seen.sum() for seen in known]
    bins = reliability(probabilities, masks, known)
    pd.testing.assert_frame_equal(bins, reliability(as_rows(probabilities, known), as_rows(masks, known)))


def test_what_lies_under_unknown_pixels_changes_nothing(scored):
    probabilities, masks, known, folds = scored
    other = np.where(known, probabilities, np.float16(1) - probabilities)
    for one, two in zip(
        count_pixels(probabilities, masks, known=known), count_pixels(other, masks, known=known), strict=True
    ):
        assert np.array_equal(one, two)
    assert (
        score_out_of_fold(other, masks, folds, known=known).summary
        == score_out_of_fold(probabilities, masks, folds, known=known).summary
    )
    noise = np.random.default_rng(5).random(masks.shape)
    stacks = [probabilities, noise], [other, np.where(known, noise, 1 - noise)]
    weights = [choose_weights(stack, masks, known) for stack in stacks]
    assert np.array_equal(*weights) and weights[0][0] > 0.7
