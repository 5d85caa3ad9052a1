"""What a user may give as RUN: a finished run, its bundle, or a blend of several."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from salt.config import RunConfig
from salt.paths import on_disk
from salt.runs.bundle import open_run
from salt.runs.files import read_json, sha256
from salt.runs.rundir import BLEND, SCORE_KEYS, RunDir, weight_files


@dataclass(frozen=True)
class Member:
    """A finished run, and the weight of its probabilities in the mean."""

    directory: RunDir
    config: RunConfig
    score: dict[str, Any]
    weight: float = 1.0
    bundle: Path | None = None  # the file that it was unpacked from

    @property
    def files(self) -> list[Path]:
        """The files of weights that its prediction averages: of all scored folds, with their snapshots."""
        return [file for row in self.score["folds"] for file in weight_files(self.directory.fold_path(row["fold"]))]

    @cached_property
    def weights_sha256(self) -> dict[str, str]:
        """SHA-256 of each of these files, by its path in the run."""
        return {f"{file.parent.name}/{file.name}": sha256(file) for file in self.files}


@dataclass(frozen=True)
class Ensemble:
    """A run or a blend, whose weighted mean of probabilities is the prediction; `path` holds its score and oof.npz."""

    path: Path
    score: dict[str, Any]
    members: list[Member]

    @property
    def first(self) -> Member:
        """The first run; all have its settings of the data."""
        return self.members[0]

    @property
    def sees_depth(self) -> bool:
        """Whether a network needs the survey depth of its images."""
        return any(member.config.input.channels == "depth_z" for member in self.members)

    @cached_property
    def origin(self) -> dict[str, Any]:
        """The threshold and weights that its predictions come from."""
        entries = [entry for _, entry in blended(self.path)]
        weights = {"runs": entries} if entries else {"weights_sha256": self.first.weights_sha256}
        return {"threshold": self.score["threshold"]} | weights


def blended(path: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return the runs of a blend with their entries in blend.json; an empty list for a run."""
    file, keys = path / BLEND, ("run", "weight", "weights_sha256")
    entries = read_json(file, "runs")["runs"] if file.is_file() else []
    if not all(isinstance(entry, dict) and entry.keys() >= set(keys) for entry in entries):
        raise ValueError(f"{file} is damaged: expected {', '.join(keys)} of each run in it")
    return [(path / on_disk(entry["run"], str(path)), entry) for entry in entries]


def first_run(path: Path) -> RunDir:
    """Return the run in a folder, or the first run of a blend, whose settings of the data all have."""
    return RunDir(open_run(next((run for run, _ in blended(path)), path)))


def read_member(path: Path, weight: float = 1.0) -> Member:
    """Return a finished run; raise ValueError if it is none, or its score is of other folds than the finished ones."""
    directory = RunDir(open_run(path))
    config = directory.read_config()
    score = directory.read_score(config.data.n_folds)
    return Member(directory, config, score, weight, path if path.is_file() else None)


def read_ensemble(path: Path) -> Ensemble:
    """Return the run or the blend in a folder; raise ValueError if it is neither, damaged, or changed since."""
    entries = blended(path)
    if not entries:
        member = read_member(path)
        return Ensemble(member.directory.path, member.score, [member])
    members = [read_member(run, entry["weight"]) for run, entry in entries]
    for member, (run, entry) in zip(members, entries, strict=True):
        if member.weights_sha256 != entry["weights_sha256"]:
            raise ValueError(f"{run} has other weights than when {path} was blended; run salt-blend again")
    return Ensemble(path, read_json(path / "score.json", *SCORE_KEYS), [m for m in members if m.weight > 0])
