"""The lines in SEG-Y files: of 3-D surveys, and files of one 2-D line."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from salt.data.lines import OBLIQUE, Line
from salt.runs.stacks import Size
from salt.survey.geometry import Direction, Survey, open_survey, open_volume, read_layout
from salt.survey.layout import naming
from salt.survey.line import SEGY_SUFFIXES, numbers_of_line, read_line, sample_interval
from salt.survey.read import read_line_of

NEIGHBOURS = 1000  # line numbers within which two files count as parts of one survey; the largest data.gap


class LineKey(NamedTuple):
    """A line of a survey, or a file of its own, which has no direction."""

    survey: str
    direction: Direction | None
    number: int


def alone(name: str) -> LineKey:
    """Return the key of a file of one line."""
    return LineKey(name, None, 0)


@dataclass(frozen=True)
class Lines:
    """The seismic files of a folder, by name: 3-D surveys, and files of one 2-D line."""

    surveys: dict[str, Survey]
    files: dict[str, Path]

    def name(self, key: LineKey) -> str:
        """Return the id of a line."""
        if key.direction is None:
            return key.survey
        name = f"{key.direction}_{key.number}"
        return f"{key.survey}_{name}" if len(self.surveys) > 1 or name in self.files else name

    def read(self, key: LineKey) -> NDArray[np.floating[Any]]:
        """Return the amplitudes (samples, traces) of a line; NaN without a trace. Raise ValueError if there is none."""
        if key.direction is None:
            return read_file(self.files[key.survey])
        return read_line_of(self.surveys[key.survey], key.direction, key.number)

    def size(self, key: LineKey) -> Size:
        """Return the numbers of samples and traces of a line."""
        if key.direction is None:
            height, width = self.read(key).shape
            return height, width
        survey = self.surveys[key.survey]
        return survey.n_samples, len(survey.lines(other_direction(key.direction)))

    @cached_property
    def numbered(self) -> dict[str, Line]:
        """The files of one line that are lines of a survey, as their headers say."""
        found = {}
        for name, path in self.files.items():
            if (numbers := numbers_of_line(path)) is not None:
                found[name] = Line(name, *numbers)
        several = len({(line.direction, line.number) for line in found.values()}) > 1
        return found if several or self.surveys or len(found) == 1 else {}  # one number for all means nothing

    @cached_property
    def groups(self) -> dict[str, str]:
        """Of each file the first one of those that it touches or overlaps, directly or through others."""
        boxes = {name: (survey.inlines, survey.crosslines) for name, survey in self.surveys.items()}
        for name, line in self.numbered.items():
            own = np.array([line.number])
            boxes[name] = (own, line.across) if line.direction == "inline" else (line.across, own)
        groups = {name: name for name in [*boxes, *self.files]}
        for first, second in combinations(boxes, 2):
            kept, merged = groups[first], groups[second]
            if kept != merged and touch(boxes[first], boxes[second]):
                groups = {name: kept if group == merged else group for name, group in groups.items()}
        return groups

    def place(self, key: LineKey) -> Line:
        """Return where a line lies; files that touch or overlap are parts of one survey."""
        if key.direction is not None:
            across = self.surveys[key.survey].lines(other_direction(key.direction))
            return Line(self.groups[key.survey], key.direction, key.number, across)
        if key.survey in self.numbered:
            return self.numbered[key.survey]._replace(survey=self.groups[key.survey])
        oblique = any(lies_in(self.files[key.survey], survey) for survey in self.surveys.values())
        return Line(key.survey, OBLIQUE if oblique else "inline", 0, np.arange(self.size(key)[1]))

    def interval(self) -> float | None:
        """Return the interval between samples, in ms, if all files have the same."""
        found = {survey.interval for survey in self.surveys.values()} | set(map(sample_interval, self.files.values()))
        return found.pop() if len(found) == 1 else None

    def some(self, n: int) -> list[LineKey]:
        """Return up to n inlines spread over each survey, and all files of one line."""
        keys = []
        for name, survey in self.surveys.items():
            numbers = survey.inlines
            at = np.unique(np.linspace(0, len(numbers) - 1, min(n, len(numbers))).round().astype(np.int64))
            keys += [LineKey(name, "inline", number) for number in numbers[at].tolist()]
        return keys + [alone(name) for name in self.files]


def other_direction(direction: Direction) -> Direction:
    """Return crossline for inline, and the reverse."""
    return "crossline" if direction == "inline" else "inline"


def touch(first: Sequence[NDArray[np.int64]], second: Sequence[NDArray[np.int64]]) -> bool:
    """Return whether inlines and crosslines of two files overlap, or are so near that lines are neighbours."""
    pairs = zip(first, second, strict=True)
    return all(a.min() - NEIGHBOURS <= b.max() and b.min() - NEIGHBOURS <= a.max() for a, b in pairs)


def lies_in(path: Path, survey: Survey) -> bool:
    """Return whether the trace headers of a file name lines of a survey alone; raise ValueError if it is no SEG-Y."""
    numbers = read_layout(path).numbers(dict.fromkeys(survey.words, "i4"))
    return all(
        np.isin(numbers[word], lines).all()
        for word, lines in zip(survey.words, (survey.inlines, survey.crosslines), strict=True)
    )


def find_segy(root: Path) -> list[Path]:
    """Return a SEG-Y file, or those in a folder by name, without hidden ones."""
    if root.is_file():
        return [root] if root.suffix.lower() in SEGY_SUFFIXES else []
    inside = sorted(root.iterdir()) if root.is_dir() else []
    return [path for path in inside if path.suffix.lower() in SEGY_SUFFIXES and not path.name.startswith(".")]


def open_lines(root: Path, inline_byte: int | None, crossline_byte: int | None) -> Lines:
    """Open all SEG-Y files of a folder; raise ValueError if one is neither a survey nor a line."""
    surveys: dict[str, Survey] = {}
    files: dict[str, Path] = {}
    for path in find_segy(root):
        if path.stem in surveys or path.stem in files:
            raise ValueError(f"{path}: another SEG-Y file of this folder has the same name; rename one")
        named = inline_byte is not None or crossline_byte is not None
        survey = open_survey(path, inline_byte, crossline_byte) if named else open_volume(path)
        if survey is None:
            files[path.stem] = path
        else:
            surveys[path.stem] = survey
    return Lines(surveys, files)


def read_file(path: Path) -> NDArray[np.floating[Any]]:
    """Return the amplitudes (samples, traces) of a file of one line; raise ValueError that names it."""
    with naming(path):
        return read_line(path)
