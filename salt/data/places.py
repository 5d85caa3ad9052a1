"""Where tiles lie in the larger sections that they were cut from, as mosaic.csv says."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salt.config import Data
from salt.runs.files import check_file

MOSAIC = "mosaic.csv"


def mosaic_file(root: Path) -> Path:
    """Where a data set's own mosaic.csv is: in its folder, or beside its zip."""
    return (root.parent if root.is_file() else root) / MOSAIC


def read_mosaic(file: Path) -> pd.DataFrame:
    """The columns mosaic (a section's name), row and column of a mosaic.csv, by id.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        table = pd.read_csv(file, dtype={"id": str, "mosaic": str}).drop_duplicates("id").set_index("id")
        return table[["mosaic", "row", "column"]].astype({"row": int, "column": int})
    except (ValueError, KeyError) as error:
        raise ValueError(f"{file} is damaged, expected the columns id,mosaic,row,column: {error}") from None


def known_sections(data: Data, ids: Sequence[str]) -> NDArray[np.int64] | None:
    """The number of each tile's section (N), or None if no file tells them; tiles that it lacks lie alone.

    Raises:
        ValueError: the file is damaged, is not where data.mosaic says, or knows none of the tiles.
    """
    file = mosaic_file(Path(data.root)) if data.mosaic is None else Path(data.mosaic)
    if data.mosaic is not None:
        check_file("data.mosaic", file)
    elif not file.is_file():
        return None
    found = read_mosaic(file)["mosaic"].reindex(list(ids))
    if found.isna().all():
        raise ValueError(f"{file} has none of the {len(ids)} training tiles; expected a table of this data")
    alone = found.isna().to_numpy()
    numbers = pd.factorize(found)[0].astype(np.int64)
    numbers[alone] = numbers.max() + 1 + np.arange(alone.sum())
    return numbers
