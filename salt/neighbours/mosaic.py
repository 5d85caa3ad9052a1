"""The larger sections that tiles were cut from, as the table and the picture of `salt-data mosaic DATA`."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salt.data.amplitudes import BY_IMAGE, Scaling
from salt.data.folds import MOSAIC
from salt.data.source import find_source
from salt.neighbours.borders import Borders, Index, learn
from salt.neighbours.links import STEPS, choose_links, search
from salt.runs.files import write_atomic, write_text

IMPLAUSIBLE = -1.2  # mean score per frequency between two sections; below it they are not joined
N_DRAWN = 12  # sections in the picture
ACROSS = 3  # sections in a row of it
SIDE = 480  # pixels of a section
GAP = 8
LEAST_SIDE = 32  # pixels of a tile

Grid = dict[tuple[int, int], int]  # the tile at each row and column of a section


@dataclass(frozen=True)
class Found:
    """Links (first, second, direction, confidence), the tiles' places in sections, and the share believed false."""

    links: pd.DataFrame
    places: pd.DataFrame
    false_share: float
    n_refused: int


def write_mosaic(data: Path, out: Path | None = None, options: Path | None = None) -> str:
    """Find the sections of a data set's tiles, write table and picture, and return the text to print."""
    source = find_source(data, options)
    out = out or source.table(MOSAIC)
    if out.suffix != ".csv":
        raise ValueError(f"--out {out}: expected the name of a file that ends in .csv")
    if not out.parent.is_dir():
        raise ValueError(f"--out {out}: there is no folder {out.parent}")
    dataset = source.load(Scaling(BY_IMAGE))
    ids = [*dataset.train.ids, *dataset.test.ids]
    parts = [part.images for part in (dataset.train, dataset.test) if len(part.images)]
    if any(part.dtype == object for part in parts) or len({part.shape[1:] for part in parts}) > 1:
        raise ValueError(f"{data} has images of several sizes, expected tiles of one size")
    if min(parts[0].shape[1:]) < LEAST_SIDE:
        raise ValueError(f"{data} has tiles of fewer than {LEAST_SIDE} pixels on a side; their borders say too little")
    images = np.concatenate(parts)
    found = find_mosaics(images)
    table = found.places.assign(id=ids)[["id", "mosaic", "row", "column", "confidence"]]
    write_text(out, table.round({"confidence": 4}).to_csv(index=False, lineterminator="\n"))
    picture = draw_sections(found.places, images)
    write_atomic(out.with_suffix(".png"), lambda temporary: temporary.write_bytes(picture))
    sizes = found.places["mosaic"].value_counts()
    return (
        f"{len(found.links)} links between neighbours, about {100 * found.false_share:.1f} % of them false; "
        f"{found.n_refused} contradict surer ones and are left out\n"
        f"{(sizes > 1).sum()} sections of {sizes[sizes > 1].sum()} tiles, the largest of {sizes.max()}; "
        f"{(sizes == 1).sum()} tiles stay alone\n"
        f"written: {out} and {out.with_suffix('.png')}"
    )


def find_mosaics(images: NDArray[np.uint8]) -> Found:
    """Find neighbours among tiles (N H W) and join them, the surest links first."""
    matches, strangers, borders = {}, {}, {}
    for direction, turned in (("right", images), ("below", images.transpose(0, 2, 1))):
        seam = learn(turned)
        borders[direction] = Borders.of(seam, turned)
        matches[direction] = search(borders[direction], f"neighbours: {direction}")
        strangers[direction] = search(Borders.of(seam, turned, upside_down=True), f"by chance: {direction}")
    links, false_share = choose_links(matches, strangers)
    places, n_refused = place_tiles(links, borders, len(images))
    return Found(links, places, false_share, n_refused)


def place_tiles(links: pd.DataFrame, borders: dict[str, Borders], n: int) -> tuple[pd.DataFrame, int]:
    """Join n tiles by links, the surest first; return mosaic, row, column and confidence, and the links refused."""
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


class Sections:
    """Sections under construction: which tile lies where."""

    def __init__(self, n: int):
        self.of = np.arange(n)
        self.place = np.zeros((n, 2), dtype=np.int64)
        self.members: dict[int, Grid] = {i: {(0, 0): i} for i in range(n)}

    def join(self, first: int, second: int, step: tuple[int, int], borders: dict[str, Borders]) -> bool:
        """Put the second tile's section beside the first's; return False if they do not fit together."""
        a, b = int(self.of[first]), int(self.of[second])
        shift = self.place[first] + step - self.place[second]
        if a == b:
            return not shift.any()
        if len(self.members[a]) < len(self.members[b]):
            a, b, shift = b, a, -shift
        return self.merge(a, b, shift, borders)

    def merge(self, a: int, b: int, shift: Index, borders: dict[str, Borders]) -> bool:
        """Add section b, shifted, to section a, if they fit together."""
        moved = {(int(r + shift[0]), int(c + shift[1])): i for (r, c), i in self.members[b].items()}
        if moved.keys() & self.members[a].keys() or not is_plausible(self.members[a], moved, borders):
            return False
        for place, i in moved.items():
            self.of[i], self.place[i] = a, place
        self.members[a] |= moved
        del self.members[b]
        return True


def is_plausible(one: Grid, other: Grid, borders: dict[str, Borders]) -> bool:
    """Return whether the tiles that would become neighbours look like neighbours on average."""
    scores: list[float] = []
    for direction, (down, across) in STEPS.items():
        pairs = [(i, other[r + down, c + across]) for (r, c), i in one.items() if (r + down, c + across) in other]
        pairs += [(i, one[r + down, c + across]) for (r, c), i in other.items() if (r + down, c + across) in one]
        if pairs:
            first, second = np.array(pairs).T
            scores += (borders[direction].pair(first, second) / borders[direction].before.shape[1]).tolist()
    return not scores or float(np.mean(scores)) > IMPLAUSIBLE


def draw_sections(places: pd.DataFrame, images: NDArray[np.uint8]) -> bytes:
    """Return the largest sections as one PNG."""
    cells = [np.pad(draw_section(places[places["mosaic"] == n], images), GAP // 2) for n in range(N_DRAWN)]
    rows = [np.concatenate(cells[i : i + ACROSS], axis=1) for i in range(0, N_DRAWN, ACROSS)]
    return cv2.imencode(".png", np.concatenate(rows))[1].tobytes()


def draw_section(tiles: pd.DataFrame, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return one section, shrunk into a square; black where no tile is."""
    height, width = images.shape[1:]
    square = np.zeros((SIDE, SIDE), dtype=np.uint8)
    if tiles.empty:
        return square
    canvas = np.zeros(((tiles["row"].max() + 1) * height, (tiles["column"].max() + 1) * width), dtype=np.uint8)
    for i, row, column in zip(tiles.index, tiles["row"], tiles["column"], strict=True):
        canvas[row * height : (row + 1) * height, column * width : (column + 1) * width] = images[i]
    scale = SIDE / max(canvas.shape)
    height, width = (max(1, int(scale * n)) for n in canvas.shape)
    square[:height, :width] = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    return square
