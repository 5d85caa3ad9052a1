"""The files of a data set before anything is decoded, and the problems found in them."""

from dataclasses import dataclass, field

import pandas as pd

from salt.data.archive import File
from salt.runs.stacks import Size

MOST_EXAMPLES = 3  # that a message names


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
