"""Tiles for a page: pictures as text, and the columns to sort and filter them by."""

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salt.data import rle
from salt.reporting.facts import Predicted
from salt.scoring.errors import classify

# Tiles of a page, which stays below 60 MB: a tile of 101x101 pixels has 6 kB.
MOST_HELD_OUT, MOST_TEST = 5000, 2500
MOST_CHANGED = 500  # tiles of two runs side by side
MOST_PIXELS = 101 * 101  # of a tile, on average: larger images are shrunk, down to SMALLEST, then fewer are shown
LARGEST, SMALLEST = 1600, 200  # pixels of the longer side
JPEG_QUALITY = 85
TILES_OF_CHUNK = 100  # in one element of the page, which is parsed when one of them is shown


@dataclass(frozen=True)
class Gallery:
    """Tiles of a page: a table with a row each, and their pictures in chunks of JSON."""

    table: pd.DataFrame
    n_all: int  # of all tiles, of which a sample may be shown
    side: int | None  # to which the longer side of larger images was shrunk
    chunks: list[str]


def held_out_gallery(table: pd.DataFrame, predicted: Predicted) -> Gallery:
    """Return the out-of-fold tiles, with the error of each."""
    masks = predicted.tiles.masks
    assert masks is not None
    shown, side = choose_tiles(predicted, table["score"].to_numpy(), MOST_HELD_OUT)
    errors = [classify(masks[predicted.positions[i]], predicted.known_salt(i)) for i in shown]
    rows = table.iloc[shown].assign(
        error=[error.kind for error in errors],
        missed=[error.missed for error in errors],
        invented=[error.invented for error in errors],
        wrong=[error.missed + error.invented for error in errors],
        predicted=[bool(predicted.known_salt(i).any()) for i in shown],
    )
    return Gallery(rows, len(table), side, list(chunks([predicted], shown, side)))


def test_gallery(predicted: Predicted) -> Gallery:
    """Return the test tiles, with the uncertainty of each."""
    unsure = np.array([uncertainty(image) for image in predicted.probabilities])
    shown, side = choose_tiles(predicted, -unsure, MOST_TEST)
    rows = pd.DataFrame(
        {
            "id": [predicted.tiles.ids[predicted.positions[i]] for i in shown],
            "unsure": unsure[shown],
            "coverage": [float(predicted.salt[i].mean()) for i in shown],
            "predicted": [bool(predicted.salt[i].any()) for i in shown],
        }
    )
    return Gallery(rows, len(unsure), side, list(chunks([predicted], shown, side)))


def changes_gallery(tables: Sequence[pd.DataFrame], runs: Sequence[Predicted]) -> Gallery:
    """Return the tiles on which two runs differ most; both runs have the same tiles in the same order."""
    first, second = tables
    before, after = first["score"], second["score"]
    rows = first[["id", "fold", "coverage"]].assign(change=after - before, before=before, after=after)
    differing = (second["iou"] - first["iou"]).abs()
    order = np.lexsort((-differing, -rows["change"].abs()))[:MOST_CHANGED]
    side = choose_tiles(runs[0], np.zeros(len(rows)), MOST_CHANGED)[1]
    return Gallery(rows.iloc[order], len(rows), side, list(chunks(runs, order, side)))


def uncertainty(probability: NDArray[Any]) -> float:
    """Return the expected share of wrong pixels of a tile, if its probabilities (H W) are right."""
    p = to_bytes(probability) / np.float32(255)
    return float(np.minimum(p, 1 - p).mean())


def choose_tiles(predicted: Predicted, key: NDArray[np.float64], most: int) -> tuple[NDArray[np.int64], int | None]:
    """Choose tiles to show, at equal steps of rank by `key` if too many, and the side to shrink them to (or None)."""
    shapes = np.array([image.shape for image in predicted.probabilities], dtype=np.float64)
    longest, areas = shapes.max(axis=1), shapes.prod(axis=1)
    n, side, pixels = min(len(key), most), LARGEST, most * MOST_PIXELS
    while side > SMALLEST and n / len(key) * shrunk_pixels(areas, longest, side) > pixels:
        side = max(int(side / 1.25), SMALLEST)
    n = max(1, min(n, int(len(key) * pixels / shrunk_pixels(areas, longest, side))))
    order = np.argsort(key, kind="stable")
    shown = np.sort(order[np.linspace(0, len(key) - 1, n).round().astype(np.int64)])
    return shown, side if (longest[shown] > side).any() else None


def shrunk_pixels(areas: NDArray[np.float64], longest: NDArray[np.float64], side: int) -> float:
    """Return the pixels of all images after their longer sides are shrunk to `side`."""
    return float((areas * np.minimum(side / longest, 1) ** 2).sum())


def chunks(runs: Sequence[Predicted], shown: NDArray[np.int64], side: int | None) -> Iterator[str]:
    """Yield the pictures of some tiles as JSON: lists [image, truth, [[probability, prediction] of each run]].

    Masks are [height, width, run lengths]; the truth of test tiles is null. A tile with unknown pixels has their mask
    as a fourth entry.
    """
    tiles, masks, known = runs[0].tiles, runs[0].tiles.masks, runs[0].tiles.known
    for start in range(0, len(shown), TILES_OF_CHUNK):
        some = []
        for i in shown[start : start + TILES_OF_CHUNK]:
            position = runs[0].positions[i]
            pairs = [(to_bytes(run.probabilities[i]), run.salt[i]) for run in runs]
            predictions = [[encode(p, ".png", side), run_lengths(salt, side)] for p, salt in pairs]
            truth = None if masks is None else run_lengths(masks[position], side)
            unknown = [] if known is None or known[position].all() else [run_lengths(~known[position], side)]
            some.append([encode(tiles.images[position], ".jpg", side), truth, predictions, *unknown])
        yield json.dumps(some, separators=(",", ":"))


def to_bytes(probability: NDArray[Any]) -> NDArray[np.uint8]:
    """Return probabilities as 0-255, as which some are stored already."""
    if probability.dtype == np.uint8:
        return probability
    return np.rint(probability.astype(np.float32) * 255).astype(np.uint8)


def shrink(image: NDArray[np.uint8], side: int | None) -> NDArray[np.uint8]:
    """Shrink an image so that its longer side is at most `side`."""
    height, width = image.shape
    if side is None or max(height, width) <= side:
        return image
    scale = side / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def run_lengths(mask: NDArray[Any], side: int | None) -> list[Any]:
    """Return a mask as [height, width, run lengths]; a pixel of a shrunk one is salt if half of it is."""
    small = shrink((mask != 0).astype(np.uint8) * 255, side) > 127
    return [*small.shape, rle.encode(small)]


def encode(image: NDArray[np.uint8], suffix: str, side: int | None) -> str:
    """Return an image, shrunk to `side`, as a JPEG or PNG in base64."""
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if suffix == ".jpg" else []
    return base64.b64encode(cv2.imencode(suffix, shrink(image, side), options)[1].tobytes()).decode()
