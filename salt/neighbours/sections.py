"""Which tiles of a data set lie beside each other, as a table and a picture: what `salt-data mosaic DATA` writes."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from salt.data.amplitudes import BY_IMAGE, Scaling
from salt.data.places import MOSAIC
from salt.data.source import find_source
from salt.neighbours.mosaic import Found, find_mosaics
from salt.runs.files import write_atomic, write_text

N_DRAWN = 12  # sections in the picture
ACROSS = 3  # of them beside each other
SIDE = 480  # pixels of each
GAP = 8
LEAST_SIDE = 32


def write_mosaic(data: Path, out: Path | None = None, options: Path | None = None) -> str:
    """Find the sections of a data set's tiles, and write them and a picture beside them; returns what to print.

    `out` is by default the data's own mosaic.csv; `options` is a user's folder of options (see `find_source`).

    Raises:
        ValueError: the data cannot be read, or its images have several sizes.
    """
    source = find_source(data, options)
    out = out or source.table(MOSAIC)
    if out.suffix != ".csv":
        raise ValueError(f"--out {out}: expected the name of a file that ends in .csv")
    if not out.parent.is_dir() and out.parent != data:
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
    picture = draw(found, images)
    write_atomic(out.with_suffix(".png"), lambda temporary: temporary.write_bytes(picture))
    return in_words(found, out)


def in_words(found: Found, out: Path) -> str:
    """How many links and sections were found, and how far they can be trusted."""
    sizes = found.places["mosaic"].value_counts()
    sections = sizes[sizes > 1]
    return (
        f"{len(found.links)} links between neighbours, about {100 * found.false_share:.1f} % of them false; "
        f"{found.n_refused} of them contradict surer ones and are left out\n"
        f"{len(sections)} sections of {sections.sum()} tiles, the largest of {sizes.max()}; "
        f"{(sizes == 1).sum()} tiles stay alone\n"
        f"written: {out} and {out.with_suffix('.png')}"
    )


def draw(found: Found, images: NDArray[np.uint8]) -> bytes:
    """The largest sections, three beside each other, as a PNG."""
    cells = [np.pad(section(found, images, number), GAP // 2) for number in range(N_DRAWN)]
    rows = [np.concatenate(cells[i : i + ACROSS], axis=1) for i in range(0, N_DRAWN, ACROSS)]
    return cv2.imencode(".png", np.concatenate(rows))[1].tobytes()


def section(found: Found, images: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """One section, shrunk into a square; black where no tile is."""
    tiles = found.places[found.places["mosaic"] == number]
    height, width = images.shape[1:]
    whole = np.zeros((SIDE, SIDE), dtype=np.uint8)
    if tiles.empty:
        return whole
    canvas = np.zeros(((tiles["row"].max() + 1) * height, (tiles["column"].max() + 1) * width), dtype=np.uint8)
    for i, row, column in zip(tiles.index, tiles["row"], tiles["column"], strict=True):
        canvas[row * height : (row + 1) * height, column * width : (column + 1) * width] = images[i]
    scale = SIDE / max(canvas.shape)
    height, width = (max(1, int(scale * n)) for n in canvas.shape)
    small = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    whole[: small.shape[0], : small.shape[1]] = small
    return whole
