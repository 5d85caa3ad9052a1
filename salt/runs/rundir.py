"""A run directory: its paths, which config and data it belongs to, and what is in it already."""

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
from salt.runs.environment import LOCAL, UNKNOWN, Conditions
from salt.runs.files import check_free, read_json, read_yaml, remove, write_json, write_text
from salt.runs.options import describe_changes, flatten

# May differ when a run goes on: they change where and how a run works, not what it computes.
FREE_KEYS = (
    *("name", "folds", "dry_run", "accept", "report"),
    *("data.root", "data.cache", "data.mosaic", "data.unlabelled", "data.pseudo"),
    *("trainer.device", "trainer.workers", "trainer.predict_batch_size", "trainer.checkpoint_seconds"),
)
# Null until the data was read; then what it has.
SETTLED_KEYS = ("data.tile", "data.amplitudes.range")
BLEND = "blend.json"  # in a folder of salt-blend, which is no run: the runs that it averages, and their weights
SCORE_KEYS = ("folds", "gains", "map", "n", "threshold")  # of score.json, which are always read


@dataclass(frozen=True)
class Digests:
    """SHA-256 of what a run reads: all data, its training tiles alone, and what is None where it is not used."""

    data: str | None = None
    train: str | None = None
    weights: str | None = None  # the encoder's file, where folds are still to begin from one
    unlabelled: str | None = None  # tiles without a mask, with their pseudo-labels


