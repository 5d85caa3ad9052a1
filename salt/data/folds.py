"""The fold in which each training tile is validated."""

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
    """Return class 0 for tiles (N) without salt, else 1 ... 10 by tenths of their coverage."""
    return np.ceil(coverage * 10).astype(np.int64)


def make_folds(
    coverage: NDArray[np.float64], n_folds: int, seed: int, sections: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Assign each tile (N) a fold 0 ... n_folds-1, stratified by coverage class; sections (N) stay whole.

    Raises:
        ValueError: there are fewer tiles, or sections, than folds.
    """
    if len(coverage) < n_folds:
        raise ValueError(f"data.n_folds={n_folds} is more than the {len(coverage)} training tiles")
    if sections is not None and (n := len(np.unique(sections))) < n_folds:
        raise ValueError(f"data.n_folds={n_folds} is more than the {n} sections")
    classes = coverage_class(coverage)
    if np.bincount(classes).max() < n_folds:  # scikit-learn refuses to stratify so few tiles
        classes = np.zeros_like(classes)
    folds = np.empty(len(coverage), dtype=np.int64)
    kind = StratifiedKFold if sections is None else StratifiedGroupKFold
    splitter = kind(n_splits=n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # a class with fewer tiles than folds is allowed
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        for fold, (_, validation) in enumerate(splitter.split(classes, classes, sections)):
            folds[validation] = fold
    return folds


def count_split_sections(sections: NDArray[np.int64], folds: NDArray[np.int64]) -> int:
    """Return how many sections have tiles in several folds."""
    return int((pd.Series(folds).groupby(sections).nunique() > 1).sum())


def read_folds(path: Path, ids: list[str], n_folds: int) -> NDArray[np.int64]:
    """Read folds.csv (columns id, fold) for the tiles `ids`, in their order; accents may be composed differently.

    Raises:
        ValueError: the file does not give each id exactly one fold of 0 ... n_folds-1, or does not use all folds.
    """
    check_file("data.folds", path)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except ValueError as error:  # pandas' own errors are ValueErrors
        raise ValueError(f"{path}: cannot be read as a CSV: {str(error).strip()}") from None
    if not {"id", "fold"} <= set(table.columns):
        raise ValueError(f"{path}: expected the columns id,fold, found {','.join(table.columns)}")
    table["id"], ids = table["id"].map(composed), [composed(name) for name in ids]
    if table["id"].duplicated().any():
        raise ValueError(f"{path}: id {table['id'][table['id'].duplicated()].iloc[0]} occurs twice")
    odd = sorted(set(ids) ^ set(table["id"]))
    if odd:
        raise ValueError(f"{path}: expected the ids of the training tiles; {len(odd)} differ, such as {odd[:5]}")
    found = sorted(set(table["fold"]))
    if set(found) != {str(fold) for fold in range(n_folds)}:
        raise ValueError(f"{path}: expected the folds 0..{n_folds - 1} (data.n_folds={n_folds}), found {found[:12]}")
    return table.set_index("id")["fold"].loc[ids].to_numpy().astype(np.int64)


def write_folds(path: Path, ids: list[str], folds: NDArray[np.int64]) -> None:
    """Write folds.csv (columns id, fold) atomically."""
    write_text(path, pd.DataFrame({"id": ids, "fold": folds}).to_csv(index=False, lineterminator="\n"))


def assign_folds(config: RunConfig, tiles: Tiles) -> NDArray[np.int64]:
    """Return the fold of each training tile (N): drawn, drawn by sections, or read from a file.

    Raises:
        ValueError: the file, or the table of sections, is missing or does not fit the tiles.
    """
    data, source = config.data, source_of(config.data)
    sections, own = known_sections(data, tiles.ids), source.table("folds.csv")
    given = data.folds or (str(own) if own.is_file() else "random")
    if given == "mosaic" and sections is None:
        raise ValueError(
            f"data.folds=mosaic: there is no file {source.table(MOSAIC)}; salt-data mosaic {data.root} "
            "writes it, or name one by data.mosaic=FILE"
        )
    if given in ("random", "mosaic"):
        whole = sections if given == "mosaic" else None
        folds = make_folds(tiles.coverage, data.n_folds, data.fold_seed, whole)
    else:
        folds = read_folds(Path(given), tiles.ids, data.n_folds)
    if sections is not None and (n := count_split_sections(sections, folds)):
        log.info("%d sections have tiles in several folds, which leaks neighbours; data.folds=mosaic avoids it", n)
    return folds


def keep_folds(file: Path, ids: list[str], folds: NDArray[np.int64], n_folds: int) -> None:
    """Write folds.csv if it is missing, else check it (see `check_same_folds`)."""
    check_same_folds(file, ids, folds, n_folds)
    if not file.exists():
        write_folds(file, ids, folds)


def check_same_folds(file: Path, ids: list[str], folds: NDArray[np.int64], n_folds: int) -> None:
    """Check that a resumed run has the same folds, else tiles would leak between them.

    Raises:
        ValueError: the run started with other folds.
    """
    if file.exists() and not np.array_equal(read_folds(file, ids, n_folds), folds):
        raise ValueError(f"{file} differs from the current folds (another data.folds?); choose another name=...")
