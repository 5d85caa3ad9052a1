from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.image import imread

from salt.data.tiles import Tiles
from salt.reporting import figures

SIZE = 101
HEAD = "epoch,lr,loss,map_at_0.5,iou,empty\n"


@pytest.fixture
def drawn(monkeypatch):
    """The curves by label: a list of (epochs, values)."""
    lines = {}
    plot = Axes.plot

    def record(axes, x, y, **style):
        lines[style["label"]] = (list(x), list(y))
        return plot(axes, x, y, **style)

    monkeypatch.setattr(Axes, "plot", record)
    return lines


def test_the_curves_are_the_columns_of_the_table(tmp_path, drawn):
    rows = "1,0.001,0.9,,,\n2,0.0005,0.7,0.4,0.3,0.8\n3,0.0001,0.6,,,\n4,0,0.5,0.6,0.5,0.9\n"
    (tmp_path / "metrics.csv").write_text(HEAD + rows)
    figures.write_curves(tmp_path)
    table = pd.read_csv(tmp_path / "metrics.csv")
    assert drawn["training loss"] == ([1, 2, 3, 4], table["loss"].tolist())
    assert drawn["learning rate"] == ([1, 2, 3, 4], table["lr"].tolist())
    assert drawn["map at threshold 0.5"] == ([2, 4], [0.4, 0.6])  # of the epochs that were validated
    assert drawn["IoU of tiles with salt"] == ([2, 4], [0.3, 0.5])
    assert drawn["share of empty tiles found"] == ([2, 4], [0.8, 0.9])
    picture = imread(tmp_path / "metrics.png")
    assert picture.shape[1] > 600 and len(np.unique(picture.reshape(-1, 4), axis=0)) > 50
    assert sorted(file.name for file in tmp_path.iterdir()) == ["metrics.csv", "metrics.png"]


@pytest.mark.parametrize("row", ["1,0.001,0.9,0.4,,\n", "1,0.001,,,,\n"])
def test_one_epoch_and_missing_numbers_are_drawn(tmp_path, row):
    (tmp_path / "metrics.csv").write_text(HEAD + row)
    figures.write_curves(tmp_path)
    assert imread(tmp_path / "metrics.png").shape[2] == 4


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
    table = table.assign(score=np.array(ranks) / 10, iou=np.array(ranks) / 20)
    return table, Tiles(table["id"].tolist(), images, masks, np.zeros(12)), probabilities


def test_the_picture_goes_from_the_worst_to_the_best_tile_with_salt(tiles, monkeypatch):
    titles, rows = [], []
    monkeypatch.setattr(Axes, "set_title", lambda axes, text, **_: titles.append(text))
    monkeypatch.setattr(Axes, "set_ylabel", lambda axes, text, **_: rows.append(text))
    size = figures.draw_tiles(*tiles).canvas.get_width_height()
    assert size[0] > 1200 and size[1] > 600
    assert rows == ["tile", "truth", "probability", "prediction"]
    ranks = [0, 1, 3, 4, 5, 6, 8, 9]  # equal steps over the ten tiles with salt
    assert titles == [f"score {rank / 10:.1f}\nIoU {rank / 20:.2f}" for rank in ranks]


def test_outlines_are_those_of_truth_and_prediction(tiles, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "outline", lambda axes, mask, colour: drawn.append((mask, colour)))
    table, (masks, probabilities) = tiles[0], (tiles[1].masks, tiles[2])
    probabilities[:] = np.random.default_rng(1).random(probabilities.shape)
    table["threshold"] = np.linspace(0.2, 0.8, 12)
    figures.draw_tiles(*tiles)
    order = table[table["coverage"] > 0].sort_values("score").index[[0, 1, 3, 4, 5, 6, 8, 9]]
    assert len(drawn) == 16
    for k, i in enumerate(order):
        np.testing.assert_array_equal(drawn[2 * k][0], masks[i])
        np.testing.assert_array_equal(drawn[2 * k + 1][0], probabilities[i] > table["threshold"][i])
        assert (drawn[2 * k][1], drawn[2 * k + 1][1]) == (figures.TRUTH, figures.PREDICTION)


@pytest.mark.parametrize("n", [1, 3])
def test_few_tiles_none_with_salt(tiles, n):
    last = tiles[1].take(np.arange(12 - n, 12))
    table = tiles[0][-n:].assign(coverage=0.0).reset_index(drop=True)
    empty = replace(last, masks=np.zeros_like(last.masks))
    figure = figures.draw_tiles(table, empty, tiles[2][-n:])
    figure.canvas.draw()
    assert len(figure.axes) == 4 * n
