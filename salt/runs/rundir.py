"""A run directory: its paths, its config and data, and which folds are finished."""

import shlex
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from salt.config import RunConfig, check_config
from salt.machine import distributed
from salt.overrides import describe_changes, flatten
from salt.runs.environment import LOCAL, UNKNOWN, Conditions
from salt.runs.files import check_free, read_json, read_yaml, remove, write_json, write_text

PER_CALL = ("folds", "dry_run", "restart", "accept", "report")  # they do not describe the run as a whole
# May differ when a run resumes: they change where and how it works, not what it computes.
FREE_KEYS = (
    *("name", *PER_CALL),
    *("data.root", "data.cache", "data.mosaic", "data.unlabelled", "data.pseudo"),
    *("trainer.device", "trainer.workers", "trainer.predict_batch_size", "trainer.checkpoint_seconds"),
)
# Null until the data is read, then taken from it.
SETTLED_KEYS = ("data.tile", "data.amplitudes.range")
BLEND = "blend.json"  # written by salt-blend into a folder that is no run: the runs it averages, and their weights
SCORE_KEYS = ("folds", "gains", "interval", "map", "n", "threshold")  # of score.json, always there


@dataclass(frozen=True)
class Digests:
    """SHA-256 of what a run reads; None if it is not used."""

    data: str | None = None  # training and test tiles
    train: str | None = None  # training tiles alone
    weights: str | None = None  # the encoder's file, if a fold must still start from it
    unlabelled: str | None = None  # tiles without a mask, with their pseudo-labels


NOT_COMPARED = Digests()


@dataclass(frozen=True)
class RunDir:
    """A run directory, which may be new."""

    path: Path

    def fold_path(self, fold: int) -> Path:
        return self.path / f"fold_{fold}"

    def is_done(self, fold: int) -> bool:
        """Return whether a fold is trained and its out-of-fold predictions are written."""
        return (self.fold_path(fold) / "done").exists()

    def read_config(self) -> RunConfig:
        """Return the config of the run; raise ValueError if this is no run directory, or a blend."""
        file = self.path / "config.yaml"
        if (self.path / BLEND).is_file():
            raise ValueError(f"{self.path} is a blend of other runs, expected one of those that {BLEND} names")
        if not file.is_file():
            below = sorted(shlex.quote(str(f.parent)) for f in self.path.glob("*/config.yaml"))
            hint = f"; runs below it: {', '.join(below)}" if below else ""
            raise ValueError(f"{self.path} is no run directory, it has no config.yaml{hint}")
        return check_config(read_yaml(file))

    def done_folds(self, n_folds: int) -> list[int]:
        """Return the finished folds of 0 ... n_folds-1."""
        return [fold for fold in range(n_folds) if self.is_done(fold)]

    def unfinished(self, folds: list[int]) -> list[int]:
        """Return those of the folds that must be trained, from their beginning or a checkpoint."""
        return [fold for fold in folds if not self.is_done(fold)]

    def folds_to_begin(self, folds: list[int]) -> list[int]:
        """Return those of the folds that have no checkpoint either, so that they need their first weights."""
        return [fold for fold in self.unfinished(folds) if not has_checkpoint(self.fold_path(fold))]

    def read_score(self, n_folds: int) -> dict[str, Any]:
        """Return the content of score.json; raise ValueError if it is missing or not of the finished folds."""
        file = self.path / "score.json"
        if not file.is_file():
            raise ValueError(f"{self.path} has no score.json yet: finish the run with the same salt-train command")
        score = read_json(file, *SCORE_KEYS)
        scored, done = [row["fold"] for row in score["folds"]], self.done_folds(n_folds)
        if scored != done:
            raise ValueError(
                f"{file} is of the folds {scored}, but the folds {done} are finished (each has a file `done`). "
                "The same salt-train command trains what is missing and scores the run again."
            )
        return score

    @contextmanager
    def record_failure(self) -> Iterator[None]:
        """Write the traceback of the first process that fails within this context to error.txt; remove an old one."""
        file = self.path / "error.txt"
        remove(file)
        distributed.barrier()
        try:
            yield
        except Exception:
            with suppress(OSError), file.open("x", encoding="utf-8", errors="backslashreplace") as lines:
                lines.write(traceback.format_exc())  # unless the disk is what failed
            raise

    def is_begun(self) -> bool:
        """Return whether the directory belongs to a config and to data."""
        return (self.path / "config.yaml").exists() and (self.path / "environment.json").exists()

    def check(self, config: dict[str, Any], digests: Digests = NOT_COMPARED) -> list[str]:
        """Return the differences that `accept` allows between this config and the directory's, or raise ValueError."""
        # first: another process may start the run just now, which writes these last
        results = [*self.path.glob("fold_*"), *self.path.glob("score.json")]
        if not self.is_begun():
            if results:
                lacks = "lacks config.yaml or environment.json"
                raise ValueError(f"{self.path} holds results but {lacks}; choose another name=...")
            return []
        changes = differences(read_yaml(self.path / "config.yaml"), config)
        refused = [line for line in changes if line.partition(":")[0] not in config["accept"]]
        if refused:
            longer = any(line.startswith("trainer.epochs:") for line in refused)
            hint = f" (with init={self.path} it starts from the weights of this run)" if longer else ""
            raise ValueError(
                f"{self.path} holds a run with another config:\n  "
                + "\n  ".join(refused)
                + f"\nChoose another name=...{hint}, or delete that folder to start again."
            )
        if digests.data is not None:
            self.check_data(digests.data, config["data"]["root"], "choose another name=...")
        if digests.weights is not None:
            self.check_weights(digests.weights, config["encoder"]["weights"])
        if digests.unlabelled not in (None, read_json(self.path / "environment.json").get("unlabelled_sha256")):
            raise ValueError(
                f"{self.path} was started with other tiles or labels than data.unlabelled and data.pseudo have now; "
                "choose another name=..."
            )
        return changes

    def check_data(self, digest: str, root: str, remedy: str) -> None:
        """Raise ValueError if this run was trained on other data."""
        if read_json(self.path / "environment.json", "data_sha256")["data_sha256"] != digest:
            raise ValueError(f"{self.path} was trained on other data than {root} holds now; {remedy}")

    def check_weights(self, digest: str, file: str) -> None:
        """Raise ValueError if this run started from another file of encoder weights."""
        before = read_json(self.path / "environment.json", "weights_sha256")["weights_sha256"]
        if before != digest:
            raise ValueError(
                f"encoder.weights: {file} has changed since {self.path} was begun: its SHA-256 was {before}, now it is "
                f"{digest}. All folds need the same weights: put the old file back, or choose another name=..."
            )

    def check_free(self, folds: list[int]) -> None:
        """Raise ValueError if another process works on the first unfinished one of these folds."""
        for fold in self.unfinished(folds)[:1]:
            check_free(self.fold_path(fold), "fold")

    def claim(self, config: dict[str, Any], digests: Digests, begun: Conditions = UNKNOWN) -> None:
        """Write config and records of a new directory, or `check` old ones and note changes that `accept` allows."""
        file, record = self.path / "config.yaml", self.path / "environment.json"
        changes, settings = self.check(config, digests), yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        if self.is_begun():
            if changes:
                content = read_json(record, "data_sha256")
                write_json(record, content | {"changes": [*content.get("changes", []), *changes]})
                write_text(file, settings)
            return
        write_text(file, settings)
        known = {f"{key}_sha256": value for key, value in vars(digests).items()}
        write_json(self.path / LOCAL, begun.private)
        write_json(record, begun.shared | known)


