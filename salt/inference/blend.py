"""Several runs as one: the mean of their probabilities, with weights that were chosen on tiles no network saw."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from tqdm import tqdm

from salt.config import RunConfig
from salt.data.amplitudes import Grey, Scaling
from salt.data.tiles import Tiles
from salt.inference.model import Model
from salt.inference.settings import PredictionSettings, made_with
from salt.inference.submission import origin_of
from salt.paths import on_disk
from salt.runs.files import read_json
from salt.runs.rundir import BLEND, RunDir
from salt.runs.stacks import Stack, empty_stack, load_stack, sizes_of
from salt.scoring.metrics import is_salt, score_table
from salt.scoring.score import OutOfFold, score_out_of_fold
from salt.scoring.threshold import best_threshold

SAMPLED = 500  # pixels of each tile on which the weights are chosen
SURE = 1e-4  # no probability counts as nearer to 0 or 1, where one wrong pixel would decide


@dataclass(frozen=True)
class Member:
    """One of the runs: its place, settings, score and out-of-fold probabilities (N H W, or N arrays)."""

    path: Path
    config: RunConfig
    score: dict[str, Any]
    ids: list[str]
    probabilities: Stack


def read_member(path: Path) -> Member:
    """A finished run with what it said of the tiles that were held out.

    Raises:
        ValueError: it is none, a blend itself, or one of its files is damaged.
    """
    directory = RunDir(path)
    config = directory.read_config()
    if (path / BLEND).exists():
        raise ValueError(f"{path} is a blend already; name the runs that it averages")
    score = directory.read_score(config.data.n_folds)
    file = path / "oof.npz"
    try:
        ids, probabilities = load_stack(file.read_bytes(), "probabilities")
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} is missing or damaged: {error}") from None
    return Member(path, config, score, ids, probabilities)


def check_members(members: Sequence[Member]) -> None:
    """Make sure that the runs were trained on the same data and folds.

    Raises:
        ValueError: they were not, or there are fewer than two runs or two folds.
    """
    if len(members) < 2:
        raise ValueError("expected two or more runs to blend")
    first = members[0]
    if len(first.score["folds"]) < 2:
        raise ValueError(
            f"{first.path} has one finished fold; weights are chosen on the other folds, so two are needed"
        )
    for other in members[1:]:
        for file, key in (("environment.json", "data_sha256"), ("folds.csv", None)):
            a, b = (part.path / file for part in (first, other))
            same = read_json(a, key)[key] == read_json(b, key)[key] if key else a.read_bytes() == b.read_bytes()
            if not same:
                raise ValueError(f"{first.path} and {other.path} have different {'data' if key else 'folds'} ({file})")
        if other.ids != first.ids:
            raise ValueError(f"{first.path} and {other.path} have different finished folds")


def blend(
    members: Sequence[Member], masks: Stack, folds: NDArray[np.int64], sections: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.float64], Stack, OutOfFold]:
    """Weights for all tiles, the blended out-of-fold probabilities, and their score.

    Weights and threshold of a fold are chosen on the other folds alone. Weights are never negative and sum to 1. The
    score's interval takes tiles of one of the `sections` (N, numbers) together.

    Reference: Breiman 1996, "Stacked Regressions", Machine Learning 24, 49-64.
    """
    stacks = [member.probabilities for member in members]
    together = empty_stack(sizes_of(masks), np.float16)
    chosen = np.empty(len(masks), dtype=np.int64)
    for fold in tqdm(np.unique(folds), "weights", unit="fold", disable=None, leave=False):
        others, here = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        weights = choose_weights([stack[others] for stack in stacks], masks[others])
        chosen[here] = best_threshold(score_table(mean([stack[others] for stack in stacks], weights), masks[others]))
        together[here] = mean([stack[here] for stack in stacks], weights)
    result = score_out_of_fold(np.array(members[0].ids), together, masks, folds, 0, chosen, sections)
    return choose_weights(stacks, masks), together, result


def mean(stacks: Sequence[Stack], weights: NDArray[np.float64]) -> Stack:
    """The weighted mean of probabilities (each N H W, or N arrays), in half precision."""
    result = empty_stack(sizes_of(stacks[0]), np.float16)
    for i in range(len(result)):
        parts = [np.float32(w) * stack[i].astype(np.float32) for w, stack in zip(weights, stacks, strict=True)]
        result[i][:] = sum(parts[1:], parts[0])
    return result


def choose_weights(stacks: Sequence[Stack], masks: Stack) -> NDArray[np.float64]:
    """The weights, not negative and 1 in sum, with the least cross entropy over random pixels of each tile.

    The cross entropy is convex in them, so there is one best choice.
    """
    rng = np.random.default_rng(0)
    places = [rng.integers(0, mask.size, SAMPLED) for mask in masks]
    salt = np.concatenate([mask.ravel()[at] for mask, at in zip(masks, places, strict=True)]) != 0
    said = np.array(
        [np.concatenate([p.ravel()[at] for p, at in zip(s, places, strict=True)]).astype(np.float64) for s in stacks]
    )
    right = np.where(salt, said, 1 - said).clip(SURE, 1)  # probability of what is true, of each run and pixel

    def cross_entropy(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        together = weights @ right
        return -float(np.log(together).mean()), -(right / together).mean(axis=1)

    n = len(stacks)
    start = np.full(n, 1 / n)
    sum_to_one = {"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(n)}
    found = minimize(cross_entropy, start, jac=True, bounds=[(0, 1)] * n, constraints=sum_to_one, method="SLSQP")
    weights = np.clip(found.x, 0, 1)
    return np.asarray(weights / weights.sum())


def describe(path: Path, members: Sequence[Member], weights: NDArray[np.float64]) -> dict[str, Any]:
    """The content of blend.json: the runs by their place relative to it, so that the runs' folder can be moved."""
    runs = [
        {
            "run": os.path.relpath(member.path, path),
            "weight": float(weight),
            "weights_sha256": origin_of(RunDir(member.path), member.score)["weights_sha256"],
        }
        for member, weight in zip(members, weights, strict=True)
    ]
    return {"folds": [row["fold"] for row in members[0].score["folds"]], "runs": runs}


