"""Tiles without a mask that training uses, and the masks that networks of another run predicted for them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salt.data import rle
from salt.data.tiles import Tiles
from salt.runs.files import check_file, sha256, write_text
from salt.runs.stacks import Stack, as_stack, sizes_of

LABEL_COLUMNS = {"fold": "int64", "id": "str", "confidence": "float64", "rle_mask": "str"}  # of a file of salt-pseudo
PREFIX = "# salt-pseudo "  # its first line: digests of the division and of the labelled tiles


@dataclass(frozen=True)
class LabelTable:
    """For some folds, the masks of tiles as predicted by networks that were not trained on the fold.

    `table` has the columns of the file; `folds` is the digest of the division (see `digest_of_folds`), `tiles` that of
    the labelled tiles.
    """

    folds: str
    tiles: str
    table: pd.DataFrame

    def confident(self, fold: int, least: float) -> pd.DataFrame:
        """Return the labels of a fold that are confident enough.

        Raises:
            ValueError: there are none.
        """
        rows = self.table[self.table["fold"] == fold]
        if rows.empty:
            known = sorted(set(self.table["fold"].tolist()))
            raise ValueError(f"data.pseudo has no labels for fold {fold}, it has those for the folds {known}")
        rows = rows[rows["confidence"] >= least]
        if rows.empty:
            raise ValueError(f"data.pseudo: no label for fold {fold} has a confidence of semi_supervised.least={least}")
        return rows


@dataclass(frozen=True)
class Unlabelled:
    """Tiles without a mask, and pseudo-labels of them."""

    tiles: Tiles
    labels: LabelTable
    digest: str  # of the tiles and of the file of labels

    def for_training(self, fold: int, least: float) -> Tiles:
        """Return the tiles whose pseudo-labels for this fold are confident enough, with these as their masks.

        Raises:
            ValueError: as `LabelTable.confident`, or a run-length string does not fit.
        """
        tiles, rows = self.tiles, self.labels.confident(fold, least)
        at = pd.Index(tiles.ids).get_indexer(pd.Index(rows["id"])).astype(np.int64)
        images = tiles.images[at]
        try:
            masks = rle.decode_sizes(rows["rle_mask"].tolist(), sizes_of(images))
        except rle.RunLengthError as error:
            name = rows["id"].iloc[error.row]
            raise ValueError(f"data.pseudo: rle_mask of id {name}, fold {fold}: {error.reason}") from None
        missing = None if tiles.missing is None else tiles.missing[at]
        return Tiles(rows["id"].tolist(), images, as_stack(list(masks)), tiles.depths[at], missing)


def join_tiles(first: Tiles, second: Tiles) -> Tiles:
    """Return tiles with masks, and others after them."""
    assert first.masks is not None and second.masks is not None
    missing = None
    if first.missing is not None or second.missing is not None:
        missing = join_stacks(*(missing_pixels(tiles) for tiles in (first, second)))
    return Tiles(
        first.ids + second.ids,
        join_stacks(first.images, second.images),
        join_stacks(first.masks, second.masks),
        np.concatenate([first.depths, second.depths]),
        missing,
    )


def join_stacks(first: Stack, second: Stack) -> Stack:
    """Return the images of two stacks as one."""
    if first.dtype != object and first.shape[1:] == second.shape[1:]:
        return np.concatenate([first, second])
    return as_stack([*first, *second])


def missing_pixels(tiles: Tiles) -> Stack:
    """Return the missing pixels of tiles, also if there are none."""
    if tiles.missing is not None:
        return tiles.missing
    return as_stack([np.zeros(image.shape, np.bool_) for image in tiles.images])


def digest_of_folds(tiles: Tiles, folds: NDArray[np.int64]) -> str:
    """Return the SHA-256 of which image is held out in which fold, whatever the order and names of the tiles."""
    images = [hashlib.sha256(np.ascontiguousarray(image).data).hexdigest() for image in tiles.images]
    lines = sorted(f"{image},{fold}" for image, fold in zip(images, folds.tolist(), strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def write_labels(file: Path, labels: LabelTable) -> None:
    """Write pseudo-labels as a CSV, atomically; its first line has the digests."""
    text = labels.table.to_csv(index=False, lineterminator="\n", columns=list(LABEL_COLUMNS), float_format="%.4f")
    write_text(file, f"{PREFIX}{labels.folds} {labels.tiles}\n{text}")


def read_labels(file: Path) -> LabelTable:
    """Read what `write_labels` wrote.

    Raises:
        ValueError: it is missing or damaged.
    """
    check_file("data.pseudo", file)
    with file.open(encoding="utf-8", errors="replace", newline="") as lines:
        first = lines.readline().rstrip("\r\n")
        digests = first.removeprefix(PREFIX).split()
        if not first.startswith(PREFIX) or len(digests) != 2:
            raise ValueError(f"data.pseudo: {file} is no file of salt-pseudo, expected {PREFIX!r} in the first line")
        try:
            table = pd.read_csv(lines, dtype=LABEL_COLUMNS, keep_default_na=False)[list(LABEL_COLUMNS)]
        except (ValueError, KeyError) as error:  # pandas' own errors are ValueErrors
            raise ValueError(f"data.pseudo: {file} is damaged: {error}") from None
    twice = table.duplicated(["fold", "id"])
    if twice.any() or not table["confidence"].between(0, 1).all():
        what = "a tile occurs twice in a fold" if twice.any() else "a confidence is not between 0 and 1"
        raise ValueError(f"data.pseudo: {file} is damaged: {what}")
    return LabelTable(digests[0], digests[1], table)


def with_labels(tiles: Tiles, file: Path) -> Unlabelled:
    """Return tiles without a mask with the pseudo-labels of a file.

    Raises:
        ValueError: the file cannot be used, or is of other tiles.
    """
    labels, digest = read_labels(file), tiles.digest()
    if labels.tiles != digest or not set(labels.table["id"]) <= set(tiles.ids):
        raise ValueError(
            f"data.pseudo={file} has labels of other tiles than the {len(tiles.ids)} without a mask here; "
            "data.unlabelled=FOLDER names the data that was labelled"
        )
    return Unlabelled(tiles, labels, hashlib.sha256(f"{digest}{sha256(file)}".encode()).hexdigest())
