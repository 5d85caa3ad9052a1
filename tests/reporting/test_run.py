from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.image import imread

from salt.reporting import run

SIZE = 101


def score(**changes):
    folds = [{"fold": fold, "threshold": 0.4, "map": 0.7, "map_at_0.5": 0.6, "iou": 0.5, "n": 10} for fold in (0, 1)]
    whole = {"map": 0.7123, "map_at_0.5": 0.6, "map_all_empty": 0.39, "iou": 0.5, "n": 20, "partial": False}
    whole |= {"threshold": 0.5, "gains": {"threshold": {"used": False}}}
    return whole | {"folds": folds, "missing_folds": []} | changes


def test_the_table_ends_with_all_folds_and_with_all_tiles_empty(capsys):
    run.print_scores(score())
    lines = capsys.readouterr().out.splitlines()
    words = [line.split() for line in lines]
    assert words[0] == ["threshold", "map", "map_at_0.5", "iou", "n"] and words[1] == ["fold"]
    assert words[4] == ["together", "0.7123", "0.6", "0.5", "20"]
    assert words[5] == ["all", "empty", "0.39", "0.39", "0.0", "20"]
    assert "no better" not in " ".join(lines)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "threshold 0.5"),
        (
            {"threshold": 0.62, "gains": {"threshold": {"used": True}}},
            "threshold 0.62; each tile at one chosen on others",
        ),
    ],
)
def test_how_masks_are_made_is_told(capsys, changes, words):
    run.print_scores(score(**changes))
    assert f"over 20 tiles ({words})" in capsys.readouterr().out


@pytest.mark.parametrize("value", [0.39, 0.2])
def test_a_run_that_is_no_better_than_all_tiles_empty_is_told(capsys, value):
    run.print_scores(score(map=value))
    assert "This run is no better than predicting every tile empty, which scores 0.3900.\n" in capsys.readouterr().out


@pytest.fixture
def tiles():
    """Twelve tiles: image, mask, probability; the last two without salt."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, SIZE, SIZE), dtype=np.uint8)
    masks = np.zeros((12, SIZE, SIZE), dtype=np.uint8)
    for i in range(10):
        masks[i, : 10 * i + 11] = 1  # the last one is full
    probabilities = np.where(masks == 1, 0.9, 0.1).astype(np.float32)
    ranks = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7, 10, 11]
    table = pd.DataFrame({"id": list("abcdefghijkl"), "coverage": masks.mean((1, 2)), "threshold": 0.5})
    return table.assign(score=np.array(ranks) / 10, iou=np.array(ranks) / 20), images, masks, probabilities


def test_the_picture_goes_from_the_worst_to_the_best_tile_with_salt(tiles, monkeypatch):
    titles, rows = [], []
    monkeypatch.setattr(Axes, "set_title", lambda axes, text, **_: titles.append(text))
    monkeypatch.setattr(Axes, "set_ylabel", lambda axes, text, **_: rows.append(text))
    picture = imread(BytesIO(run.draw(*tiles)))
    assert picture.shape[0] > 600 and picture.shape[1] > 1200
    assert rows == ["tile", "truth", "probability", "prediction"]
    ranks = [0, 1, 3, 4, 5, 6, 8, 9]  # equal steps over the ten tiles with salt
    assert titles == [f"score {rank / 10:.1f}\nIoU {rank / 20:.2f}" for rank in ranks]


def test_outlines_are_those_of_truth_and_prediction(tiles, monkeypatch):
    drawn = []
    monkeypatch.setattr(run, "outline", lambda axes, mask, colour: drawn.append((mask, colour)))
    table, _, masks, probabilities = tiles
    probabilities[:] = np.random.default_rng(1).random(probabilities.shape)
    table["threshold"] = np.linspace(0.2, 0.8, 12)
    run.draw(*tiles)
    order = table[table["coverage"] > 0].sort_values("score").index[[0, 1, 3, 4, 5, 6, 8, 9]]
    assert len(drawn) == 16
    for k, i in enumerate(order):
        np.testing.assert_array_equal(drawn[2 * k][0], masks[i])
        np.testing.assert_array_equal(drawn[2 * k + 1][0], probabilities[i] > table["threshold"][i])
        assert (drawn[2 * k][1], drawn[2 * k + 1][1]) == (run.TRUTH, run.PREDICTION)


@pytest.mark.parametrize("n", [1, 3])
def test_few_tiles_none_with_salt(tiles, n):
    table, images, masks, probabilities = (part[-n:] for part in tiles)
    masks[:] = 0
    table = table.assign(coverage=0.0).reset_index(drop=True)
    assert imread(BytesIO(run.draw(table, images, masks, probabilities))).shape[0] > 600