def how_to_remake(file: Path) -> str:
    """Return the advice for a file of a fold that is lost or damaged."""
    return f"Delete {file.parent} to train this fold again from its beginning"


def snapshot_file(folder: Path, epoch: int) -> Path:
    """Return the path of the snapshot after an epoch."""
    return folder / f"snapshot_{epoch:04d}.safetensors"


def has_checkpoint(folder: Path) -> bool:
    """Return whether a fold has a checkpoint to resume from."""
    return (folder / "last.pt").exists() or (folder / "previous.pt").exists()


def weight_files(folder: Path) -> list[Path]:
    """Return the weights whose probabilities a fold averages, as its file `done` names them."""
    done = folder / "done"
    names = done.read_text(encoding="utf-8").split()
    if not names:
        raise ValueError(f"{done} is damaged: it names no weights. {how_to_remake(done)}")
    files = [folder / name for name in names]
    for file in files:
        if not file.is_file():
            raise ValueError(f"{file} cannot be used: it is missing. {how_to_remake(done)}")
    return files


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return lines "key: old -> new" for every setting that differs and matters."""
    a, b = flatten(old), flatten(new)
    open_keys = [k for k in SETTLED_KEYS if b.get(k) is None]
    keys = [k for k in {**a, **b} if not is_free(k) and k not in open_keys]
    return describe_changes(a, b, [k for k in keys if a.get(k) != b.get(k) or (k in a) != (k in b)])


def is_free(key: str) -> bool:
    """Return whether a setting may differ when a run resumes."""
    return key in FREE_KEYS or key.startswith("logger.")
