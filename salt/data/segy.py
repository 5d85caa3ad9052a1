"""SEG-Y as training data: 2-D lines or 3-D surveys, and the lines that somebody interpreted."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from salt.data import line_labels
from salt.data.amplitudes import BY_IMAGE, Scaling, find_missing
from salt.data.archive import Checkup, File, Part, in_threads
from salt.data.image import Labelled
from salt.data.source import AS_THEY_ARE, Source, as_npy
from salt.data.survey_lines import LineKey, Lines, find_segy, open_lines
from salt.data.tiles import Dataset, Tiles
from salt.runs.stacks import as_stack
from salt.survey.geometry import DIRECTIONS, Direction, Survey, describe_lines, open_survey
from salt.words import plural

LABELS = ("labels", "masks")  # names of the folder
N_SPREAD = 20  # lines of a survey from which its amplitudes are taken
MOST_UNLABELLED = 200  # lines of a survey that count as images without a mask

log = logging.getLogger(__name__)


class Segy(Source):
    """SEG-Y surveys or lines in a folder, and labels of the interpreted lines in its folder `labels`."""

    wanted = "SEG-Y files (.sgy, .segy), and a folder labels"

    def __init__(self, root: str | Path, inline_byte: int | None = None, crossline_byte: int | None = None):
        super().__init__(root)
        self.inline_byte, self.crossline_byte = inline_byte, crossline_byte

    @classmethod
    def recognises(cls, root: Path) -> bool:
        return bool(find_segy(root))

    def check(self) -> None:
        """Raise ValueError if there is no SEG-Y file."""
        if not self.recognises(self.root):
            raise ValueError(f"data.root: there is no SEG-Y file in {self.root}; expected {self.wanted}")

    def open_files(self) -> Lines:
        """Open all SEG-Y files; raise ValueError if one is no survey and no line."""
        return open_lines(self.root, self.inline_byte, self.crossline_byte)

    def load(self, scaling: Scaling) -> Dataset:
        """Read the interpreted lines; raise ValueError that names file, line or trace."""
        self.check()
        lines = self.open_files()
        masks = self.find_labels(lines, scaling)
        if not masks:
            expected = "expected a SEG-Y of the same geometry, or images such as inline_1203.png"
            raise ValueError(f"{self.labels()} holds no label, {expected}")
        scaling = with_range(scaling, lines)
        tiles = make_tiles(lines, list(masks), scaling)
        train = Tiles(
            tiles.ids,
            tiles.images,
            as_stack([mask.salt for mask in masks.values()]),
            tiles.depths,
            tiles.missing,
            as_stack([mask.known for mask in masks.values()]),
            [lines.place(key) for key in masks] if lines.surveys or lines.numbered else None,
        )
        return Dataset(train, make_tiles(lines, [], scaling), scaling.amplitudes.limits, interval=lines.interval())

    def unlabelled(self, place: Path, scaling: Scaling) -> Tiles:
        """Return lines without a label, spread over the surveys."""
        other = Segy(place, self.inline_byte, self.crossline_byte)
        lines = other.open_files()
        labelled = other.find_labels(lines, scaling)
        keys = [key for key in lines.some(MOST_UNLABELLED) if key not in labelled]
        return make_tiles(lines, keys, with_range(scaling, lines))

    def parts(self, found: Checkup, scaling: Scaling = AS_THEY_ARE) -> list[Part]:
        """Return the interpreted lines as files of their amplitudes, and their masks."""
        try:
            lines = self.open_files()
        except ValueError as error:
            advice = line_labels.BYTES if "data.inline_byte" in str(error) else "export it again"
            found.add("error", str(error), advice)
            return []
        found.facts += [describe_survey(survey) for survey in lines.surveys.values()]
        n_before = found.n_errors
        masks = line_labels.find_labels(self.labels(), lines, scaling.labels, found)
        if not masks and found.n_errors == n_before:
            found.add("error", f"{self.labels()} holds no label", "add an image such as inline_1203.png")
        names = {lines.name(key): key for key in masks}
        images = {name: File(f"{name}.npy", partial(line_as_npy, lines, key)) for name, key in names.items()}
        values = {
            name: File(f"{name}.npy", partial(mask_as_npy, lines, key, masks[key], scaling.nodata))
            for name, key in names.items()
        }
        return [Part("train", images, values)]

    def find_labels(self, lines: Lines, scaling: Scaling) -> dict[LineKey, Labelled]:
        """Return the masks of interpreted lines, and log warnings; raise ValueError that names a wrong file."""
        found = Checkup()
        masks = line_labels.find_labels(self.labels(), lines, scaling.labels, found)
        for finding in sorted(found.findings.values(), key=lambda finding: finding.level):
            if finding.level == "error":
                n = sum(len(other.names) for other in found.findings.values() if other.level == "error") - 1
                more = f" ({plural(n, 'more error')}: salt-data check lists them)" if n else ""
                raise ValueError(f"{finding.names[0]}: {finding.what}{more}")
            log.warning("%s: %s; %s", finding.names[0], finding.what, finding.advice)
        return masks

    def labels(self) -> Path:
        """Return the folder of labels."""
        base = self.root.parent if self.root.is_file() else self.root
        return next((base / name for name in LABELS if (base / name).is_dir()), base / LABELS[0])


def draw_line(
    path: Path, direction: Direction, number: int, line_bytes: tuple[int | None, int | None] = (None, None)
) -> NDArray[np.uint8]:
    """Return a line of a survey (samples, traces) to paint a mask on: as training scales it, 0 without an amplitude.

    Raises:
        ValueError: the file is no survey, has no such line, or its amplitudes cannot be scaled.
    """
    lines = Lines({path.stem: open_survey(path, *line_bytes)}, {})
    by_survey = Scaling(BY_IMAGE.model_copy(update={"per": "survey"}))
    grey = with_range(by_survey, lines)(lines.read(LineKey(path.stem, direction, number)))
    return np.where(grey.missing, np.uint8(0), grey.levels)


def describe_survey(survey: Survey) -> str:
    """Return in words which lines a survey has, and in which bytes of the trace headers they stand."""
    inlines, crosslines = (
        f"{direction}s {describe_lines(survey.lines(direction))} in bytes {byte}"
        for direction, byte in zip(DIRECTIONS, survey.words, strict=True)
    )
    return f"{survey.path.name}: {inlines}, {crosslines}"


def line_as_npy(lines: Lines, key: LineKey) -> bytes:
    """Return the amplitudes of a line in NumPy's format."""
    return as_npy(lines.read(key))


