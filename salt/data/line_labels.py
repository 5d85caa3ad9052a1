"""What somebody interpreted of lines: images named after them, or a SEG-Y with traces of the same places."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salt.config import Labels
from salt.data import image
from salt.data.image import Labelled, salt_value, several_values, to_labels
from salt.data.survey_lines import LineKey, Lines, alone, read_file
from salt.paths import printable
from salt.survey.geometry import Direction, open_survey
from salt.survey.line import SEGY_SUFFIXES
from salt.survey.read import places_of, read_traces, row_of

NAMED = re.compile(r"(?:(?P<survey>.+?)[_-])?(?P<kind>inline|crossline|iline|xline|il|xl)[_ -]?(?P<number>-?\d+)", re.I)

log = logging.getLogger(__name__)


def find_labels(folder: Path, lines: Lines, labels: Labels) -> dict[LineKey, Labelled]:
    """Return the interpreted lines and their masks (samples, traces).

    Raises:
        ValueError: a file is no label of these lines, or of another size; the message names it.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    masks: dict[LineKey, Labelled] = {}
    sources: dict[LineKey, Path] = {}
    examples: dict[float, str] = {}
    for path in files:
        for key, values in labels_in(path, lines):
            try:
                labelled = to_labels(values, labels)
            except ValueError as error:
                raise ValueError(f"{printable(path)}: {lines.name(key)} {error}") from None
            if not labelled.known.any() and path.suffix.lower() in SEGY_SUFFIXES:
                continue
            if key in sources:
                raise ValueError(f"{path} and {sources[key]} are both labels of {lines.name(key)}; keep one")
            masks[key], sources[key] = labelled, path
            if (value := salt_value(values, labels)) is not None:
                examples.setdefault(value, path.name)
    if len(examples) > 1:
        log.warning(
            "labels: %s (data.labels.unknown names that of pixels nobody interpreted)", several_values(examples)
        )
    return masks


def labels_in(path: Path, lines: Lines) -> Iterator[tuple[LineKey, NDArray[Any]]]:
    """Yield the lines in a file of labels and their values (samples, traces): a SEG-Y has several, an image one."""
    suffix = path.suffix.lower()
    if suffix in SEGY_SUFFIXES and path.stem not in lines.files:
        yield from labels_of_survey(path, lines)
    elif suffix in SEGY_SUFFIXES:
        key = alone(path.stem)
        yield key, same_size(path, read_file(path), lines, key)
    elif suffix in image.EXTENSIONS:
        key = key_of(path, lines)
        try:
            values = image.decode(path.name, path.read_bytes(), smallest=1, mask=True)
        except ValueError as error:
            raise ValueError(f"{printable(path)}: {error}") from None
        yield key, same_size(path, values, lines, key)
    else:
        known = ", ".join((*SEGY_SUFFIXES, *image.EXTENSIONS))
        raise ValueError(f"{printable(path)}: expected a label, which ends in {known}")


def key_of(path: Path, lines: Lines) -> LineKey:
    """Return the line that the name of a label means; raise ValueError if it means none."""
    if path.stem in lines.files:
        return alone(path.stem)
    match = NAMED.fullmatch(path.stem)
    if match and not lines.surveys:
        open_survey(next(iter(lines.files.values())))  # says why it is no survey
    survey = match and (match["survey"] or (path.parent.name if path.parent.name in lines.surveys else None))
    if match and survey is None and len(lines.surveys) == 1:
        survey = next(iter(lines.surveys))
    if not match or survey not in lines.surveys:
        known = ", ".join([*lines.surveys, *lines.files])
        raise ValueError(
            f"{printable(path)}: its name means no line of {known}; expected inline_NUMBER or crossline_NUMBER, "
            "with the survey's name before it if there are several, or the name of a 2-D line"
        )
    assert survey is not None
    direction: Direction = "inline" if match["kind"].lower().startswith("i") else "crossline"
    try:
        row_of(lines.surveys[survey], direction, int(match["number"]))
    except ValueError as error:
        raise ValueError(f"{printable(path)}: {error}") from None
    return LineKey(survey, direction, int(match["number"]))


def same_size(path: Path, values: NDArray[Any], lines: Lines, key: LineKey) -> NDArray[Any]:
    """Return labels (samples, traces); raise ValueError if they have another size than their line."""
    expected = lines.size(key)
    if values.shape != expected:
        found, wanted = (f"{size[0]} samples x {size[1]} traces" for size in (values.shape, expected))
        raise ValueError(f"{printable(path)}: has {found}, expected {wanted}, as its line")
    return values


def labels_of_survey(path: Path, lines: Lines) -> Iterator[tuple[LineKey, NDArray[Any]]]:
    """Yield the inlines of which a SEG-Y of labels has traces; places without one are NaN."""
    name = path.stem if path.stem in lines.surveys else next(iter(lines.surveys), None)
    if name is None or (len(lines.surveys) > 1 and name != path.stem):
        raise ValueError(f"{path}: expected the name of a survey: {', '.join(lines.surveys) or 'there is none'}")
    survey = lines.surveys[name]
    layout, traces = places_of(path, survey)
    for row in np.flatnonzero((traces >= 0).any(axis=1)):
        number = int(survey.inlines[row])
        yield LineKey(name, "inline", number), read_traces(layout, traces[row], keep_dead=True).T
