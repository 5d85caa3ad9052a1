"""The places of tiles in the larger sections that they were cut from, from mosaic.csv."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salt.config import Data
from salt.data.names import composed
from salt.data.source import source_of
from salt.runs.files import check_file

MOSAIC = "mosaic.csv"

log = logging.getLogger(__name__)


def read_mosaic(file: Path) -> pd.DataFrame:
    """Return the columns mosaic (a section's name), row and column of a mosaic.csv, by id.

    Raises:
        ValueError: the file is damaged.
    """
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
    """Return the number of each tile's section (N), or None without a file; a tile that it lacks is a section alone.

    Raises:
        ValueError: the file that data.mosaic names, or that data.folds=mosaic needs, is missing or does not fit.
    """
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
    """Return the number of each tile's section (N) in a mosaic.csv; a tile that it lacks is a section alone.

    Raises:
        ValueError: the file is damaged, or has none of the tiles.
    """
    found = read_mosaic(file)["mosaic"].reindex([composed(name) for name in ids])
    alone = found.isna().to_numpy()
    if alone.all():
        raise ValueError(f"{file} has none of the {len(ids)} training tiles; expected a table of this data")
    numbers = pd.factorize(found)[0].astype(np.int64)
    numbers[alone] = numbers.max() + 1 + np.arange(alone.sum())
    return numbers
