"""A run directory: its paths, which config it belongs to, and writes that are whole or not there."""

import json
import os
import platform
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

import salt
from salt.config import RunConfig, check_config
from salt.ranks import is_main

# May differ when a run goes on: they change where and how a run works, not what it computes.
FREE_KEYS = ("folds", "dry_run", "accept", "data.root", "data.cache", "trainer.device", "trainer.workers")
TAKE_OVER = 15.0  # seconds that a dead process's loader workers may live on and hold its lock
RECORDED = ("torch", "numpy", "albumentations", "segmentation-models-pytorch", "timm", "hydra-core")


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
            ValueError: this is no run directory; runs below it are named.
        """
        file = self.path / "config.yaml"
        if not file.is_file():
            below = sorted(str(f.parent) for f in self.path.glob("*/config.yaml"))
            hint = f"; runs below it: {', '.join(below)}" if below else ""
            raise ValueError(f"{self.path} is no run directory, it has no config.yaml{hint}")
        return check_config(read_yaml(file))

    def done_folds(self, n_folds: int) -> list[int]:
        """The finished folds of 0 ... n_folds-1."""
        return [fold for fold in range(n_folds) if self.is_done(fold)]

    def needs_weights(self, folds: list[int]) -> bool:
        """Whether one of the folds is still to begin, so that the encoder's own weights are needed."""
        return any(not self.is_done(fold) and not has_checkpoint(self.fold(fold)) for fold in folds)

    @contextmanager
    def errors_kept(self) -> Iterator[None]:
        """Within this context the traceback of a failure is written to error.txt; an old one is removed."""
        remove(self.path / "error.txt")
        try:
            yield
        except Exception:
            with suppress(OSError):  # the disk itself may be what failed
                (self.path / "error.txt").write_text(traceback.format_exc())
            raise

    def claim(self, config: dict[str, Any], data_digest: str) -> None:
        """Take the directory for this config, or make sure that it already belongs to it.

        A difference in a key that `accept` names is written into config.yaml, and noted in environment.json.

        Raises:
            ValueError: the directory belongs to another config (the differing keys are named) or to other data.
        """
        file = self.path / "config.yaml"
        record = self.path / "environment.json"
        if list(self.path.glob("fold_*")) and not (file.exists() and record.exists()):
            raise ValueError(
                f"{self.path} has folds but lacks config.yaml or environment.json; choose another name=..."
            )
        if file.exists() and record.exists():
            changes = differences(read_yaml(file), config)
            refused = [line for line in changes if line.partition(":")[0] not in config["accept"]]
            if refused:
                raise ValueError(
                    f"{self.path} holds a run with another config:\n  "
                    + "\n  ".join(refused)
                    + "\nChoose another name=..., or delete that folder to start again."
                )
            self.check_data(data_digest, config["data"]["root"])
            if changes:
                content = read_json(record, "data_sha256")
                write_json(record, content | {"changes": [*content.get("changes", []), *changes]})
                write_text(file, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
            return
        write_text(file, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        write_json(record, environment() | {"data_sha256": data_digest})

    def check_data(self, digest: str, root: str) -> None:
        """Make sure that the data is the one that this run was trained on."""
        if read_json(self.path / "environment.json", "data_sha256")["data_sha256"] != digest:
            raise ValueError(f"{self.path} was trained on other data than {root} holds now; choose another name=...")


def read_yaml(file: Path) -> dict[str, Any]:
    """The settings in a YAML file.

    Raises:
        ValueError: it is damaged.
    """
    try:
        content = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is damaged: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file} is damaged: it holds no settings")
    return content


def read_json(file: Path, *keys: str) -> dict[str, Any]:
    """The content of a JSON file that holds these keys.

    Raises:
        ValueError: it is missing or damaged.
    """
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} is missing or damaged: {error}") from None
    if not isinstance(content, dict) or not content.keys() >= set(keys):
        raise ValueError(f"{file} is damaged: expected {', '.join(keys)} in it")
    return content


def remake(fold: Path) -> str:
    """What to do when a file of a finished fold is lost or damaged."""
    return f"Delete {fold / 'done'}, then salt-train makes this fold's result again from last.pt"


def has_checkpoint(fold: Path) -> bool:
    """Whether a fold has something to go on from."""
    return (fold / "last.pt").exists() or (fold / "previous.pt").exists()


def weight_files(fold: Path) -> list[Path]:
    """The weights whose probabilities a fold's prediction averages: its snapshots, if there are any, and the last.

    A finished fold has their names in its file `done`, so that a lost one is noticed.

    Raises:
        ValueError: `done` is empty.
    """
    if (fold / "done").exists():
        names = (fold / "done").read_text().split()
        if not names:
            raise ValueError(f"{fold / 'done'} is damaged: it names no weights. {remake(fold)}")
        return [fold / name for name in names]
    return [*sorted(fold.glob("snapshot_*.safetensors")), fold / "model.safetensors"]


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Lines "key: old -> new" for every setting that differs and matters."""
    a, b = flatten(old), flatten(new)
    keys = [k for k in {**a, **b} if k not in FREE_KEYS]
    return [
        f"{k}: {a.get(k, '(none)')} -> {b.get(k, '(none)')}"
        for k in keys
        if a.get(k) != b.get(k) or (k in a) != (k in b)
    ]


def flatten(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested dict as {dotted key: value}."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def environment() -> dict[str, Any]:
    """Versions and machine of a run, without names of people or paths."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "salt": salt.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu_count": os.cpu_count(),
        "gpu": device,
        "packages": {name: version(name) for name in RECORDED},
    }


def write_atomic(path: Path, write: Callable[[Path], object], spare: Path | None = None) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place in one step; the old one becomes `spare`.

    Raises:
        OSError: it cannot be written; what was there before is there still.
    """
    if not is_main():
        return
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if spare is not None and path.exists():
            os.replace(path, spare)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as the latter
        raise OSError(
            f"{path} cannot be written: {error}. What was there before is kept; with space on the disk and leave to "
            "write, the same command goes on."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove(*files: Path) -> None:
    """Delete files, where they are there."""
    if is_main():
        for file in files:
            file.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Wait until a folder's names are on the disk: a new name itself must survive a power cut too."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def locked(folder: Path, name: str, wait: float = 0.0) -> Iterator[None]:
    """Hold a folder for this process alone; the system frees the lock of a process that ends, however it ends.

    Raises:
        ValueError: another process holds it, and still does after `wait` seconds; the message names it.
    """
    if not is_main():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    owner = folder / f".{name}.owner"
    lock = FileLock(folder / f".{name}.lock")
    try:
        lock.acquire(timeout=wait or (TAKE_OVER if is_dead(owner) else 0))
    except Timeout:
        who = owner.read_text().strip() if owner.exists() else "another process"
        raise ValueError(f"{folder} is in use by {who}; wait for its end, or stop it first") from None
    try:
        owner.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
        yield
    finally:
        with suppress(OSError):
            owner.unlink(missing_ok=True)
        lock.release()


def is_dead(owner: Path) -> bool:
    """Whether the process that an owner file names ran on this machine and is gone."""
    try:
        _, number, _, host = owner.read_text().split()
        if host != socket.gethostname():
            return False
        os.kill(int(number), 0)  # asks only
    except ProcessLookupError:
        return True
    except (OSError, ValueError):
        return False
    return False


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(text.encode())

    write_atomic(path, write)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
