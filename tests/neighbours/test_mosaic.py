"""Sections from tiles: on made-up lines that are cut into tiles, whose places are known."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from helpers.lines import cut_lines

from salt.data.image import TILE_SIZE
from salt.data.tgs import read_dataset
from salt.neighbours import links, mosaic
from salt.neighbours.borders import Borders, learn


def cut(seed, n_lines=6, rows=5, columns=8, held_back=0.1):
    return cut_lines(seed, n_lines, rows, columns, held_back)


def true_pairs(places):
    """The neighbours among tiles: first, second, direction."""
    at = {place: i for i, place in enumerate(places)}
    return {
        (i, at[m, r + down, c + across], name)
        for (m, r, c), i in at.items()
        for name, (down, across) in links.STEPS.items()
        if (m, r + down, c + across) in at
    }


def neighbours(table):
    return true_pairs(table[["mosaic", "row", "column"]].itertuples(index=False, name=None))


LAYOUTS = [  # seed, lines, rows, columns, share held back
    (0, 6, 5, 8, 0.1),
    (1, 12, 6, 10, 0.3),
    (2, 40, 3, 4, 0.2),
]


@pytest.fixture(scope="module", params=LAYOUTS, ids=str)
def found(request):
    images, places = cut(*request.param)
    return images, places, mosaic.find_mosaics(images)


def test_links_of_made_up_lines_are_found(found):
    _, places, result = found
    linked, true = neighbours(result.places), true_pairs(places)
    assert len(linked & true) / len(linked) >= 0.99
    assert len(linked & true) / len(true) >= 0.9
    assert result.false_share <= 0.01


def test_places_are_those_in_the_line(found):
    _, places, result = found
    n_right = 0
    for _, section in result.places.groupby("mosaic"):
        line, row, column = np.array([places[i] for i in section.index]).T
        shifts = zip(line, row - section["row"], column - section["column"], strict=True)
        n_right += max(Counter(shifts).values())
    assert n_right / len(places) >= 0.99
    sizes = result.places["mosaic"].value_counts()
    assert sizes.is_monotonic_decreasing and (sizes.index == np.arange(len(sizes))).sum() >= 6  # the largest first
    assert result.places.index.tolist() == list(range(len(places)))
    assert (result.places["confidence"][result.places["mosaic"].isin(sizes.index[sizes == 1])] == 0).all()


def quarters(images):
    """The four quarters of each tile, each with its grey levels stretched by itself; and where each lies."""
    half, tiles, places = TILE_SIZE // 2, [], []
    for i, image in enumerate(images):
        for row, column in np.ndindex(2, 2):
            part = image[row * half :, column * half :][:half, :half].astype(float)
            part = (part - part.min()) * 255 / max(np.ptp(part), 1)
            tiles.append(part.round().astype(np.uint8))
            places.append((i, row, column))
    return np.stack(tiles), places


@pytest.mark.slow
def test_quarters_of_real_tiles_are_put_together(tgs):
    tiles = read_dataset(tgs).train.images
    images, places = quarters(tiles[np.random.default_rng(0).permutation(len(tiles))[:1500]])
    true, linked = true_pairs(places), neighbours(mosaic.find_mosaics(images).places)
    after, before = {(i, name): j for i, j, name in true}, {(j, name): i for i, j, name in true}
    # a link to a quarter of another tile may be true, unless it lies where the tile itself continues
    known = {(i, j, name) for i, j, name in linked if (i, name) in after or (j, name) in before}
    assert len(known & true) / len(known) >= 0.99
    assert len(linked & true) / len(true) >= 0.75


def test_tiles_that_are_no_neighbours_stay_alone():
    rng = np.random.default_rng(1)
    tiles = np.concatenate([cut(seed, n_lines=1, rows=1, columns=1, held_back=0)[0] for seed in range(60)])
    tiles[0], tiles[1] = 0, 90  # of one grey value
    strangers = rng.integers(0, 256, (20, TILE_SIZE, TILE_SIZE), dtype=np.uint8)
    result = mosaic.find_mosaics(np.concatenate([tiles, strangers]))
    assert (result.places["mosaic"].value_counts() > 1).sum() <= 1
    sizes = result.places["mosaic"].map(result.places["mosaic"].value_counts())
    assert sizes[0] == sizes[1] == 1


def test_a_blank_border_matches_nothing():
    images, _ = cut(2, n_lines=1)
    images[0][:, -8:] = 7
    borders = Borders.of(learn(images), images)
    scores = borders.scores(slice(0, 2))
    assert np.isneginf(scores[0]).all() and np.isneginf(scores[1, 1]) and np.isfinite(scores[1, 2:]).all()
    pairs = borders.pair(np.array([1, 1]), np.array([2, 3]))
    np.testing.assert_allclose(pairs, scores[1, 2:4], rtol=1e-4)


def test_contrast_makes_no_difference():
    images, _ = cut(3, n_lines=1, held_back=0)
    seam = learn(images)
    dark = (images // 2 + 60).astype(np.uint8)
    one, other = (Borders.of(seam, part).scores(slice(0, 5)) for part in (images, dark))
    both = np.isfinite(one)
    assert np.corrcoef(one[both], other[both])[0, 1] > 0.99


def matches(pairs, n=8):
    """Borders whose only partners are these."""
    partner, score = np.zeros((n, 2), int), np.full((n, 2), -np.inf, np.float32)
    for first, second, value in pairs:
        k = int(np.isfinite(score[first, 0]))
        partner[first, k], score[first, k] = second, value
    return links.Matches(partner, score, np.zeros(n, int), np.zeros(n, np.float32))


def test_a_square_needs_all_four():
    right, below = [(0, 1, 4), (2, 3, 3)], [(0, 2, 2), (1, 3, 1)]
    found = links.find_squares(matches(right), matches(below))
    assert found.tiles.tolist() == [[0, 1, 2, 3]] and found.score.tolist() == [10]
    pairs = found.links(1)
    assert set(pairs[["first", "second", "direction"]].itertuples(index=False, name=None)) == {
        (0, 1, "right"), (2, 3, "right"), (0, 2, "below"), (1, 3, "below"),
    }  # fmt: skip
    for k in range(2):
        assert len(links.find_squares(matches(right), matches(below[:k] + below[k + 1 :])).tiles) == 0
        assert len(links.find_squares(matches(right[:k] + right[k + 1 :]), matches(below)).tiles) == 0


def test_the_best_square_comes_first():
    right, below = [(0, 1, 4), (0, 5, 6), (2, 3, 3)], [(0, 2, 2), (1, 3, 1), (5, 3, 1)]
    found = links.find_squares(matches(right), matches(below))
    assert found.tiles.tolist() == [[0, 5, 2, 3], [0, 1, 2, 3]] and found.score.tolist() == [12, 10]
    assert len(found.links(1)) == 4 and found.links(2)["square"].tolist() == [0, 0, 0, 0, 1, 1]


def test_links_that_contradict_surer_ones_are_refused():
    table = pd.DataFrame(
        [(0, 1, "right", 1.0), (1, 2, "below", 0.9), (0, 2, "right", 0.8), (3, 2, "right", 0.7), (4, 1, "right", 0.6)],
        columns=["first", "second", "direction", "confidence"],
    )
    images = np.random.default_rng(0).integers(0, 256, (5, TILE_SIZE, TILE_SIZE), dtype=np.uint8)
    borders = {name: Borders.of(learn(images), images) for name in links.STEPS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mosaic, "IMPLAUSIBLE", -np.inf)
        places, n_refused = mosaic.place_tiles(table, borders, 5)
    assert n_refused == 2  # 2 lies below 1 already, and 0 lies where 4 would
    assert places.loc[[0, 1, 2, 3], ["row", "column"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 1], [1, 0]]
    assert places["mosaic"].tolist() == [0, 0, 0, 0, 1] and places["confidence"].tolist() == [1.0, 1.0, 0.9, 0.7, 0.0]


@pytest.mark.parametrize("n", [1, 2, 3, 30])
def test_noise_has_no_links(n):
    noise = np.random.default_rng(n).integers(0, 256, (n, 48, 64), dtype=np.uint8)
    result = mosaic.find_mosaics(noise)
    assert len(result.links) == 0 and result.places["mosaic"].nunique() == n and result.false_share == 0


def test_confidence_is_a_share_and_falls_with_the_margin():
    rng = np.random.default_rng(7)
    n = 4000

    def pairs(margin):  # each border's best partner is the next tile
        partner = np.stack([np.roll(np.arange(n), -1), np.zeros(n, int)], axis=1)
        score = np.stack([margin, np.zeros(n)], axis=1).astype(np.float32)
        return links.Matches(partner, score, np.roll(np.arange(n), 1), np.zeros(n, np.float32))

    margin = rng.exponential(10, n)
    margin[:50] += 200
    none = links.make_links(np.zeros(0, int), np.zeros(0, int), "right")
    found, n_false = links.choose_pairs("right", pairs(margin), pairs(rng.exponential(10, n)), none)
    assert 50 <= len(found) <= 52 and set(range(50)) <= set(found["first"]) and n_false <= 0.003 * 52
    assert found["confidence"].between(0, 1).all() and found["confidence"].is_monotonic_decreasing
