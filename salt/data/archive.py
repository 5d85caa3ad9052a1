"""Where files are read from: a folder, a zip archive, or a part of either. Archives are never extracted to the disk."""

import re
import stat
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from salt.paths import as_text
from salt.runs.files import BROKEN

LARGE = 10_000_000  # bytes; no tile has as many
BOMB = 100  # no honest large member shrinks to less than one part in so many
INNER_LIMIT = 1_000_000_000  # bytes of an archive within an archive, which is unpacked in memory


class Directory:
    """The files of a folder and those two levels down in train/ and test/, by their name relative to it."""

    def __init__(self, path: Path):
        self.label = str(path)
        # not rglob: a user may name a folder that holds much else
        files = [p for p in (*path.glob("*"), *path.glob("train/*/*"), *path.glob("test/*/*")) if p.is_file()]
        self._files = {as_text(p.relative_to(path).as_posix()): p for p in files}
        self.names = set(self._files)

    def read(self, name: str) -> bytes:
        """The bytes of one file."""
        path = self._files[name]
        try:
            if name.endswith(".png") and path.stat().st_size > LARGE:
                raise ValueError(f"{path}: has {path.stat().st_size} bytes, too many for a tile")
            return path.read_bytes()
        except OSError as error:
            raise ValueError(f"{path}: cannot be read: {error.strerror}") from None

    def stamp(self, name: str) -> str:
        """What changes when a file does: its size and time."""
        status = self._files[name].stat()
        return f"{status.st_size} {status.st_mtime_ns}"

    def open_zip(self, name: str) -> "Zip":
        """A zip archive that lies in the folder."""
        return Zip(self._files[name], f"{self.label}/{name}")


class Zip:
    """The files in a zip archive, by their member name; hostile members are refused when it is opened.

    Raises:
        ValueError: it is no complete archive, or a member is refused; the message names it.
    """

    def __init__(self, source: Path | BytesIO, label: str):
        self.label = label
        try:
            self._zip = zipfile.ZipFile(source)
        except PermissionError as error:
            raise ValueError(f"{label}: cannot be read: {error.strerror}") from None
        except BROKEN:
            raise ValueError(f"{label}: this is not a complete zip archive; download it again") from None
        self._members: dict[str, zipfile.ZipInfo] = {}
        for info in self._zip.infolist():
            fault = "occurs twice" if info.filename in self._members else find_fault(info)
            if fault:
                raise ValueError(f"{label}: member {info.orig_filename!r} {fault}")
            self._members[info.filename] = info
        self.names = {name for name in self._members if not name.endswith("/")}

    def read(self, name: str) -> bytes:
        """The bytes of one member; zipfile reads no more than its directory declares, and compares checksums."""
        try:
            content = self._zip.read(name)
        except BROKEN as error:
            raise ValueError(f"{self.label}: member {name} cannot be read: {error}") from None
        if len(content) != self._members[name].file_size:
            raise ValueError(f"{self.label}: member {name} cannot be read: it is shorter than declared")
        return content

    def stamp(self, name: str) -> str:
        """What changes when a member does: its size and checksum."""
        return f"{self._members[name].file_size} {self._members[name].CRC}"

    def open_zip(self, name: str) -> "Zip":
        """A zip archive within this one, unpacked in memory."""
        size = self._members[name].file_size
        if size > INNER_LIMIT:
            raise ValueError(
                f"{self.label}: member {name} has {size} bytes, too many to be unpacked in memory; unpack the outer "
                "archive and name its folder as data.root"
            )
        return Zip(BytesIO(self.read(name)), f"{self.label}/{name}")


def find_fault(info: zipfile.ZipInfo) -> str | None:
    """Why a member of an archive is refused by what the archive's directory says of it; None if it is not."""
    name = info.orig_filename
    if name.startswith("/") or ".." in name.split("/") or re.search(r"\\|\0|^[A-Za-z]:", name):
        return "has an unsafe name"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a symbolic link"
    if info.flag_bits & 1:
        return "is encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"is compressed by method {info.compress_type}, expected deflate or none"
    if info.file_size > LARGE and (name.endswith(".png") or info.file_size > BOMB * info.compress_size):
        return f"claims {info.file_size} bytes in {info.compress_size}, too many for what it is"
    return None


class Subfolder:
    """The files of another source below a prefix."""

    def __init__(self, source: Directory | Zip, prefix: str):
        self.label = f"{source.label}/{prefix}"
        self._source, self._prefix = source, prefix
        self.names = {n[len(prefix) + 1 :] for n in source.names if n.startswith(prefix + "/")}

    def read(self, name: str) -> bytes:
        """The bytes of one file."""
        return self._source.read(f"{self._prefix}/{name}")

    def stamp(self, name: str) -> str:
        """What changes when a file does."""
        return self._source.stamp(f"{self._prefix}/{name}")


Archive = Directory | Zip | Subfolder


def stamps(source: Archive) -> Iterator[str]:
    """A line for every file of a source, which changes when the file does."""
    for name in sorted(source.names):
        yield f"{name} {source.stamp(name)}"
