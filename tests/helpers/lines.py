"""Tiles cut from generated lines, whose places are known."""

import itertools

import numpy as np

from salt.config import Amplitudes
from salt.data.amplitudes import Scaling
from salt.data.image import TILE_SIZE
from salt.data.synthetic import make_line

STRETCHED = Scaling(Amplitudes(per="image", percentiles=[0.5, 99.5], range=None))


def cut_lines(seed, n_lines, rows, columns, held_back):
    """Shuffled tiles of lines, each stretched by itself, and (line, row, column) of each; a share is held back."""
    rng, tiles, places = np.random.default_rng(seed), [], []
    for line in range(n_lines):
        amplitudes, _ = make_line(rng, (rows * TILE_SIZE, columns * TILE_SIZE), n_bodies=2)
        for row, column in itertools.product(range(rows), range(columns)):
            if rng.random() >= held_back:
                y, x = row * TILE_SIZE, column * TILE_SIZE
                tiles.append(STRETCHED(amplitudes[y : y + TILE_SIZE, x : x + TILE_SIZE]).levels)
                places.append((line, row, column))
    order = rng.permutation(len(tiles))
    return np.stack([tiles[i] for i in order]), [places[i] for i in order]
