"""Kaggle's submission CSV from a run's finished folds: checked, then written atomically."""

import io
import logging
from pathlib import Path

import numpy as np
import pandas as pd

from salt.data import rle
from salt.data.tiles import Tiles
from salt.inference.model import Model
from salt.machine import distributed
from salt.runs.ensemble import Ensemble
from salt.runs.files import read_json, sha256, write_json, write_text
from salt.runs.stacks import Stack, empty_stack, save_stack, sizes_of
from salt.scoring.metrics import is_salt

log = logging.getLogger(__name__)

MADE = "made_with"  # in submission.json
TILES_AT_ONCE = 20_000  # their probabilities are in memory


def make_submission(model: Model, tiles: Tiles) -> None:
    """Predict the test tiles; write submission.csv, test.npz and submission.json.

    test.npz has the probabilities times 255, rounded. submission.json records weights, threshold, device and precision.
    """
    path, origin = model.ensemble.path, model.ensemble.origin
    salt, shares = (empty_stack(sizes_of(tiles.images), kind) for kind in (np.bool_, np.uint8))
    for start in range(0, len(salt), TILES_AT_ONCE):
        positions = np.arange(start, min(start + TILES_AT_ONCE, len(salt)))
        probabilities = model.predict_tiles(tiles, positions).mean
        if distributed.is_main():
            for i, image in zip(positions, probabilities, strict=True):
                salt[i] = is_salt(image, model.threshold)
                shares[i] = np.rint(image * 255)
    if not distributed.is_main():
        return
    save_stack(path / "test.npz", np.array(tiles.ids), probabilities=shares)
    file = path / "submission.csv"
    write_submission(file, tiles.ids, salt)
    write_json(path / "submission.json", origin | {"sha256": sha256(file), MADE: model.made_with})
    empty = np.mean([not mask.any() for mask in salt])
    log.info("%s: %d test tiles, %.0f %% without salt", file, len(salt), 100 * empty)


def is_fresh(ensemble: Ensemble) -> bool:
    """Return whether submission.csv was made from these weights and this threshold, and has not changed since."""
    file, record = ensemble.path / "submission.csv", ensemble.path / "submission.json"
    if not (file.is_file() and record.is_file()):
        return False
    try:
        found = read_json(record)
        found.pop(MADE, None)  # it may differ
        return found == ensemble.origin | {"sha256": sha256(file)}
    except (ValueError, OSError):  # damaged: made again
        return False


def write_submission(path: Path, ids: list[str], masks: Stack) -> None:
    """Write the masks (N H W, or N arrays) of the test tiles as id,rle_mask, in the order of sample_submission.csv."""
    text = pd.DataFrame({"id": ids, "rle_mask": rle.encode_all(masks)}).to_csv(index=False, lineterminator="\n")
    check_submission(text, ids, masks)
    write_text(path, text)


def check_submission(text: str, ids: list[str], masks: Stack) -> None:
    """Check that the text of a submission has exactly these ids, each once, and decodes to these masks.

    Raises:
        ValueError: it does not, or a run length is out of bounds, not ascending or overlaps another.
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
        decoded = rle.decode_sizes(table["rle_mask"].tolist(), sizes_of(masks))
    except rle.RunLengthError as error:
        raise ValueError(f"submission: id {ids[error.row]}: {error.reason}") from None
    for name, found, mask in zip(ids, decoded, masks, strict=True):
        if (found != mask).any():
            raise ValueError(f"submission: id {name} does not decode to its mask")
