"""Kaggle's submission CSV: written atomically and only after it was checked."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salt import rle
from salt.files import write_text


def write_submission(path: Path, ids: list[str], masks: NDArray[np.bool_]) -> None:
    """Write the masks (N H W) of the test tiles as id,rle_mask, in the order of sample_submission.csv."""
    text = pd.DataFrame({"id": ids, "rle_mask": rle.encode_all(masks)}).to_csv(index=False, lineterminator="\n")
    check_submission(text, ids, masks)
    write_text(path, text)


def check_submission(text: str, ids: list[str], masks: NDArray[np.bool_]) -> None:
    """Check that a submission's text has exactly these ids, each once, and decodes to these masks.

    Raises:
        ValueError: it does not, or a run is out of bounds, not ascending or overlaps another.
    """
    table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    if list(table.columns) != ["id", "rle_mask"]:
        raise ValueError(f"submission: expected the columns id,rle_mask, found {','.join(table.columns)}")
    if list(table["id"]) != ids:
        odd = sorted(set(ids) ^ set(table["id"]))
        raise ValueError(
            f"submission: its ids are not those of sample_submission.csv, each once, in order; differing: {odd[:5]}"
        )
    try:
        decoded = rle.decode_all(table["rle_mask"].tolist(), masks.shape[1:])
    except rle.RunLengthError as error:
        raise ValueError(f"submission: id {ids[error.row]}: {error.reason}") from None
    differing = np.flatnonzero((decoded != masks).any(axis=(1, 2)))
    if len(differing):
        raise ValueError(f"submission: id {ids[differing[0]]} does not decode to its mask")
