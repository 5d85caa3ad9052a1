"""The files of a data set, in a folder or a zip archive. Archives are never extracted to the disk."""

import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from joblib import cpu_count
from tqdm.auto import tqdm

from salt.data import image
from salt.data.picture import Pixels
from salt.machine import distributed
from salt.paths import as_text

LARGE, BOMB = 10_000_000, 100  # no honest member of more bytes shrinks to less than one part in so many
One = TypeVar("One")
Result = TypeVar("Result")


class File(NamedTuple):
    """A file in a folder or archive."""

    label: str  # its name in messages; the extension tells the format
    read: Callable[[], bytes]
    stamp: str = ""  # changes when the file does

    def pixels(self, mask: bool = False) -> Pixels:
        """Return the pixels (H W) as `image.decode` does.

        Raises:
            ValueError: it cannot be read; the message does not name the file.
        """
        try:
            return image.decode(self.label, self.read(), mask=mask)
        except OSError as error:
            raise ValueError(f"cannot be read: {error.strerror}") from None


@dataclass(frozen=True)
class Archive:
    """A folder, a zip archive, or a part of either; files by their name within it."""

    label: str
    files: dict[str, File]

    def part(self, folder: str) -> "Archive":
        """Return the files below a folder."""
        start = f"{folder}/"
        below = {name.removeprefix(start): file for name, file in self.files.items() if name.startswith(start)}
        return Archive(f"{self.label}/{folder}", below)


def open_folder(path: Path) -> Archive:
    """Return the files of a folder and those two levels down in train/ and test/."""
    # not rglob: a user may name a folder that holds much else
    paths = [p for p in (*path.glob("*"), *path.glob("train/*/*"), *path.glob("test/*/*")) if p.is_file()]
    files = {}
    for file in paths:
        status = file.stat()
        stamp = f"{status.st_size} {status.st_mtime_ns}"
        files[as_text(file.relative_to(path).as_posix())] = File(str(file), file.read_bytes, stamp)
    return Archive(str(path), files)


def open_zip(source: Path | BytesIO, label: str) -> Archive:
    """Return the files of a zip archive.

    Raises:
        ValueError: it is not complete, cannot be read, or has two files of one name.
    """
    try:
        archive = zipfile.ZipFile(source)
    except PermissionError as error:
        raise ValueError(f"{label}: cannot be read: {error.strerror}") from None
    except Exception:  # a damaged archive raises many classes
        raise ValueError(f"{label}: this is not a complete zip archive; download it again") from None
    files: dict[str, File] = {}
    for info in archive.infolist():
        if info.filename in files:
            raise ValueError(f"{label}: member {info.filename!r} occurs twice")
        if info.file_size > max(LARGE, BOMB * info.compress_size):
            raise ValueError(f"{label}: member {info.filename!r} claims {info.file_size} bytes, too many for its data")
        if not info.is_dir():
            read = partial(read_zipped, archive, info, label)
            files[info.filename] = File(f"{label}/{info.filename}", read, f"{info.file_size} {info.CRC}")
    return Archive(label, files)


def read_zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo, label: str) -> bytes:
    """Return the bytes of one member of a zip archive."""
    try:
        return archive.read(info)
    except Exception as error:  # a damaged member raises many classes
        raise ValueError(f"{label}: member {info.filename} cannot be read: {error}") from None


def in_threads(work: Callable[[One], Result], items: Sequence[One], title: str, unit: str = "tile") -> list[Result]:
    """Return `work` of each item, done in threads under a progress bar: decoders release Python's lock."""
    hidden = distributed.tqdm_disable()
    with ThreadPoolExecutor(cpu_count()) as pool:
        return list(tqdm(pool.map(work, items), title, len(items), unit=unit, disable=hidden, leave=False))


def decode_files(files: Sequence[File], convert: Callable[[Pixels], Any], title: str, mask: bool) -> list[Any]:
    """Decode image files in threads, and convert the pixels of each.

    Raises:
        ValueError: one cannot be read or converted; the message names it.
    """

    def work(file: File) -> Any:
        try:
            return convert(file.pixels(mask))
        except ValueError as error:
            raise ValueError(f"{file.label}: {error}") from None

    return in_threads(work, files, title)