class Blend:
    """The networks of several runs: as `Model`, with their weights."""

    def __init__(self, run: str | Path, settings: PredictionSettings):
        path = Path(run).expanduser()
        directory = RunDir(path)
        self.config = directory.read_config()
        self.threshold = float(directory.read_score(self.config.data.n_folds)["threshold"])
        self.members: list[tuple[float, Model]] = []
        for part in read_json(path / BLEND, "runs")["runs"]:
            member = RunDir(path / on_disk(part["run"], str(path)))
            score = member.read_score(member.read_config().data.n_folds)
            if origin_of(member, score)["weights_sha256"] != part["weights_sha256"]:
                raise ValueError(f"{member.path} has other weights than when {path} was blended; run salt-blend again")
            if part["weight"] > 0:
                self.members.append((part["weight"], Model(member.path, settings)))

    def predict(self, images: ArrayLike, depth: float | None = None, progress: bool = False) -> NDArray[np.float32]:
        """Probability of salt for each pixel: see `Model.predict`."""
        parts = [np.float32(weight) * model.predict(images, depth, progress) for weight, model in self.members]
        return np.asarray(sum(parts[1:], parts[0]))

    def predict_grey(self, greys: Sequence[Grey], depth: float | None = None, progress: bool = False) -> Stack:
        """Return probabilities (N H W) of images that are scaled already, see `Model.predict_grey`."""
        parts = [np.float32(weight) * model.predict_grey(greys, depth, progress) for weight, model in self.members]
        return sum(parts[1:], parts[0])

    def mask(self, images: ArrayLike, depth: float | None = None) -> NDArray[np.bool_]:
        """Where there is salt: where `predict` is above `threshold`."""
        return is_salt(self.predict(images, depth), self.threshold)

    @property
    def made_with(self) -> dict[str, str]:
        """Return the device and precision of its runs."""
        return made_with(*(model.runtime for _, model in self.members))

    @property
    def scaling(self) -> Scaling:
        """How amplitudes become grey values: as in the first run, whose data is that of all."""
        return self.members[0][1].scaling

    def predict_tiles(self, tiles: Tiles, positions: NDArray[np.int64]) -> Stack:
        """Probabilities (N H W, or N arrays) of the tiles of a data set at N positions."""
        parts = [np.float32(weight) * model.predict_tiles(tiles, positions) for weight, model in self.members]
        return sum(parts[1:], parts[0])


def load_run(run: str | Path, settings: PredictionSettings) -> Model | Blend:
    """Return the networks of a run, or of the runs that it blends."""
    kind = Blend if (Path(run).expanduser() / BLEND).is_file() else Model
    return kind(run, settings)
