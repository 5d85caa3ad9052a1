"""What a data set consists of before anything is decoded, and the problems that are found in it."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import pandas as pd
from joblib import cpu_count
from tqdm import tqdm

from salt.data import image
from salt.machine import distributed
from salt.runs.stacks import Size

SHOWN = 3  # examples that a message names

One = TypeVar("One")
Result = TypeVar("Result")


class File(NamedTuple):
    """An image or mask in a folder or archive: how messages call it, and what reads its bytes."""

    label: str  # ends like a file's name, which tells the format
    read: Callable[[], bytes]

    def pixels(self, mask: bool = False) -> image.Array:
        """Return the pixels (H W) as `image.decode` does.

        Raises:
            ValueError: it cannot be read; the message does not name the file.
        """
        try:
            return image.decode(self.label, self.read(), mask=mask)
        except OSError as error:
            raise ValueError(f"cannot be read: {error.strerror}") from None


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
        """How many kinds of error there are."""
        return sum(finding.level == "error" for finding in self.findings.values())


class FirstError(Checkup):
    """A checkup for a run, which the first error ends; `label` is the place of the data."""

    def __init__(self, label: str):
        super().__init__()
        self.label = label

    def add(self, level: str, what: str, advice: str, *names: str) -> None:
        """Raise ValueError for an error; a warning is left to `salt-data check`."""
        if level == "error":
            examples = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
            where = "" if what.startswith(self.label) else f"{self.label}: "
            raise ValueError(f"{where}{what}{f': {examples}' if names else ''}; {advice}")


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


def in_threads(work: Callable[[One], Result], items: Sequence[One], title: str, unit: str = "tile") -> list[Result]:
    """Return `work` of each item, done in threads under a progress bar: decoders release Python's lock."""
    hidden = distributed.tqdm_disable()
    with ThreadPoolExecutor(cpu_count()) as pool:
        return list(tqdm(pool.map(work, items), title, len(items), unit=unit, disable=hidden, leave=False))


def decode_files(files: Sequence[File], convert: Callable[[image.Array], Any], title: str, mask: bool) -> list[Any]:
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


def checkup_in_words(found: Checkup) -> str:
    """The facts, and a table of all problems."""
    rows = [
        {
            "": finding.level,
            "number": len(finding.names) or 1,
            "problem": finding.what,
            "for example": ", ".join(finding.names[:SHOWN]),
            "what to do": finding.advice,
        }
        for finding in sorted(found.findings.values(), key=lambda finding: finding.level)
    ]
    table = pd.DataFrame(rows).to_string(index=False, justify="left") if rows else "no problem found"
    return "\n".join([*found.facts, "", table])