def mask_as_npy(lines: Lines, key: LineKey, mask: Labelled, nodata: float | None) -> bytes:
    """Return a mask in NumPy's format, with NaN where it or the amplitude is unknown."""
    known = mask.known & ~find_missing(lines.read(key), nodata)
    return as_npy(np.where(known, mask.salt, np.float32("nan")))


def with_range(scaling: Scaling, lines: Lines) -> Scaling:
    """Return the scaling, if it asks for the survey's range with that of lines spread over it."""
    if scaling.amplitudes.per == "image" or scaling.amplitudes.limits is not None:
        return scaling
    return scaling.by_samples(read_all(lines, lines.some(N_SPREAD), scaling.sample, "amplitudes"))


def read_all(lines: Lines, keys: list[LineKey], convert: Any, title: str) -> list[Any]:
    """Return what `convert` makes of the amplitudes of lines; raise ValueError that names the line."""

    def work(key: LineKey) -> Any:
        values = lines.read(key)
        try:
            return convert(values)
        except ValueError as error:
            raise ValueError(f"{lines.name(key)}: {error}") from None

    return in_threads(work, keys, title, "line")


def make_tiles(lines: Lines, keys: list[LineKey], scaling: Scaling) -> Tiles:
    """Return lines as tiles without masks."""
    if not keys:
        return Tiles([], np.empty((0, 1, 1), np.uint8), None, np.empty(0))
    greys = read_all(lines, keys, scaling, "lines")
    missing = as_stack([grey.missing for grey in greys]) if any(grey.missing.any() for grey in greys) else None
    depths = np.full(len(keys), np.nan)
    return Tiles([lines.name(key) for key in keys], as_stack([grey.levels for grey in greys]), None, depths, missing)
