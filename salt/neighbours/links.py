"""Which tiles are neighbours: the best partners of each border, squares of four, and how many chance would find.

Reference: Pomeranz, Shemesh, Ben-Shahar 2011, "A fully automated greedy square jigsaw puzzle solver", CVPR (best
buddies); Son, Hays, Cooper 2014, "Solving Square Jigsaw Puzzles with Loop Constraints", ECCV (loops of four).
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from salt.neighbours.borders import Borders, Index, Scores

CANDIDATES = 3  # partners of each border that may close a square
DRAWN = 100_000  # tiles, over all draws of squares by chance
FALSE = 0.003  # the largest share of false links in a direction, among squares and then among pairs
FEWEST_STRANGERS = 5  # whose margins say how large chance makes them
STEPS = {"right": (0, 1), "below": (1, 0)}  # rows and columns from the first tile of a link to the second
TILES_AT_ONCE = 1000  # compared with all others


@dataclass(frozen=True)
class Matches:
    """The best partners (N C) after the seam of each border before it, with their scores, best first.

    `back` (N) is the best partner of each border after the seam, `rival` (N) the score of its second best.
    """

    partner: Index
    score: Scores
    back: Index
    rival: Scores

    def mutual(self) -> tuple[Index, Index, Scores]:
        """Return pairs of borders that are each other's best partner, and their margins over the next best."""
        is_mutual = self.back[self.partner[:, 0]] == np.arange(len(self.back))
        first = np.flatnonzero(is_mutual & np.isfinite(self.score[:, 0]))
        second = self.partner[first, 0]
        others = np.maximum(self.score[first, 1], self.rival[second])
        return first, second, self.score[first, 0] - others

    def by_border(self) -> dict[int, dict[int, float]]:
        """Return the best partners of each border that has some, with their scores."""
        partners: dict[int, dict[int, float]] = defaultdict(dict)
        for first, k in zip(*np.nonzero(np.isfinite(self.score)), strict=True):
            partners[int(first)][int(self.partner[first, k])] = float(self.score[first, k])
        return partners

    def among(self, order: Index) -> "Matches":
        """Return the same matches between other tiles: tile `order[i]` takes the place of i."""
        inverse = np.argsort(order)
        partner, back = order[self.partner[inverse]], order[self.back[inverse]]
        return Matches(partner, self.score[inverse], back, self.rival[inverse])


def search(borders: Borders, title: str) -> Matches:
    """Compare all borders with all, some at a time."""
    n = len(borders.before)
    partner, score = np.zeros((n, CANDIDATES), dtype=np.int64), np.full((n, CANDIDATES), -np.inf, dtype=np.float32)
    back, best, rival = np.zeros(n, dtype=np.int64), *np.full((2, n), -np.inf, dtype=np.float32)
    starts = range(0, n, TILES_AT_ONCE)
    for start in tqdm(starts, title, unit_scale=TILES_AT_ONCE, unit="tile", disable=None, leave=False):
        block = borders.scores(slice(start, start + TILES_AT_ONCE))
        here, row = np.arange(n), np.arange(len(block))
        top = block.argmax(axis=0)
        values = block[top, here]
        block[top, here] = -np.inf
        second = block.max(axis=0)
        block[top, here] = values
        rival = np.maximum(np.minimum(best, values), np.maximum(rival, second))
        back = np.where(values > best, top + start, back)
        best = np.maximum(best, values)
        for k in range(min(CANDIDATES, n)):
            top = block.argmax(axis=1)
            partner[start + row, k], score[start + row, k] = top, block[row, top]
            block[row, top] = -np.inf
    return Matches(partner, score, back, rival)


@dataclass(frozen=True)
class Squares:
    """Squares, best first: upper left, upper right, lower left, lower right tile (N 4); sums of their scores (N)."""

    tiles: Index
    score: Scores

    def links(self, n: int) -> pd.DataFrame:
        """Return the links of the first n squares, each once, with the number of its best square."""
        sides = ((0, 1, "right"), (2, 3, "right"), (0, 2, "below"), (1, 3, "below"))
        tiles, square = self.tiles[:n], np.arange(n)
        tables = [make_links(tiles[:, i], tiles[:, j], direction, square=square) for i, j, direction in sides]
        links = pd.concat(tables).sort_values("square", kind="stable")
        return links.drop_duplicates(["first", "second", "direction"]).reset_index(drop=True)


def make_links(first: Index, second: Index, direction: str, **columns: Index | NDArray[np.floating]) -> pd.DataFrame:
    """Return a table of links of one direction."""
    return pd.DataFrame({"first": first, "second": second, "direction": direction, **columns})


