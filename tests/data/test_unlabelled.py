"""Tiles without a mask, and which labels a fold gets."""

import numpy as np
import pandas as pd
import pytest

from salt.data import rle
from salt.data.load import LabelTable, Unlabelled, join_tiles
from salt.data.tiles import Tiles
from salt.runs.stacks import as_stack

IDS = ["a", "b", "c"]
SIZES = {"equal": [(8, 6)] * 3, "several": [(8, 6), (5, 9), (7, 7)]}


def made(sizes):
    """Tiles, masks of each fold, and labels in another order than the tiles; b is not sure in fold 1."""
    rng = np.random.default_rng(0)
    tiles = Tiles(IDS, as_stack([rng.integers(0, 256, size, dtype=np.uint8) for size in sizes]), None, np.arange(3.0))
    masks = {fold: dict(zip(IDS, (rng.random(size) < 0.5 for size in sizes), strict=True)) for fold in (0, 1)}
    rows = [
        {"fold": f, "id": i, "confidence": 0.5 if (f, i) == (1, "b") else 0.9, "rle_mask": rle.encode(masks[f][i])}
        for f in (1, 0)
        for i in reversed(IDS)
    ]
    return tiles, masks, Unlabelled(tiles, LabelTable("folds", "tiles", pd.DataFrame(rows)), "digest")


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize(("fold", "expected"), [(0, ["c", "b", "a"]), (1, ["c", "a"])])
def test_a_fold_gets_its_own_confident_labels_on_the_images_they_belong_to(sizes, fold, expected):
    tiles, masks, unlabelled = made(sizes)
    found = unlabelled.for_training(fold, least=0.9)
    assert found.ids == expected
    for name, image, mask, depth in zip(found.ids, found.images, found.masks, found.depths, strict=True):
        np.testing.assert_array_equal(image, tiles.images[IDS.index(name)])
        np.testing.assert_array_equal(mask, masks[fold][name])
        assert depth == IDS.index(name)
    together = join_tiles(found, found)
    assert together.ids == expected * 2 and len(together.images) == len(together.masks) == 2 * len(expected)
