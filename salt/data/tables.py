"""The tables of a data set: train.csv, sample_submission.csv, depths.csv, folds.csv."""

import csv
import io
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salt.data import rle
from salt.data.archive import MOST_EXAMPLES, Archive, Checkup
from salt.paths import composed
from salt.runs.stacks import Stack, sizes_of

CHECKED = 4096  # masks compared at once


def table_by_id(
    archive: Archive, name: str, columns: list[str], found: Checkup, needed: bool = False
) -> pd.DataFrame | None:
    """Return a CSV as text, indexed by unique ids; None if there is none, or with a problem, which `found` notes."""
    label = f"{archive.label}/{name}"
    if name not in archive.files:
        if needed:
            found.add("error", f"{label}: this file is missing", "download the data again")
        return None
    try:
        return parse_table(archive.files[name].read(), columns)
    except ValueError as error:
        found.add("error", f"{label}: {error}", "mend the table, or download it again")
        return None


def parse_table(content: bytes, columns: list[str]) -> pd.DataFrame:
    """Return the table in the bytes of a CSV, indexed by its column id; raise ValueError, which names no file."""
    try:
        lines = io.StringIO(content.decode("utf-8-sig"), newline="")
        rows = [row for row in csv.reader(lines, strict=True) if row]
    except (ValueError, csv.Error) as error:
        raise ValueError(f"cannot be read as a CSV: {error}") from None
    if rows[:1] != [columns]:
        raise ValueError(f"expected the columns {','.join(columns)}, found {','.join(rows[0]) if rows else 'nothing'}")
    if odd := [row for row in rows if len(row) != len(columns)]:
        raise ValueError(f"expected {len(columns)} fields in each row, found {','.join(odd[0])}")
    table = pd.DataFrame(rows[1:], columns=columns, dtype=str)
    if table.empty:
        raise ValueError("has no rows")
    bad = [i for i in table["id"] if not i or PurePosixPath(i).name != i or i.startswith(("=", "+", "-", "@", "."))]
    if bad:
        raise ValueError(f"an id must be a plain file name, found {bad[:MOST_EXAMPLES]}")
    table["id"] = table["id"].map(composed)
    twice = table["id"][table["id"].duplicated()].unique().tolist()
    if twice:
        examples = twice[:MOST_EXAMPLES]
        raise ValueError(f"{len(twice)} ids occur more than once, maybe in two Unicode spellings, e.g. {examples}")
    return table.set_index("id")


def depths_of(depths: pd.DataFrame | None, ids: Sequence[str], label: str) -> NDArray[np.float64]:
    """Return the survey depth (N, feet) of each id, NaN without a table; raise ValueError if one is no number."""
    if depths is None:
        return np.full(len(ids), np.nan)
    texts = depths["z"].loc[list(ids)]
    numbers = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64)
    odd = np.flatnonzero(~np.isfinite(numbers))
    if len(odd):
        name = ids[odd[0]]
        raise ValueError(f"{label}/depths.csv: z of id {name} is {texts.loc[name]!r}, expected a number")
    return numbers


def check_runs(table: pd.DataFrame, masks: Stack, label: str) -> None:
    """Raise ValueError if masks (N H W, or N arrays) differ from their run-length strings in the column rle_mask."""
    differing: list[str] = []
    for start in range(0, len(masks), CHECKED):
        rows, some = table.iloc[start : start + CHECKED], masks[start : start + CHECKED]
        try:
            expected = rle.decode_sizes(rows["rle_mask"].tolist(), sizes_of(some))
        except rle.RunLengthError as error:
            raise ValueError(f"{label}: rle_mask of id {rows.index[error.row]}: {error.reason}") from None
        pairs = zip(rows.index, expected, some, strict=True)
        differing += [name for name, runs, mask in pairs if (runs != mask).any()]
    if differing:
        examples = differing[:MOST_EXAMPLES]
        raise ValueError(f"{label}: {len(differing)} masks differ from their rle_mask, e.g. {examples}")
