"""The data of a run; tiles without a mask, and the masks that networks of another run predicted for them."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salt.config import RunConfig
from salt.data import rle
from salt.data.amplitudes import Scaling
from salt.data.source import source_of
from salt.data.tiles import Dataset, Tiles, tile_size
from salt.machine import distributed
from salt.runs.files import check_file, sha256, write_text
from salt.runs.rundir import RunDir
from salt.runs.stacks import Stack, as_stack, sizes_of

LABEL_COLUMNS = {"fold": "int64", "id": "str", "confidence": "float64", "rle_mask": "str"}  # of a file of salt-pseudo
PREFIX = "# salt-pseudo "  # its first line: digests of the division and of the labelled tiles


def load_data(config: RunConfig) -> Dataset:
    """Return the data set, or raise ValueError; a source that generates data makes it first, except in a dry run."""
    source = source_of(config.data)
    with distributed.main_first():
        if not config.dry_run:
            source.prepare()
        data = source.load(Scaling.of(config.data))
    data.check(config.data.target)
    return data.settled()


def load_unlabelled(config: RunConfig, data: Dataset) -> Tiles:
    """Return the images without a mask, or those of the folder data.unlabelled; raise ValueError if there are none."""
    tiles = data.test if data.uninterpreted is None else join_tiles(data.uninterpreted, data.test)
    if config.data.unlabelled is not None:
        place = Path(config.data.unlabelled)
        if not place.exists():
            raise ValueError(f"data.unlabelled: there is no folder {place}")
        tiles = source_of(config.data).unlabelled(place, Scaling.of(fill_from_data(config, data).data))
    if config.input.channels == "depth_z" and np.isnan(tiles.depths).any():
        raise ValueError("input.channels=depth_z: tiles without a mask have no depth; expected image or depth")
    if not tiles.ids:
        raise ValueError(
            "the data has no test images, so there are no tiles without a mask; "
            "data.unlabelled=FOLDER (salt-pseudo: --unlabelled FOLDER) names other data"
        )
    return tiles


def fill_from_data(config: RunConfig, data: Dataset) -> RunConfig:
    """Return the config with what the data decides: the size of a tile and the range of amplitudes."""
    if config.input.channels == "depth_z" and data.has_no_depths:
        absent = f"images of {config.data.root} have no depth (depths.csv)"
        raise ValueError(f"input.channels=depth_z: {absent}; expected image or depth")
    tile, amplitudes = config.data.tile, config.data.amplitudes
    if tile is None:
        tile = list(tile_size(sizes_of(data.train.images), largest=largest_tile(config)))
    if data.limits is not None:
        amplitudes = amplitudes.model_copy(update={"range": list(data.limits)})
    return config.model_copy(update={"data": config.data.model_copy(update={"tile": tile, "amplitudes": amplitudes})})


def largest_tile(config: RunConfig) -> int:
    """Return the side of the largest tile that the input takes, in pixels; raise ValueError if no setting says it."""
    node = config.input.node()
    size: int | None = node.get("resize", node.get("size"))
    if size is None:
        raise ValueError("input.size: is missing; expected a number of pixels, or data.tile=[height,width]")
    return size


def load_data_of_run(directory: RunDir, config: RunConfig, root: str | None) -> Dataset:
    """Return the data that a run was trained on, from `root` or its config; raise ValueError if it is other data."""
    place = Path(root or config.data.root).expanduser()
    if not place.exists():
        raise ValueError(f"there is no folder {place} with the run's data; --root FOLDER names another place")
    data = source_of(config.data, str(place)).load(Scaling.of(config.data)).settled()
    directory.check_data(data.digest(), str(place), "--root FOLDER names another place")
    return data


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
        """Return the labels of a fold that are confident enough; raise ValueError if there are none."""
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
        """Return the tiles with confident pseudo-labels for this fold as masks; raise ValueError if there are none."""
        tiles, rows = self.tiles, self.labels.confident(fold, least)
        at = pd.Index(tiles.ids).get_indexer(pd.Index(rows["id"])).astype(np.int64)
        images = tiles.images[at]
        try:
            masks = rle.decode_sizes(rows["rle_mask"].tolist(), sizes_of(images))
        except rle.RunLengthError as error:
            name = rows["id"].iloc[error.row]
            raise ValueError(f"data.pseudo: rle_mask of id {name}, fold {fold}: {error.reason}") from None
        labelled = replace(tiles.take(at), masks=as_stack(list(masks))).without_missing()
        return labelled.take(np.flatnonzero(labelled.n_known))


def join_tiles(first: Tiles, second: Tiles) -> Tiles:
    """Return tiles, and others after them."""

    def both(name: str, otherwise: bool) -> Stack | None:
        stacks = [getattr(tiles, name) for tiles in (first, second)]
        if all(stack is None for stack in stacks):
            return None
        pairs = zip(stacks, (first, second), strict=True)
        parts = [[np.full(i.shape, otherwise) for i in t.images] if s is None else list(s) for s, t in pairs]
        return as_stack(parts[0] + parts[1])

    assert (first.masks is None) == (second.masks is None)
    images, depths = as_stack([*first.images, *second.images]), np.concatenate([first.depths, second.depths])
    marks = both("masks", False), depths, both("missing", False), both("known", True)
    return Tiles(first.ids + second.ids, images, *marks)


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
    """Read what `write_labels` wrote; raise ValueError if it is missing or damaged."""
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
    """Return tiles with the pseudo-labels of a file; raise ValueError if it is damaged or of other tiles."""
    labels, digest = read_labels(file), tiles.digest()
    if labels.tiles != digest or not set(labels.table["id"]) <= set(tiles.ids):
        raise ValueError(
            f"data.pseudo={file} has labels of other tiles than the {len(tiles.ids)} without a mask here; "
            "data.unlabelled=FOLDER names the data that was labelled"
        )
    return Unlabelled(tiles, labels, hashlib.sha256(f"{digest}{sha256(file)}".encode()).hexdigest())
