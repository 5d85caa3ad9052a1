import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.image import imread

from salt.reporting import curves

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
    curves.write_curves(tmp_path)
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
    curves.write_curves(tmp_path)
    assert imread(tmp_path / "metrics.png").shape[2] == 4
