"""Atomic writes, file locks, and readers that report damaged files."""

import errno
import hashlib
import json
import os
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import yaml
from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from salt.machine.distributed import is_main
from salt.paths import as_text

# What reading a damaged archive may raise, an .npz or a checkpoint among them.
BROKEN = (
    *(zipfile.BadZipFile, zlib.error, RuntimeError, ValueError, OSError, EOFError, struct.error),
    OverflowError,  # an archive in memory whose offsets are damaged
)
# What a file system says of a call that it does not know, such as NFS without its lock service, Lustre without flock
NOT_SUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
TAKE_OVER = 15.0  # seconds that a dead process's loader workers may live on and hold its lock


def write_atomic(path: Path, write: Callable[[Path], object], spare: Path | None = None) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place in one step; the old one becomes `spare`.

    Temporary files of this `path` that killed processes left are removed.

    Raises:
        OSError: it cannot be written; what was there before is there still.
    """
    if not is_main():
        return
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{escape(path.name)}.tmp-*"):
            if is_gone(left.name.rpartition("-")[2]):
                left.unlink(missing_ok=True)
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if spare is not None and path.exists():
            os.replace(path, spare)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
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


def rename(file: Path, to: Path) -> None:
    """Rename a file in its folder, where it is there."""
    if is_main():
        with suppress(FileNotFoundError):
            os.replace(file, to)


def sync_folder(path: Path) -> None:
    """Wait until a folder's names are on the disk: a new name itself must survive a power cut too."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
    finally:
        os.close(folder)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(as_text(text).encode("utf-8", "backslashreplace"))  # a path may be no UTF-8

    write_atomic(path, write)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_yaml(file: Path) -> dict[str, Any]:
    """The settings in a YAML file.

    Raises:
        ValueError: it is damaged.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
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
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} is missing or damaged: {error}") from None
    if not isinstance(content, dict) or not content.keys() >= set(keys):
        raise ValueError(f"{file} is damaged: expected {', '.join(keys)} in it")
    return content


def sha256(file: Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def check_file(key: str, file: Path, expected: str = "") -> None:
    """Make sure that a file is there; `key` is the setting that names it.

    Raises:
        ValueError: it is not.
    """
    if not file.is_file():
        raise ValueError(f"{key}: there is no file {file}{expected}")


def folder_name(name: str) -> str:
    """A name without `/` for any text: `a/b` becomes `a%2Fb`, and `%` itself `%25`, so that no two texts share one."""
    return name.replace("%", "%25").replace("/", "%2F")


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
    owner = owner_file(folder, name)
    lock = acquire(folder, name, wait)
    try:
        owner.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            owner.unlink(missing_ok=True)
        lock.release()


def check_free(folder: Path, name: str) -> None:
    """Make sure that no other process holds a folder now, without holding it or making anything.

    Rank 0 looks for all: the look takes the lock for a moment, and ranks would find each other.

    Raises:
        ValueError: another process holds it; the message names it.
    """
    if is_main() and owner_file(folder, name).exists():
        with suppress(OSError):  # on a read-only disk nobody holds anything
            acquire(folder, name).release()


def acquire(folder: Path, name: str, wait: float = 0.0) -> BaseFileLock:
    """Return the lock of a folder, held.

    Without the system's locks a file that exists is the lock. It outlives a process that is killed: on the same machine
    the next one sees that and takes over, for another machine's the user has to say so. To go on without any lock would
    spare that, but two jobs on one folder would write into each other's results.
    """
    owner = owner_file(folder, name)
    by_system = has_locks(folder)
    lock = FileLock(folder / f".{name}.lock") if by_system else SoftFileLock(folder / f".{name}.held")
    try:
        lock.acquire(timeout=wait or (TAKE_OVER if is_dead(owner) else 0))
    except Timeout:
        gone = "" if by_system else f"; this file system has no locks: if it has ended, delete {lock.lock_file}"
        who = owner.read_text(encoding="utf-8", errors="replace").strip() if owner.exists() else "another process"
        raise ValueError(f"{folder} is in use by {who}; wait for its end, or stop it first{gone}") from None
    return lock


def has_locks(folder: Path) -> bool:
    """Return whether the file system of a folder has locks, by one on a file that no other process knows."""
    try:
        import fcntl
    except ImportError:  # Windows has locks of its own
        return True
    with TemporaryFile(dir=folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in NOT_SUPPORTED:
                return False
            raise
    return True


def owner_file(folder: Path, name: str) -> Path:
    """Where it is written who holds a folder."""
    return folder / f".{name}.owner"


def is_dead(owner: Path) -> bool:
    """Whether the process that an owner file names ran on this machine and is gone."""
    try:
        _, number, _, host = owner.read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return False
    return host == socket.gethostname() and is_gone(number)


def is_gone(number: str) -> bool:
    """Whether no process of this machine has this number."""
    try:
        os.kill(int(number), 0)  # asks only
    except ProcessLookupError:
        return True
    except (OSError, ValueError, OverflowError):
        return False
    return False


def first_line(error: Exception) -> str:
    """The beginning of an error's text."""
    return (str(error).splitlines() or [type(error).__name__])[0]
