"""Atomic writes, file locks, and readers that report damaged files."""

import errno
import fcntl
import hashlib
import json
import os
import socket
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from glob import escape
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import yaml
from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from salt.machine.distributed import is_main
from salt.paths import as_text

# What reading a damaged archive may raise, such as an .npz or a checkpoint.
BROKEN = (
    *(zipfile.BadZipFile, zlib.error, RuntimeError, ValueError, OSError, EOFError, struct.error),
    OverflowError,  # an archive in memory whose offsets are damaged
)
# Errors of a file system that lacks a call, such as NFS without its lock service or Lustre without flock
NOT_SUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
STALE = 24 * 3600.0  # seconds since the last change of a temporary file that another machine has given up
LONGER = 26  # bytes by which the name of a temporary file may be longer
TAKE_OVER = 15.0  # seconds in which loader workers may outlive a dead process and hold its lock


def put_in_place(temporary: Path, path: Path) -> None:
    """Give a file its name, whatever had it. For `write_atomic`."""
    os.replace(temporary, path)


def write_atomic(
    path: Path,
    write: Callable[[Path], object],
    spare: Path | None = None,
    put: Callable[[Path, Path], None] = put_in_place,
    clean: bool = True,
) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place in one step; the old one becomes `spare`.

    Remove temporary files of this `path` that killed processes left; without `clean`, which spares a look at all names
    in the folder, that is up to the caller.

    Raises:
        OSError: it cannot be written; the old file is still there.
    """
    if not is_main():
        return
    temporary = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if clean:
            remove_left(path.parent, path.name)
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if spare is not None and path.exists():
            os.replace(path, spare)
        put(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise OSError(
            f"{path} cannot be written: {error}. What was there before is kept; the same command resumes once there is "
            "space on the disk and permission to write."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def keep_first(temporary: Path, path: Path) -> None:
    """Put a file in place unless one is there: of processes on any machines, one succeeds. For `write_atomic`."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno not in (*NOT_SUPPORTED, errno.EPERM):
            raise
        if not path.exists():  # without hard links, the caller's lock has to do
            os.replace(temporary, path)


def temporary_beside(path: Path) -> Path:
    """Return the name of this process's temporary file for `path`; no process of any machine has it too."""
    return path.with_name(f".{path.name}.tmp-{machine_id()}-{os.getpid()}")


def remove_left(folder: Path, name: str | None = None) -> None:
    """Remove the temporary files, of one or of all names in a folder, that nobody will finish."""
    for temporary in folder.glob(f".{'*' if name is None else escape(name)}.tmp-*"):
        if is_left(temporary):
            temporary.unlink(missing_ok=True)


def is_left(temporary: Path) -> bool:
    """Return whether the process of a temporary file has ended; on another machine, whether a day has gone by."""
    machine, _, number = temporary.name.rpartition(".tmp-")[2].rpartition("-")
    if machine == machine_id():
        return is_gone(number)
    try:
        return time.time() - temporary.stat().st_mtime > STALE
    except OSError:
        return False


@cache
def machine_id() -> str:
    """Return what tells machines apart, also their starts and the containers on one: each numbers its processes."""
    known = [socket.gethostname()]
    with suppress(OSError):
        known.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8"))
        known.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256(repr(known).encode()).hexdigest()[:12]


def remove(*files: Path) -> None:
    """Delete the files that exist."""
    if is_main():
        for file in files:
            file.unlink(missing_ok=True)


def rename(file: Path, to: Path) -> None:
    """Rename a file if it exists."""
    if is_main():
        with suppress(FileNotFoundError):
            os.replace(file, to)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk, so that a new name survives a power cut."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
    finally:
        os.close(folder)


def write_text(path: Path, text: str, put: Callable[[Path, Path], None] = put_in_place) -> None:
    """Write a text file atomically."""
    content = as_text(text).encode("utf-8", "backslashreplace")  # a path in it may be no UTF-8
    write_atomic(path, lambda temporary: temporary.write_bytes(content), put=put)


def write_json(path: Path, content: dict[str, Any], put: Callable[[Path, Path], None] = put_in_place) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n", put)


def read_yaml(file: Path) -> dict[str, Any]:
    """Return the settings in a YAML file; raise ValueError if it is damaged."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is damaged: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file} is damaged: it holds no settings")
    return content


def read_json(file: Path, *keys: str) -> dict[str, Any]:
    """Return the content of a JSON file that holds these keys; raise ValueError if it does not."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} is missing or damaged: {error}") from None
    if not isinstance(content, dict) or not content.keys() >= set(keys):
        raise ValueError(f"{file} is damaged: expected {', '.join(keys)} in it")
    return content


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def check_file(key: str, file: Path, expected: str = "") -> None:
    """Raise ValueError if a file is missing; `key` is the setting that names it."""
    if not file.is_file():
        raise ValueError(f"{key}: there is no file {file}{expected}")


def folder_name(name: str) -> str:
    """Return a name without `/` for any text: `a/b` becomes `a%2Fb`, and `%` becomes `%25`."""
    return name.replace("%", "%25").replace("/", "%2F")


@contextmanager
def locked(folder: Path, name: str, wait: float = 0.0) -> Iterator[None]:
    """Lock a folder for this process; raise ValueError with the owner if another holds it after `wait` seconds."""
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
    """Raise ValueError if another process holds a folder; write nothing. Only rank 0 looks, since it takes the lock."""
    if is_main() and owner_file(folder, name).exists():
        with suppress(OSError):  # on a read-only disk no process holds anything
            acquire(folder, name).release()


def acquire(folder: Path, name: str, wait: float = 0.0) -> BaseFileLock:
    """Acquire the lock of a folder: a file if the file system has no locks, which only its own machine takes over."""
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
    """Return whether the file system of a folder has locks, by trying one on a new file."""
    with TemporaryFile(dir=folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in NOT_SUPPORTED:
                return False
            raise
    return True


def owner_file(folder: Path, name: str) -> Path:
    """Return the file that names the owner of the lock."""
    return folder / f".{name}.owner"


def is_dead(owner: Path) -> bool:
    """Return whether the process that an owner file names ran on this machine and has ended."""
    try:
        _, number, _, host = owner.read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return False
    return host == socket.gethostname() and is_gone(number)


def is_gone(number: str) -> bool:
    """Return whether no process of this machine has this number."""
    try:
        os.kill(int(number), 0)  # sends no signal
    except ProcessLookupError:
        return True
    except (OSError, ValueError, OverflowError):
        pass
    return False


def first_line(error: Exception) -> str:
    """Return the first line of an error, or its type if it has no text."""
    return (str(error).splitlines() or [type(error).__name__])[0]
