"""What somebody interpreted of lines: images named after them, or a SEG-Y with traces of the same places."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salt.config import Labels
from salt.data import image
from salt.data.archive import Checkup
from salt.data.image import Labelled, salt_value, several_values, to_labels
from salt.data.survey_lines import LineKey, Lines, alone, read_file
from salt.paths import printable
from salt.survey.geometry import Direction, open_survey
from salt.survey.line import SEGY_SUFFIXES
from salt.survey.read import places_of, read_traces, row_of

NAMED = re.compile(r"(?:(?P<survey>.+?)[_-])?(?P<kind>inline|crossline|iline|xline|il|xl)[_ -]?(?P<number>-?\d+)", re.I)
JPEG = (".jpg", ".jpeg")
VALUES = "name the values by --salt and --unknown (data.labels), or save the mask without loss"
BYTES = "name the bytes by --inline-byte and --crossline-byte (data.inline_byte, data.crossline_byte)"
NOT_INTERPRETED = "if nobody interpreted them, give them another value and name it by data.labels.unknown (--unknown)"


def find_labels(folder: Path, lines: Lines, labels: Labels, found: Checkup) -> dict[LineKey, Labelled]:
    """Return the interpreted lines and their masks (samples, traces), and note in `found` what is wrong."""
    masks: dict[LineKey, Labelled] = {}
    sources: dict[LineKey, Path] = {}
    examples: dict[float, str] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name.startswith("."):
            continue
        own = [one for one in masks_in(path, lines, labels, found) if one[1].known.any() or not is_segy(path)]
        for key, mask, value in own:
            if key in sources:
                what = f"is a second label of {lines.name(key)}, beside {printable(sources[key])}"
                found.add("error", what, "keep one", printable(path))
                continue
            masks[key], sources[key] = mask, path
            if value is not None:
                examples.setdefault(value, path.name)
        if 2 * (n_empty := sum(not mask.salt.any() for _, mask, _ in own)) > len(own) > 1:
            what = f"{n_empty} of {len(own)} lines have no salt at all"
            found.add("warning", what, NOT_INTERPRETED, printable(path))
    if len(examples) > 1:
        found.add("warning", several_values(examples), NOT_INTERPRETED, *examples.values())
    return masks


def masks_in(
    path: Path, lines: Lines, labels: Labels, found: Checkup
) -> Iterator[tuple[LineKey, Labelled, float | None]]:
    """Yield the lines in a file of labels, their masks, and the value of salt; note in `found` what is wrong."""
    try:
        for key, values in labels_in(path, lines):
            try:
                yield key, to_labels(values, labels), salt_value(values, labels)
            except ValueError as error:
                name = f"{printable(path)}: {lines.name(key)}" if is_segy(path) else printable(path)
                found.add("error", str(error), VALUES, name)
    except ValueError as error:
        reason = str(error).removeprefix(str(path)).lstrip(": ")
        advice = BYTES if "data.inline_byte" in reason else "rename it, export it again, or move it away"
        found.add("error", reason, advice, printable(path))


def is_segy(path: Path) -> bool:
    """Return whether a name is that of a SEG-Y file."""
    return path.suffix.lower() in SEGY_SUFFIXES


def labels_in(path: Path, lines: Lines) -> Iterator[tuple[LineKey, NDArray[Any]]]:
    """Yield the lines in a file of labels and their values (samples, traces): a SEG-Y has several, an image one."""
    suffix = path.suffix.lower()
    if is_segy(path) and path.stem not in lines.files:
        yield from labels_of_survey(path, lines)
    elif is_segy(path):
        key = alone(path.stem)
        yield key, same_size(read_file(path), lines, key)
    elif suffix in image.EXTENSIONS and suffix not in JPEG:
        key = key_of(path, lines)
        yield key, same_size(image.decode(path.name, path.read_bytes(), smallest=1, mask=True), lines, key)
    else:
        why = "is a JPEG, which changes the values of a mask" if suffix in JPEG else "is no label"
        known = ", ".join((*SEGY_SUFFIXES, *(kind for kind in image.EXTENSIONS if kind not in JPEG)))
        raise ValueError(f"{why}; expected a file that ends in {known}")


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
            f"its name means no line of {known}; expected a name such as inline_1203, crossline_880, IL1203 or XL880, "
            "with the survey's name and _ before it if there are several, or the name of a 2-D line"
        )
    assert survey is not None
    direction: Direction = "inline" if match["kind"].lower().startswith("i") else "crossline"
    row_of(lines.surveys[survey], direction, int(match["number"]))  # raises an error if there is none
    return LineKey(survey, direction, int(match["number"]))


def same_size(values: NDArray[Any], lines: Lines, key: LineKey) -> NDArray[Any]:
    """Return labels (samples, traces); raise ValueError if they have another size than their line."""
    expected = lines.size(key)
    if values.shape != expected:
        found, wanted = (f"{size[0]} samples x {size[1]} traces" for size in (values.shape, expected))
        raise ValueError(f"has {found}, expected {wanted}, as its line")
    return values


def labels_of_survey(path: Path, lines: Lines) -> Iterator[tuple[LineKey, NDArray[Any]]]:
    """Yield the inlines of which a SEG-Y of labels has traces; places without one are NaN."""
    name = path.stem if path.stem in lines.surveys else next(iter(lines.surveys), None)
    if name is None:
        open_survey(next(iter(lines.files.values())))  # says why it is no survey
    if name is None or (len(lines.surveys) > 1 and name != path.stem):
        raise ValueError(f"its name is that of no survey or line: {', '.join([*lines.surveys, *lines.files])}")
    survey = lines.surveys[name]
    layout, traces = places_of(path, survey)
    for row in np.flatnonzero((traces >= 0).any(axis=1)):
        number = int(survey.inlines[row])
        yield LineKey(name, "inline", number), read_traces(layout, traces[row], keep_zeros=True).T
