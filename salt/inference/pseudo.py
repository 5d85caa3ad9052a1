"""Pseudo-labels: masks that the networks of a run predict for tiles without one, fold by fold."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from salt.config import RunConfig
from salt.data import rle
from salt.data.folds import read_folds
from salt.data.load import LabelTable, digest_of_folds
from salt.data.tiles import Tiles
from salt.inference.choose import load_engine
from salt.inference.predict import Predictor
from salt.machine.device import Runtime
from salt.runs.rundir import RunDir, weight_files
from salt.runs.stacks import Stack, as_stack
from salt.scoring.metrics import is_salt

THRESHOLD = 0.5  # not the run's: that was chosen on the masks of all folds
TILES_AT_ONCE = 4096  # their probabilities are in memory


def confidence(probabilities: Stack, masks: Stack) -> NDArray[np.float64]:
    """Return how sure a network is of its mask of each tile (N H W, or N arrays), from 0 to 1.

    With salt: the IoU of mask and probabilities, the sum of their minima over the sum of their maxima. Without: 1 minus
    the largest probability.
    """
    sure = np.empty(len(masks))
    for i, (p, mask) in enumerate(zip(probabilities, masks, strict=True)):
        inside = p.sum(where=mask, dtype=np.float64)
        outside = p.sum(dtype=np.float64) - inside
        sure[i] = inside / (mask.sum() + outside) if mask.any() else 1 - p.max()
    return sure


def label_fold(fold: int, predictor: Predictor, tiles: Tiles, constant_tiles: str) -> pd.DataFrame:
    """Return the labels (columns fold, id, confidence, rle_mask) of all tiles by the networks of a fold."""
    parts = []
    starts = range(0, len(tiles.ids), TILES_AT_ONCE)
    for start in tqdm(starts, f"fold {fold}", unit="part", disable=None, leave=False):
        positions = np.arange(start, min(start + TILES_AT_ONCE, len(tiles.ids)))
        probabilities = predictor.predict(tiles, positions).mean
        tiles.empty_unseen(probabilities, positions, constant_tiles)
        masks = as_stack([is_salt(p, THRESHOLD) for p in probabilities])
        ids = [tiles.ids[i] for i in positions]
        sure = confidence(probabilities, masks)
        rows = {"fold": fold, "id": ids, "confidence": sure.round(4), "rle_mask": rle.encode_all(masks)}
        parts.append(pd.DataFrame(rows))
    return pd.concat(parts, ignore_index=True)


def label_tiles(config: RunConfig, directory: RunDir, train: Tiles, tiles: Tiles, runtime: Runtime) -> LabelTable:
    """Return labels of tiles without a mask, for each finished fold of a run by the networks of that fold.

    Raises:
        ValueError: no fold is finished, or a file of the run is missing or damaged.
    """
    done = directory.done_folds(config.data.n_folds)
    if not done:
        raise ValueError(f"{directory.path} has no finished fold yet; the same salt-train command continues it")
    folds = read_folds(directory.path / "folds.csv", train.ids, config.data.n_folds)
    tables = []
    for fold in done:
        engine = load_engine(config, weight_files(directory.fold_path(fold)), runtime, config.trainer.compile)
        tables.append(label_fold(fold, Predictor(engine, f"fold {fold}"), tiles, config.data.constant_tiles))
    table = pd.concat(tables, ignore_index=True)
    return LabelTable(digest_of_folds(train, folds), tiles.digest(), table)
