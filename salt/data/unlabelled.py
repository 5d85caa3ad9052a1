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

COLUMNS = {"fold": "int64", "id": "str", "confidence": "float64", "rle_mask": "str"}  # of a file of salt-pseudo
FIRST = "# folds "  # its first line tells which folds it was made with


@dataclass(frozen=True)
class PseudoLabels:
    """For some folds, the masks of tiles as predicted by networks that were not trained on the fold.

    `table` has the columns of the file; `folds` is the digest of the division (see `digest_of_folds`).
    """

    folds: str
    table: pd.DataFrame

    def of_fold(self, fold: int, least: float, tiles: Tiles) -> tuple[NDArray[np.int64], Stack]:
        """Positions (M) among the tiles, and masks (M H W, or M arrays), of the labels that are confident enough.

        Raises:
            ValueError: there are none for the fold, or they do not belong to these tiles.
        """
        rows = self.table[self.table["fold"] == fold]
        if rows.empty:
            known = sorted(set(self.table["fold"].tolist()))
            raise ValueError(f"data.pseudo has no labels for fold {fold}, it has those for the folds {known}")
        rows = rows[rows["confidence"] >= least]
        positions = pd.Index(tiles.ids).get_indexer(pd.Index(rows["id"]))
        if (positions < 0).any():
            missing = rows["id"][positions < 0].tolist()
            raise ValueError(
                f"data.pseudo: {len(missing)} of its tiles are not among those without a mask, e.g. {missing[:5]}; "
                "data.unlabelled=FOLDER names the data that has them"
            )
        sizes = sizes_of(tiles.images[positions])
        try:
            masks = rle.decode_sizes(rows["rle_mask"].tolist(), sizes) if len(rows) else tiles.images[:0]
        except rle.RunLengthError as error:
            name = rows["id"].iloc[error.row]
            raise ValueError(f"data.pseudo: rle_mask of id {name}, fold {fold}: {error.reason}") from None
        return positions.astype(np.int64), masks if isinstance(masks, np.ndarray) else as_stack(list(masks))


@dataclass(frozen=True)
class Unlabelled:
    """Tiles without a mask, and pseudo-labels of them where these are used."""

    tiles: Tiles
    labels: PseudoLabels | None = None
    digest: str = ""  # of the tiles and of the file of labels

    def for_training(self, fold: int, least: float) -> Tiles:
        """What a fold is trained on beside the tiles with masks: confident pseudo-labels, or tiles with empty masks.

        Raises:
            ValueError: as `PseudoLabels.of_fold`; or there is no tile.
        """
        if self.labels is None:
            positions = np.arange(len(self.tiles.ids))
            masks = as_stack([np.broadcast_to(np.uint8(0), image.shape) for image in self.tiles.images])
        else:
            positions, masks = self.labels.of_fold(fold, least, self.tiles)
        if not len(positions):
            raise ValueError(f"data.pseudo: no label for fold {fold} has a confidence of semi_supervised.least={least}")
        ids = [self.tiles.ids[i] for i in positions]
        return Tiles(ids, self.tiles.images[positions], masks, self.tiles.depths[positions])


def joined(first: Tiles, second: Tiles) -> Tiles:
    """Tiles with masks, and others after them."""
    assert first.masks is not None and second.masks is not None
    return Tiles(
        first.ids + second.ids,
        joined_stacks(first.images, second.images),
        joined_stacks(first.masks, second.masks),
        np.concatenate([first.depths, second.depths]),
    )


def joined_stacks(first: Stack, second: Stack) -> Stack:
    """The images of two stacks."""
    if first.dtype != object and first.shape[1:] == second.shape[1:]:
        return np.concatenate([first, second])
    return as_stack([*first, *second])


def digest_of_folds(ids: list[str], folds: NDArray[np.int64]) -> str:
    """SHA-256 of which tile is held out in which fold, whatever the order of the tiles."""
    lines = sorted(f"{name},{fold}" for name, fold in zip(ids, folds.tolist(), strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def write_labels(file: Path, labels: PseudoLabels) -> None:
    """Write pseudo-labels as a CSV, atomically; its first line has the digest of the folds."""
    text = labels.table.to_csv(index=False, lineterminator="\n", columns=list(COLUMNS), float_format="%.4f")
    write_text(file, f"{FIRST}{labels.folds}\n{text}")


def read_labels(file: Path) -> PseudoLabels:
    """Read what `write_labels` wrote.

    Raises:
        ValueError: it is missing or damaged.
    """
    check_file("data.pseudo", file)
    with file.open(encoding="utf-8", errors="replace", newline="") as lines:
        first = lines.readline().rstrip("\r\n")
        if not first.startswith(FIRST):
            raise ValueError(f"data.pseudo: {file} is no file of salt-pseudo, whose first line begins with {FIRST!r}")
        try:
            table = pd.read_csv(lines, dtype=COLUMNS, keep_default_na=False)[list(COLUMNS)]
        except (ValueError, KeyError) as error:  # pandas' own errors are ValueErrors
            raise ValueError(f"data.pseudo: {file} is damaged: {error}") from None
    twice = table.duplicated(["fold", "id"])
    if twice.any() or not table["confidence"].between(0, 1).all():
        what = "a tile stands twice in a fold" if twice.any() else "a confidence is not within 0 ... 1"
        raise ValueError(f"data.pseudo: {file} is damaged: {what}")
    return PseudoLabels(first.removeprefix(FIRST), table)


def unlabelled(tiles: Tiles, file: Path | None) -> Unlabelled:
    """Tiles without a mask with the pseudo-labels of a file, if one is given.

    Raises:
        ValueError: there are no tiles, or the file cannot be used.
    """
    if not tiles.ids:
        raise ValueError("semi-supervised: the data has no test images; data.unlabelled=FOLDER names data that has")
    labels = None if file is None else read_labels(file)
    parts = [tiles.digest(), *([] if file is None else [sha256(file)])]
    return Unlabelled(tiles, labels, hashlib.sha256("".join(parts).encode()).hexdigest())
