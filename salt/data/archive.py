"""The files of a data set, in a folder or a zip archive (never extracted to the disk), and problems found in them."""

import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path, PurePath
from typing import Any, NamedTuple, TypeVar

import pandas as pd
from joblib import cpu_count
from tqdm.auto import tqdm

from salt.data import image
from salt.data.picture import Pixels
from salt.machine import distributed
from salt.paths import as_text
from salt.runs.stacks import Size
from salt.survey.line import SEGY_SUFFIXES, read_line

LARGE, BOMB = 10_000_000, 100  # no honest member of more bytes shrinks to less than one part in so many
One = TypeVar("One")
Result = TypeVar("Result")
MOST_EXAMPLES = 3  # that a message names


class File(NamedTuple):
    """A file in a folder or archive."""

    label: str  # its name in messages; the extension tells the format
    read: Callable[[], bytes]
    stamp: str = ""  # changes when the file does

    def pixels(self, mask: bool = False) -> Pixels:
        """Return the pixels (H W) as `image.decode` does; raise ValueError, which does not name the file."""
        try:
            if PurePath(self.label).suffix.lower() in SEGY_SUFFIXES:  # mapped, not read; no archive holds any
                return image.check_pixels(read_line(Path(self.label)), image.SMALLEST)
            return image.decode(self.label, self.read(), mask=mask)
        except OSError as error:
            raise ValueError(f"cannot be read: {error.strerror}") from None


@dataclass(frozen=True)
class Archive:
    """A folder, a zip archive, or a part of either; files by their name within it."""

    label: str
    files: dict[str, File]

    def part(self, folder: str) -> "Archive":
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
    """Return the files of a zip archive; raise ValueError if it is incomplete or has two files of one name."""
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
    """Decode image files in threads, and convert their pixels; raise ValueError that names the first wrong one."""

    def work(file: File) -> Any:
        try:
            return convert(file.pixels(mask))
        except ValueError as error:
            raise ValueError(f"{file.label}: {error}") from None

    return in_threads(work, files, title)


@dataclass
class Finding:
    """One kind of problem: an error stops a run, a warning does not."""

    level: str
    what: str
    advice: str
    names: list[str] = field(default_factory=list)


@dataclass
class Checkup:
    """What is known of a data set, and what is wrong with it."""

    facts: list[str] = field(default_factory=list)
    findings: dict[str, Finding] = field(default_factory=dict)

    def add(self, level: str, what: str, advice: str, *names: str) -> None:
        """Note a problem of some files or ids."""
        finding = self.findings.setdefault(what, Finding(level, what, advice))
        finding.names += names

    @property
    def n_errors(self) -> int:
        """Return how many kinds of error there are."""
        return sum(finding.level == "error" for finding in self.findings.values())


class FirstError(Checkup):
    """A checkup that raises the first error; `label` is the place of the data."""

    def __init__(self, label: str):
        super().__init__()
        self.label = label

    def add(self, level: str, what: str, advice: str, *names: str) -> None:
        """Raise ValueError for an error; leave a warning to `salt-data check`."""
        if level == "error":
            more = f" and {len(names) - MOST_EXAMPLES} more" if len(names) > MOST_EXAMPLES else ""
            examples = f": {', '.join(names[:MOST_EXAMPLES])}{more}" if names else ""
            place = "" if what.startswith(self.label) else f"{self.label}: "
            raise ValueError(f"{place}{what}{examples}; {advice}")


@dataclass
class Part:
    """The train or the test images of a data set; files by id."""

    name: str
    images: dict[str, File]
    masks: dict[str, File] | None = None
    table: pd.DataFrame | None = None  # of the ids that there should be, in their order
    depths: pd.DataFrame | None = None
    size: Size | None = None  # of every image, which has eight bits then; None: any size and type
    place: str = ""  # of the part within the data, if there are several
    listed: str = "train.csv"  # the name of the table

    def check(self, found: Checkup) -> None:
        """Note images, masks, and rows of the tables that lack their partner."""
        images = self.images.keys()
        masks = images if self.masks is None else self.masks.keys()
        ids = images if self.table is None else set(self.table.index)
        depths = images if self.depths is None else set(self.depths.index)
        for what, advice, names in (
            (f"ids of {self.listed} without an image", "add the images", ids - images),
            (f"images that are not in {self.listed}", "add them, or remove them", images - ids),
            ("images without a mask", "add the masks, or move the images to test", images - masks),
            ("masks without an image", "add the images, or remove the masks", masks - images),
            ("images without a depth in depths.csv", "add their depths", images - depths),
        ):
            if names:
                found.add("error", f"{self.place}: {what}" if self.place else what, advice, *sorted(names))
