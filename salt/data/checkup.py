"""What a check of a data set knows of it, and the problems that it found."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pandas as pd

SHOWN = 3  # examples that a line names


@dataclass
class Finding:
    """One kind of problem: an error stops a run, a warning does not."""

    level: str
    what: str
    advice: str
    names: list[str] = field(default_factory=list)


@dataclass
class Part:
    """The train or the test images of a data set, before anything is decoded; files by id."""

    name: str
    images: dict[str, Callable[[], bytes]]
    masks: dict[str, Callable[[], bytes]] | None
    extensions: dict[str, str]  # of images and masks, by "images/id" and "masks/id"
    table: pd.DataFrame | None = None  # with the ids that there should be, of train.csv or sample_submission.csv
    kaggle: bool = False


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


def in_words(found: Checkup) -> str:
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
