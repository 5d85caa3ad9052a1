"""The fold in which each training tile is validated, and the larger section that it was cut from (mosaic.csv)."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from salt.config import FOLD_KINDS, Data, RunConfig
from salt.data.lines import block_folds
from salt.data.source import source_of
from salt.data.tiles import Tiles
from salt.paths import composed
from salt.runs.files import check_file, write_text

log = logging.getLogger(__name__)

MOSAIC = "mosaic.csv"
NEVER = -1  # the fold of a tile that is never held out: data.n_folds=1 trains on all


def read_mosaic(file: Path) -> pd.DataFrame:
    """Return mosaic (a section's name), row and column of a mosaic.csv, by id; raise ValueError if it is damaged."""
    try:
        table = pd.read_csv(file, dtype={"id": str, "mosaic": str}, keep_default_na=False).set_index("id")
        table.index = table.index.map(composed)
        table = table[["mosaic", "row", "column"]].astype({"row": int, "column": int})
    except (ValueError, KeyError) as error:
        raise ValueError(f"{file} is damaged, expected the columns id,mosaic,row,column: {error}") from None
    twice = table.index[table.index.duplicated()]
    if len(twice):
        raise ValueError(f"{file} is damaged: id {twice[0]} occurs twice")
    return table


def known_sections(data: Data, ids: Sequence[str]) -> NDArray[np.int64] | None:
    """Return the number of each tile's section (N), or None without a file; a tile that it lacks is a section alone."""
    if data.mosaic is not None:
        check_file("data.mosaic", Path(data.mosaic))
        return read_sections(Path(data.mosaic), ids)
    file = source_of(data).table(MOSAIC)
    if not file.is_file():
        return None
    try:
        return read_sections(file, ids)
    except ValueError as error:
        if data.folds == "mosaic":
            raise
        log.warning("%s; continuing without sections", error)
        return None


def read_sections(file: Path, ids: Sequence[str]) -> NDArray[np.int64]:
    """Return the number of each tile's section (N) in a mosaic.csv; raise ValueError if it has none of the tiles."""
    found = read_mosaic(file)["mosaic"].reindex([composed(name) for name in ids])
    alone = found.isna().to_numpy()
    if alone.all():
        raise ValueError(f"{file} has none of the {len(ids)} training tiles; expected a table of this data")
    numbers = pd.factorize(found)[0].astype(np.int64)
    numbers[alone] = numbers.max() + 1 + np.arange(alone.sum())
    return numbers


def coverage_class(coverage: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return class 0 for tiles (N) without salt, else 1 ... 10 by tenths of their coverage."""
    return np.ceil(coverage * 10).astype(np.int64)


def make_folds(
    coverage: NDArray[np.float64], n_folds: int, seed: int, sections: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Assign each tile (N) a fold 0 ... n_folds-1, stratified by coverage class; sections (N) stay whole."""
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
    """Read folds.csv (columns id, fold) for the tiles `ids`, in their order; raise ValueError if it does not fit."""
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
    if set(found) != ({str(fold) for fold in range(n_folds)} if n_folds > 1 else {str(NEVER)}):
        raise ValueError(f"{path}: expected the folds 0..{n_folds - 1} (data.n_folds={n_folds}), found {found[:12]}")
    return table.set_index("id")["fold"].loc[ids].to_numpy().astype(np.int64)


def write_folds(path: Path, ids: list[str], folds: NDArray[np.int64]) -> None:
    """Write folds.csv (columns id, fold) atomically."""
    write_text(path, pd.DataFrame({"id": ids, "fold": folds}).to_csv(index=False, lineterminator="\n"))


def assign_folds(config: RunConfig, tiles: Tiles) -> NDArray[np.int64]:
    """Return the fold of each training tile (N): drawn, drawn by sections, blocks of lines, or read from a file."""
    data, source = config.data, source_of(config.data)
    if data.n_folds == 1:
        if data.folds is not None:
            raise ValueError(f"data.folds={data.folds}: data.n_folds=1 holds no image out, expected null with it")
        return np.full(len(tiles.ids), NEVER, dtype=np.int64)
    sections, own = known_sections(data, tiles.ids), source.table("folds.csv")
    usual = "random" if tiles.lines is None else "lines"
    given = data.folds or (str(own) if own.is_file() else usual)
    if given == "mosaic" and sections is None:
        raise ValueError(
            f"data.folds=mosaic: there is no file {source.table(MOSAIC)}; salt-data mosaic {data.root} "
            "writes it, or name one by data.mosaic=FILE"
        )
    if given == "lines":
        if tiles.lines is None:
            raise ValueError("data.folds=lines: these images are no lines of a survey; expected random or mosaic")
        return block_folds(tiles.lines, data.n_folds)
    if given in FOLD_KINDS:
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
    """Raise ValueError if a resumed run has other folds: tiles would leak between them."""
    if file.exists() and not np.array_equal(read_folds(file, ids, n_folds), folds):
        raise ValueError(f"{file} differs from the current folds (another data.folds?); choose another name=...")