@dataclass(frozen=True)
class RunDir:
    """Paths below the directory of one run."""

    path: Path

    def fold(self, fold: int) -> Path:
        """Directory of one fold."""
        return self.path / f"fold_{fold}"

    def is_done(self, fold: int) -> bool:
        """Whether a fold is trained and its out-of-fold predictions are written."""
        return (self.fold(fold) / "done").exists()

    def read_config(self) -> RunConfig:
        """The config that this directory was trained with.

        Raises:
            ValueError: this is no run directory, or a blend of several; runs below it are named.
        """
        file = self.path / "config.yaml"
        if (self.path / BLEND).is_file():
            raise ValueError(f"{self.path} is a blend of other runs, expected one of those that {BLEND} names")
        if not file.is_file():
            below = sorted(shlex.quote(str(f.parent)) for f in self.path.glob("*/config.yaml"))
            hint = f"; runs below it: {', '.join(below)}" if below else ""
            raise ValueError(f"{self.path} is no run directory, it has no config.yaml{hint}")
        return check_config(read_yaml(file))

    def done_folds(self, n_folds: int) -> list[int]:
        """The finished folds of 0 ... n_folds-1."""
        return [fold for fold in range(n_folds) if self.is_done(fold)]

    def unfinished(self, folds: list[int]) -> list[int]:
        """Return those of the folds that are still to be trained, from their beginning or a checkpoint."""
        return [fold for fold in folds if not self.is_done(fold)]

    def folds_to_begin(self, folds: list[int]) -> list[int]:
        """Return those of the folds that are neither finished nor begun, so that their first weights are needed."""
        return [fold for fold in self.unfinished(folds) if not has_checkpoint(self.fold(fold))]

    def read_score(self, n_folds: int) -> dict[str, Any]:
        """The content of score.json.

        Raises:
            ValueError: it is not there, damaged, or of other folds than those that are finished now.
        """
        file = self.path / "score.json"
        if not file.is_file():
            raise ValueError(f"{self.path} has no score.json yet: finish the run with the same salt-train command")
        score = read_json(file, *SCORE_KEYS)
        scored, done = [row["fold"] for row in score["folds"]], self.done_folds(n_folds)
        if scored != done:
            raise ValueError(
                f"{file} is of the folds {scored}, but the folds {done} are finished now (each has a file `done`). "
                "The same salt-train command trains what is missing and scores the run again."
            )
        return score

    @contextmanager
    def errors_kept(self) -> Iterator[None]:
        """Within this context the traceback of a failure is written to error.txt; an old one is removed.

        Of several processes the one that fails first writes it: the others fail because of it.
        """
        remove(self.path / "error.txt")
        distributed.barrier()
        try:
            yield
        except Exception:
            file = self.path / "error.txt"
            with suppress(OSError), file.open("x", encoding="utf-8", errors="backslashreplace") as lines:
                lines.write(traceback.format_exc())  # the disk may be what failed
            raise

    def is_begun(self) -> bool:
        """Whether the directory belongs to a config and to data."""
        return (self.path / "config.yaml").exists() and (self.path / "environment.json").exists()

    def check(self, config: dict[str, Any], digests: Digests | None = None) -> list[str]:
        """Make sure that the directory is new or belongs to this config; nothing is written.

        Digests that are not given are not compared. Returns the differences that `accept` allows.

        Raises:
            ValueError: the directory belongs to another config (the differing keys are named), or to other data, tiles
                without a mask or encoder weights.
        """
        # looked for first: another process may begin the run just now, these come last
        results = [*self.path.glob("fold_*"), *self.path.glob("score.json")]
        if not self.is_begun():
            if results:
                raise ValueError(
                    f"{self.path} holds results but lacks config.yaml or environment.json; choose another name=..."
                )
            return []
        changes = differences(read_yaml(self.path / "config.yaml"), config)
        refused = [line for line in changes if line.partition(":")[0] not in config["accept"]]
        if refused:
            longer = any(line.startswith("trainer.epochs:") for line in refused)
            hint = f" (with init={self.path} it begins with the weights of this run)" if longer else ""
            raise ValueError(
                f"{self.path} holds a run with another config:\n  "
                + "\n  ".join(refused)
                + f"\nChoose another name=...{hint}, or delete that folder to start again."
            )
        digests = digests or Digests()
        if digests.data is not None:
            self.check_data(digests.data, config["data"]["root"], "choose another name=...")
        if digests.weights is not None:
            self.check_weights(digests.weights, config["encoder"]["weights"])
        if digests.unlabelled not in (None, read_json(self.path / "environment.json").get("unlabelled_sha256")):
            raise ValueError(
                f"{self.path} was begun with other tiles without a mask, or other pseudo-labels of them, than those of "
                "data.unlabelled and data.pseudo now; choose another name=..."
            )
        return changes

    def check_data(self, digest: str, root: str, remedy: str) -> None:
        """Make sure that the data is the one that this run was trained on."""
        if read_json(self.path / "environment.json", "data_sha256")["data_sha256"] != digest:
            raise ValueError(f"{self.path} was trained on other data than {root} holds now; {remedy}")

    def check_weights(self, digest: str, file: str) -> None:
        """Make sure that the encoder's file is the one that this run began with."""
        begun_with = read_json(self.path / "environment.json", "weights_sha256")["weights_sha256"]
        if begun_with != digest:
            raise ValueError(
                f"encoder.weights: {file} has changed since {self.path} was begun: its SHA-256 was {begun_with}, now "
                f"it is {digest}. Folds from different weights do not belong together: put the old file back, or "
                "choose another name=..."
            )

    def check_free(self, folds: list[int]) -> None:
        """Make sure that no other process works on the first of these folds that is not finished.

        Raises:
            ValueError: one does.
        """
        for fold in self.unfinished(folds)[:1]:
            check_free(self.fold(fold), "fold")

    def claim(self, config: dict[str, Any], digests: Digests, begun: Conditions = UNKNOWN) -> None:
        """Take the directory for this config, or make sure that it already belongs to it (see `check`).

        A new one keeps in environment.json and local.json how it is begun. A difference in a key that `accept` names
        is written into config.yaml, and noted in environment.json.
        """
        file = self.path / "config.yaml"
        record = self.path / "environment.json"
        changes = self.check(config, digests)
        if self.is_begun():
            if changes:
                content = read_json(record, "data_sha256")
                write_json(record, content | {"changes": [*content.get("changes", []), *changes]})
                write_text(file, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
            return
        write_text(file, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        known = {f"{key}_sha256": value for key, value in vars(digests).items()}
        write_json(self.path / LOCAL, begun.private)
        write_json(record, begun.shared | known)


def how_to_remake(file: Path) -> str:
    """What to do when a file of a fold is lost or damaged."""
    return f"Delete {file.parent} to train this fold again from its beginning"


def snapshot_file(fold: Path, epoch: int) -> Path:
    """Where the weights after an epoch are kept that join the prediction."""
    return fold / f"snapshot_{epoch:04d}.safetensors"


def has_checkpoint(fold: Path) -> bool:
    """Whether a fold has something to go on from."""
    return (fold / "last.pt").exists() or (fold / "previous.pt").exists()


def weight_files(fold: Path) -> list[Path]:
    """The weights whose probabilities a finished fold's prediction averages, as its file `done` names them.

    Raises:
        ValueError: `done` is empty, or a file that it names is missing.
    """
    done = fold / "done"
    names = done.read_text(encoding="utf-8").split()
    if not names:
        raise ValueError(f"{done} is damaged: it names no weights. {how_to_remake(done)}")
    files = [fold / name for name in names]
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
    """Whether a setting may differ when a run goes on."""
    return key in FREE_KEYS or key.startswith("logger.")
