"""salt-data mosaic: the table, the picture, and what is refused."""

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import salt
from test_mosaic import cut

from salt.commands import data as command
from salt.data.image import TILE_SIZE


def write_folder(folder, tiles):
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for i, tile in enumerate(tiles):
        cv2.imwrite(str(folder / "images" / f"t{i:03}.png"), tile)
        cv2.imwrite(str(folder / "masks" / f"t{i:03}.png"), np.zeros_like(tile))


def run(folder, *words):
    return salt(folder, "mosaic", *words, main=command.main)


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """A folder with tiles of made-up lines and their mosaic.csv, the true places, and the text of the command."""
    path = tmp_path_factory.mktemp("mosaic")
    tiles, places = cut(4, n_lines=3, rows=4, columns=6)
    write_folder(path / "lines", tiles)
    ended = run(path, "lines")
    assert ended.returncode == 0, ended.stderr
    return path, places, ended.stdout


def test_the_table_and_the_picture(line):
    path, places, text = line
    table = pd.read_csv(path / "lines/mosaic.csv")
    assert table.columns.tolist() == ["id", "mosaic", "row", "column", "confidence"]
    assert table["id"].tolist() == [f"t{i:03}" for i in range(len(places))]
    assert table["confidence"].between(0, 1).all()
    sections = table[table["mosaic"].duplicated(keep=False)]
    assert f"sections of {len(sections)} tiles" in text and "% of them false" in text
    picture = cv2.imread(str(path / "lines/mosaic.png"), cv2.IMREAD_GRAYSCALE)
    assert picture.shape[0] > 3 * TILE_SIZE and picture[: picture.shape[0] // 4].any()


def test_the_largest_section_lies_in_one_line(line):
    path, places, _ = line
    table = pd.read_csv(path / "lines/mosaic.csv")
    first = table[table["mosaic"] == 0]
    lines, rows, columns = np.array([places[i] for i in first.index]).T
    assert len(set(lines)) == 1 and len(first) > 15
    assert (rows - first["row"]).nunique() == 1 and (columns - first["column"]).nunique() == 1


def test_twice_gives_the_same_bytes_and_a_place_can_be_chosen(line):
    path, _, _ = line
    assert run(path, "lines", "--out", "other.csv").returncode == 0
    assert (path / "other.csv").read_bytes() == (path / "lines/mosaic.csv").read_bytes()
    assert (path / "other.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere"),
        (["lines", "--out", "no/where.csv"], "--out no/where.csv"),
        (["lines", "--out", "lines"], "--out lines"),
        (["mixed"], "mixed has images of several sizes"),
    ],
)
def test_what_is_refused(line, words, message):
    path, _, _ = line
    if words == ["mixed"]:
        write_folder(path / "mixed", [np.zeros((50, 60), np.uint8), np.ones((70, 60), np.uint8)])
    ended = run(path, *words)
    assert ended.returncode == 1 and message in ended.stderr
    assert ended.stderr.count("\n") == 1