def find_squares(right: Matches, below: Matches) -> Squares:
    """Find all squares: a tile, a partner to its right, one below it, and one that is beside both."""
    to_right, to_below = right.by_border(), below.by_border()
    found = []
    for a, beside in to_right.items():
        for c, left in to_below.get(a, {}).items():
            for b, top in beside.items():
                for d, bottom in to_right.get(c, {}).items():
                    closing = to_below.get(b, {}).get(d)
                    if closing is not None and len({a, b, c, d}) == 4:
                        found.append((left + top + bottom + closing, a, b, c, d))
    table = np.array(sorted(found, reverse=True), dtype=np.float64).reshape(-1, 5)
    return Squares(table[:, 1:].astype(np.int64), table[:, 0].astype(np.float32))


def choose_links(matches: dict[str, Matches], strangers: dict[str, Matches]) -> tuple[pd.DataFrame, float]:
    """Return links, surest first, and the share believed false: first links in squares, then pairs with a large margin.

    `strangers` are matches of the same tiles with half of them upside down, so that chance alone finds them.
    """
    confirmed, n_false = choose_squares(matches, strangers)
    pairs = []
    for direction in STEPS:
        found, n_more = choose_pairs(direction, matches[direction], strangers[direction], confirmed)
        pairs.append(found)
        n_false += n_more
    ordered = pd.concat(pairs).sort_values("margin", ascending=False, kind="stable").drop(columns="margin")
    links = pd.concat([confirmed, ordered], ignore_index=True)
    return links, n_false / max(len(links), 1)


def choose_squares(matches: dict[str, Matches], strangers: dict[str, Matches]) -> tuple[pd.DataFrame, float]:
    """Return the links of the squares whose score is rare by chance, and how many are believed false."""
    found = find_squares(matches["right"], matches["below"])
    n_chance = count_squares_by_chance(found.score, matches, strangers)
    share = n_chance / np.arange(1, len(found.score) + 1)
    n_good = int(np.flatnonzero(share <= FALSE).max(initial=-1)) + 1
    links = found.links(n_good)
    links["confidence"] = 1 - least_from_here(share[:n_good])[links.pop("square")]
    return links, 4 * float(n_chance[n_good - 1]) if n_good else 0.0


def count_squares_by_chance(
    score: Scores, matches: dict[str, Matches], strangers: dict[str, Matches]
) -> NDArray[np.floating]:
    """Return how many squares of at least each score (N, descending) would be found if no tiles were neighbours.

    It is the larger of two numbers: among strangers, and the mean of draws that deal the lower neighbours to other
    tiles. The draws count one square more, which they may have missed.
    """
    n = len(matches["right"].back)
    n_draws = -(-DRAWN // n)
    rng = np.random.default_rng(0)
    drawn = [find_squares(matches["right"], matches["below"].among(rng.permutation(n))).score for _ in range(n_draws)]
    of_strangers = find_squares(strangers["right"], strangers["below"]).score
    return np.maximum((at_least(np.concatenate(drawn), score) + 1) / n_draws, at_least(of_strangers, score))


def choose_pairs(
    direction: str, matches: Matches, strangers: Matches, confirmed: pd.DataFrame
) -> tuple[pd.DataFrame, float]:
    """Return mutual best partners outside squares whose margin is rare among strangers, and how many are false."""
    known = confirmed[confirmed["direction"] == direction]
    taken = set(zip(known["first"], known["second"], strict=True))
    first, second, margin = matches.mutual()
    free = np.array([pair not in taken for pair in zip(first.tolist(), second.tolist(), strict=True)], dtype=bool)
    order = np.flatnonzero(free)[np.argsort(-margin[free], kind="stable")]
    first, second, margin = first[order], second[order], margin[order]
    rank = np.arange(1, len(margin) + 1)
    n_strangers = expect_at_least(strangers.mutual()[2], margin)
    n_good = int(np.flatnonzero(n_strangers <= FALSE * (len(known) + rank)).max(initial=-1)) + 1
    confidence = 1 - least_from_here(np.minimum(n_strangers / rank, 1)[:n_good])
    found = make_links(first[:n_good], second[:n_good], direction, margin=margin[:n_good], confidence=confidence)
    return found, float(n_strangers[n_good - 1]) if n_good else 0.0


def at_least(values: NDArray[np.floating], limits: NDArray[np.floating]) -> Index:
    """Return how many of the values (M) are as large as each limit (N)."""
    return len(values) - np.searchsorted(np.sort(values), limits)


def expect_at_least(values: Scores, limits: Scores) -> NDArray[np.floating]:
    """Return how many values like these (M) can be expected beyond each limit (N).

    It is their number, or that of an exponential tail of their upper half if larger; infinite if there are too few.
    """
    if len(values) < FEWEST_STRANGERS:
        return np.full(len(limits), np.inf)
    middle = np.median(values)
    upper = values[values > middle] - middle
    tail = len(upper) * np.exp(-(limits - middle) / upper.mean()) if len(upper) else np.zeros(len(limits))
    return np.maximum(at_least(values, limits), tail)


def least_from_here(share: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the least of each share (N, surest link first) and of those after it."""
    return np.minimum.accumulate(share[::-1])[::-1]
