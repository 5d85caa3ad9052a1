"""The larger sections that tiles were cut from, put together from links between neighbours."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salt.neighbours.borders import Borders, learn
from salt.neighbours.links import STEPS, Index, choose_links, search

IMPLAUSIBLE = -1.2  # mean score, for each sample of a border, of the neighbours that joining two sections would make


@dataclass(frozen=True)
class Found:
    """Links (first, second, direction, confidence), the tiles' places in sections, and the false share believed."""

    links: pd.DataFrame
    places: pd.DataFrame
    false_share: float
    n_refused: int


def find_mosaics(images: NDArray[np.uint8]) -> Found:
    """Find neighbours among tiles (N H W) and put them together, the surest links first."""
    matches, strangers, borders = {}, {}, {}
    for direction, turned in (("right", images), ("below", images.transpose(0, 2, 1))):
        seam = learn(turned)
        borders[direction] = Borders.of(seam, turned)
        matches[direction] = search(borders[direction], f"neighbours: {direction}")
        strangers[direction] = search(Borders.of(seam, turned, upside_down=True), f"by chance: {direction}")
    links, false_share = choose_links(matches, strangers)
    places, n_refused = assemble(links, borders, len(images))
    return Found(links, places, false_share, n_refused)


class Sections:
    """Sections under construction: which tile lies where."""

    def __init__(self, n: int):
        self.of = np.arange(n)
        self.place = np.zeros((n, 2), dtype=np.int64)
        self.members: dict[int, dict[tuple[int, int], int]] = {i: {(0, 0): i} for i in range(n)}

    def join(self, first: int, second: int, step: tuple[int, int], borders: dict[str, Borders]) -> bool:
        """Put the second tile's section beside the first's; False if they do not fit together."""
        a, b = int(self.of[first]), int(self.of[second])
        shift = self.place[first] + step - self.place[second]
        if a == b:
            return not shift.any()
        if len(self.members[a]) < len(self.members[b]):
            return self.merge(b, a, -shift, borders)
        return self.merge(a, b, shift, borders)

    def merge(self, a: int, b: int, shift: Index, borders: dict[str, Borders]) -> bool:
        """Add section b, shifted, to section a."""
        moved = {(int(r + shift[0]), int(c + shift[1])): i for (r, c), i in self.members[b].items()}
        if moved.keys() & self.members[a].keys() or not plausible(self.members[a], moved, borders):
            return False
        for place, i in moved.items():
            self.of[i], self.place[i] = a, place
        self.members[a] |= moved
        del self.members[b]
        return True


def plausible(one: dict[tuple[int, int], int], other: dict[tuple[int, int], int], borders: dict[str, Borders]) -> bool:
    """Whether the tiles that come to lie beside each other do not look like strangers."""
    scores: list[float] = []
    for direction, (down, across) in STEPS.items():
        pairs = [(i, other[r + down, c + across]) for (r, c), i in one.items() if (r + down, c + across) in other]
        pairs += [(i, one[r + down, c + across]) for (r, c), i in other.items() if (r + down, c + across) in one]
        if pairs:
            first, second = np.array(pairs).T
            scores += (borders[direction].pair(first, second) / borders[direction].before.shape[1]).tolist()
    return not scores or float(np.mean(scores)) > IMPLAUSIBLE


def assemble(links: pd.DataFrame, borders: dict[str, Borders], n: int) -> tuple[pd.DataFrame, int]:
    """Sections from links, the surest first; returns each tile's mosaic, row, column, confidence, and links refused."""
    sections, sure, n_refused = Sections(n), np.zeros(n), 0
    for first, second, direction, confidence in links.itertuples(index=False):
        if sections.join(first, second, STEPS[direction], borders):
            for i in (first, second):
                sure[i] = max(sure[i], confidence)
        else:
            n_refused += 1
    rows = []
    largest_first = sorted(sections.members.values(), key=lambda members: (-len(members), min(members.values())))
    for number, members in enumerate(largest_first):
        top, left = (min(place[k] for place in members) for k in (0, 1))
        rows += [(i, number, r - top, c - left, sure[i]) for (r, c), i in members.items()]
    table = pd.DataFrame(rows, columns=["tile", "mosaic", "row", "column", "confidence"])
    return table.set_index("tile").sort_index(), n_refused


def neighbours(places: pd.DataFrame) -> Iterator[tuple[int, int, str]]:
    """All pairs of tiles that lie beside each other: first, second, direction."""
    at = {
        (m, r, c): i for i, m, r, c in zip(places.index, places["mosaic"], places["row"], places["column"], strict=True)
    }
    for (m, r, c), i in at.items():
        for direction, (down, across) in STEPS.items():
            if (m, r + down, c + across) in at:
                yield int(i), int(at[m, r + down, c + across]), direction
