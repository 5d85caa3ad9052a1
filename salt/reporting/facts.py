"""What lies in a run directory, read for its report page; a damaged file costs only its part of the page."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from salt.config import RunConfig
from salt.data import rle
from salt.data.folds import MOSAIC, read_mosaic
from salt.data.load import load_data_of_run
from salt.data.source import source_of
from salt.data.tiles import Dataset, Tiles
from salt.overrides import default_settings, flatten
from salt.runs.ensemble import blended, read_ensemble
from salt.runs.environment import LOCAL
from salt.runs.files import read_json
from salt.runs.results import read_oof_table
from salt.runs.rundir import PER_CALL, SETTLED_KEYS, RunDir
from salt.runs.stacks import Stack, read_probabilities, sizes_of
from salt.scoring.metrics import is_salt

NO_DEFAULT = "(not in the default run)"
T = TypeVar("T")


class Setting(NamedTuple):
    """A setting of the run and of the default run."""

    key: str
    value: Any
    default: Any
    differs: bool


@dataclass(frozen=True)
class Predicted:
    """Tiles with their probabilities (N H W, or N arrays), in the order of the table or of the submission."""

    tiles: Tiles
    positions: NDArray[np.int64]  # of the predicted ones among the tiles
    probabilities: Stack  # float16, or uint8: 255 times as much
    salt: list[NDArray[np.bool_]]  # the predicted masks

    @property
    def known(self) -> Stack | None:
        """Return the pixels of the predicted tiles whose mask is known; None: all of them."""
        return self.tiles.known_at(self.positions)

    def known_salt(self, i: int) -> NDArray[np.bool_]:
        """Return the predicted mask (H W) of a tile without salt at unknown pixels: none is right or wrong there."""
        known = self.tiles.known
        return self.salt[i] if known is None else self.salt[i] & known[self.positions[i]]


@dataclass
class Facts:
    """A run as far as it can be read; `problems` names what cannot."""

    path: Path
    config: RunConfig
    score: dict[str, Any]
    table: pd.DataFrame  # of the scored tiles: id, fold, coverage, iou, score, threshold
    problems: list[str] = field(default_factory=list)
    curves: dict[int, pd.DataFrame] = field(default_factory=dict)  # of each finished fold
    environment: dict[str, Any] = field(default_factory=dict)
    private: dict[str, Any] = field(default_factory=dict)  # local.json: paths of the machine that made the run
    settings: list[Setting] = field(default_factory=list)
    runs: dict[str, float] = field(default_factory=dict)  # that a blend averages, with their weights
    held_out: Predicted | None = None
    test: Predicted | None = None
    mosaic: pd.DataFrame | None = None  # section, row and column of tiles, by id, if the data has them

    def attempt(self, read: Callable[..., T], *given: Any) -> T | None:
        """Return what a function reads, or note the problem and return None."""
        try:
            return read(*given)
        except (ValueError, OSError, KeyError) as error:
            self.problems.append(str(error))
            return None


def read_facts(path: Path, root: str | None = None, data: Dataset | None = None) -> Facts:
    """Read a run or a blend, with its data set if in memory; raise ValueError if score.json or oof.csv is damaged."""
    ensemble = read_ensemble(path)
    config, score = ensemble.first.config, ensemble.score
    table = read_scored_tiles(path / "oof.csv")
    runs = {entry["run"]: entry["weight"] for _, entry in blended(path)}
    facts = Facts(path, config, score, table, runs=runs)
    if not facts.runs:
        read_training(facts)
    data = data or facts.attempt(load_data_of_run, ensemble.first.directory, config, root)
    if data is not None:
        facts.held_out = facts.attempt(read_predicted_oof, path, data.train, table)
        if (path / "test.npz").exists():
            facts.test = facts.attempt(read_predicted_test, path, data.test)
        mosaic = Path(config.data.mosaic or source_of(config.data, root).table(MOSAIC))
        facts.mosaic = facts.attempt(read_mosaic, mosaic) if mosaic.is_file() else None
    return facts


def read_training(facts: Facts) -> None:
    """Read how a run was trained: its environment, settings and learning curves."""
    facts.environment = facts.attempt(read_json, facts.path / "environment.json") or {}
    if (facts.path / LOCAL).exists():
        facts.private = facts.attempt(read_json, facts.path / LOCAL) or {}
    facts.settings = facts.attempt(list_settings, facts.config) or []
    for row in facts.score["folds"]:
        curve = facts.attempt(read_curve, RunDir(facts.path).fold_path(row["fold"]) / "metrics.csv")
        if curve is not None:
            facts.curves[row["fold"]] = curve


def read_scored_tiles(file: Path) -> pd.DataFrame:
    """Return the scored tiles, with all their columns; raise ValueError if the file is missing or damaged."""
    read_oof_table(file)  # checks the rest of it
    table = pd.read_csv(file, dtype={"id": str}, keep_default_na=False)
    for column in ("iou", "threshold"):
        if column not in table or not pd.to_numeric(table[column], errors="coerce").between(0, 1).all():
            raise ValueError(f"{file} is damaged: expected {column} from 0 to 1 in every row")
    return table


def read_curve(file: Path) -> pd.DataFrame:
    """Read the metrics of a fold's epochs; raise a ValueError if the file is missing or damaged."""
    try:
        return pd.read_csv(file)[["epoch", "lr", "loss", "map_at_0.5", "iou", "empty"]].astype(float)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{file} is missing or damaged: {error}") from None


def read_predicted_oof(run: Path, tiles: Tiles, table: pd.DataFrame) -> Predicted:
    """Read the out-of-fold predictions of the scored tiles; raise a ValueError if they are missing or damaged."""
    positions, probabilities = read_positions(run / "oof.npz", tiles, table["id"].tolist())
    salt = [is_salt(*pair) for pair in zip(probabilities, table["threshold"], strict=True)]
    return Predicted(tiles, positions, probabilities, salt)


def read_predicted_test(run: Path, tiles: Tiles) -> Predicted:
    """Read the test tiles with the masks of the submission; raise a ValueError if they are missing or damaged."""
    positions, probabilities = read_positions(run / "test.npz", tiles, tiles.ids)
    file = run / "submission.csv"
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False).set_index("id").loc[tiles.ids]
        salt = [mask != 0 for mask in rle.decode_sizes(table["rle_mask"].tolist(), sizes_of(tiles.images))]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{file} is missing or damaged: {error}") from None
    return Predicted(tiles, positions, probabilities, salt)


def read_positions(file: Path, tiles: Tiles, ids: list[str]) -> tuple[NDArray[np.int64], Stack]:
    """Read the probabilities of the tiles with these ids, and return their positions among all tiles too."""
    found, probabilities = read_probabilities(file)
    place = {name: i for i, name in enumerate(tiles.ids)}
    if found != ids or not set(found) <= set(place):
        raise ValueError(f"{file} is damaged: it holds other tiles than expected")
    positions = np.array([place[name] for name in found], dtype=np.int64)
    if sizes_of(probabilities) != sizes_of(tiles.images[positions]):
        raise ValueError(f"{file} is damaged: its tiles have other sizes than the data's")
    return positions, probabilities


def list_settings(config: RunConfig) -> list[Setting]:
    """Return every setting of a run, with the one of plain `salt-train`."""
    defaults = flatten(default_settings())
    settings = []
    for key, value in flatten(config.model_dump(mode="json", by_alias=True, exclude=set(PER_CALL))).items():
        default = defaults.get(key, NO_DEFAULT)
        settings.append(Setting(key, value, default, value != default and key not in SETTLED_KEYS))
    return settings
