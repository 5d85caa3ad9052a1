"""Which fold a training tile is validated in."""

import logging
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from salt.config import RunConfig
from salt.data.names import composed
from salt.data.places import MOSAIC, known_sections
from salt.data.source import source_of
from salt.data.tiles import Tiles
from salt.runs.files import check_file, write_text

log = logging.getLogger(__name__)


def coverage_class(coverage: NDArray[np.float64]) -> NDArray[np.int64]:
    """Class 0 for tiles (N) without salt, else 1 ... 10 by tenths of the area covered by salt."""
    return np.ceil(coverage * 10).astype(np.int64)


def make_folds(
    coverage: NDArray[np.float64], n_folds: int, seed: int, sections: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Assign each tile (N) a fold 0 ... n_folds-1, stratified by coverage class; tiles of a section (N) stay together.

    Raises:
        ValueError: there are fewer tiles, or sections, than folds.
    """
    if len(coverage) < n_folds:
        raise ValueError(f"data.n_folds={n_folds} is more than the {len(coverage)} training tiles")
    if sections is not None and (n := len(np.unique(sections))) < n_folds:
        raise ValueError(f"data.n_folds={n_folds} is more than the {n} sections")
    classes = coverage_class(coverage)
    if np.bincount(classes).max() < n_folds:  # scikit-learn refuses: too few tiles to stratify
        classes = np.zeros_like(classes)
    folds = np.empty(len(coverage), dtype=np.int64)
    kind = StratifiedKFold if sections is None else StratifiedGroupKFold
    splitter = kind(n_splits=n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # a class with fewer tiles than folds is allowed
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        for fold, (_, validation) in enumerate(splitter.split(classes, classes, sections)):
            folds[validation] = fold
    assert sections is None or n_split(sections, folds) == 0
    return folds


def n_split(sections: NDArray[np.int64], folds: NDArray[np.int64]) -> int:
    """How many sections have tiles in several folds."""
    pairs = np.unique(np.stack([sections, folds], axis=1), axis=0)
    return int((np.unique(pairs[:, 0], return_counts=True)[1] > 1).sum())


def read_folds(path: Path, ids: list[str], n_folds: int) -> NDArray[np.int64]:
    """Read a folds.csv (columns id, fold) for the tiles `ids`, in their order; the spelling of accents may differ.

    Raises:
        ValueError: the file does not give each of the ids exactly one fold of 0 ... n_folds-1, each used.
    """
    check_file("data.folds", path)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except ValueError as error:  # pandas' own kinds are of this one
        raise ValueError(f"{path}: cannot be read as a CSV: {str(error).strip()}") from None
    if not {"id", "fold"} <= set(table.columns):
        raise ValueError(f"{path}: expected the columns id,fold, found {','.join(table.columns)}")
    table["id"], ids = table["id"].map(composed), [composed(name) for name in ids]
    if table["id"].duplicated().any():
        raise ValueError(f"{path}: id {table['id'][table['id'].duplicated()].iloc[0]} occurs twice")
    odd = sorted(set(ids) ^ set(table["id"]))
    if odd:
        raise ValueError(f"{path}: its ids are not those of the training tiles; {len(odd)} differ, e.g. {odd[:5]}")
    found = sorted(set(table["fold"]))
    if set(found) != {str(fold) for fold in range(n_folds)}:
        raise ValueError(f"{path}: expected the folds 0..{n_folds - 1} (data.n_folds={n_folds}), found {found[:12]}")
    return table.set_index("id")["fold"].loc[ids].to_numpy().astype(np.int64)


def write_folds(path: Path, ids: list[str], folds: NDArray[np.int64]) -> None:
    """Write folds.csv (columns id, fold) atomically."""
    write_text(path, pd.DataFrame({"id": ids, "fold": folds}).to_csv(index=False, lineterminator="\n"))


def assign_folds(config: RunConfig, tiles: Tiles) -> NDArray[np.int64]:
    """The fold of each training tile: stratified by coverage, with sections kept whole if asked, or from a file.

    Raises:
        ValueError: the file, or the table of sections, is missing or does not fit the tiles.
    """
    data, source = config.data, source_of(config.data)
    sections, own = known_sections(data, tiles.ids), source.table("folds.csv")
    given = data.folds or (str(own) if own.is_file() else "random")
    if given == "mosaic":
        if sections is None:
            raise ValueError(
                f"data.folds=mosaic: there is no file {source.table(MOSAIC)}; salt-data mosaic {data.root} "
                "writes it, or name one by data.mosaic=FILE"
            )
        return make_folds(tiles.coverage, data.n_folds, data.fold_seed, sections)
    folds = (
        make_folds(tiles.coverage, data.n_folds, data.fold_seed)
        if given == "random"
        else read_folds(Path(given), tiles.ids, data.n_folds)
    )
    if sections is not None and (n := n_split(sections, folds)):
        log.info(
            "%d sections have tiles in several folds, so neighbours are trained on; data.folds=mosaic avoids it", n
        )
    return folds


def keep_folds(file: Path, ids: list[str], folds: NDArray[np.int64], n_folds: int) -> None:
    """Write folds.csv once (see `check_same_folds`)."""
    check_same_folds(file, ids, folds, n_folds)
    if not file.exists():
        write_folds(file, ids, folds)


def check_same_folds(file: Path, ids: list[str], folds: NDArray[np.int64], n_folds: int) -> None:
    """Make sure that a run that goes on has the same folds, else tiles leak between them.

    Raises:
        ValueError: the run was begun with other folds.
    """
    if file.exists() and not np.array_equal(read_folds(file, ids, n_folds), folds):
        raise ValueError(f"{file} differs from the folds of now (another data.folds?); choose another name=...")
