"""What a caller may choose when a 3-D survey is predicted, as text of the command line or as Python's values."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from salt.config import Data
from salt.sections import Section, checked
from salt.survey.geometry import Direction
from salt.survey.line_numbers import WordPair


def as_directions(given: Any) -> Any:
    """Return a list of directions from a text such as `inline,crossline`."""
    return given.split(",") if isinstance(given, str) else list(given) if isinstance(given, tuple) else given


def one_direction() -> list[Direction]:
    """Return the default."""
    return ["inline"]


def check_directions(directions: list[Direction]) -> list[Direction]:
    """Return the directions in the order of their results; refuse none, and one that is named twice."""
    if not directions or len(set(directions)) < len(directions):
        raise ValueError("expected inline, crossline or both")
    return sorted(directions, reverse=True)


def as_lines(given: Any) -> Any:
    """Return the first and last number of each direction from a text such as `inline=1200:1300,crossline=5:9`."""
    if not isinstance(given, str):
        return {key: list(pair) for key, pair in given.items()} if isinstance(given, dict) else given
    found = {}
    for part in given.split(","):
        match = re.fullmatch(r"(inline|crossline)=(-?\d+):(-?\d+)", part.strip())
        if match is None or match[1] in found:
            raise ValueError("expected inline=FIRST:LAST, crossline=FIRST:LAST, or both with a comma between")
        found[match[1]] = [int(match[2]), int(match[3])]
    return found


def check_lines(lines: dict[Direction, list[int]]) -> dict[Direction, list[int]]:
    """Refuse first and last lines that descend."""
    if any(first > last for first, last in lines.values()):
        raise ValueError("expected FIRST:LAST with the smaller number first")
    return lines


def as_part(given: Any) -> Any:
    """Return the numbers of a text such as `3/16`."""
    if isinstance(given, str) and (match := re.fullmatch(r"(\d+)/(\d+)", given)):
        return [int(match[1]), int(match[2])]
    return list(given) if isinstance(given, tuple) else given


def check_part(part: list[int]) -> list[int]:
    """Refuse a part that is not among all parts."""
    if len(part) != 2 or not 1 <= part[0] <= part[1]:
        raise ValueError("expected K/N, with K from 1 to N")
    return part


FirstLast = Annotated[list[int], Field(min_length=2, max_length=2)]
GivenLines = Annotated[dict[Direction, FirstLast], BeforeValidator(as_lines), AfterValidator(check_lines)]
GivenDirections = Annotated[list[Direction], BeforeValidator(as_directions), AfterValidator(check_directions)]
GivenPart = Annotated[list[int], BeforeValidator(as_part), AfterValidator(check_part)]


class SurveyOptions(Section):
    """How a survey is predicted; the defaults are those of the command."""

    lines: GivenLines = Field(default_factory=dict)
    directions: GivenDirections = Field(default_factory=one_direction)
    mean: Literal["arithmetic", "geometric"] = "arithmetic"
    spread: bool = False
    as_int8: bool = False  # the results are percent in 8 bits
    part: GivenPart = Field(default_factory=lambda: [1, 1])  # K of N
    smallest_body: int = Field(1, ge=1)  # voxels
    inline_byte: int | None = None
    crossline_byte: int | None = None
    depth: float | None = None  # feet
    nodata: float | None = None

    def facts(self) -> dict[str, Any]:
        """Return what the bytes of the results depend on; None stands for a default."""
        return {
            "lines": self.lines or None,
            "directions": self.directions,
            "mean": self.mean,
            "spread": self.spread or None,
            "as": "int8" if self.as_int8 else None,
            "smallest-body": self.smallest_body,
            "inline-byte": self.inline_byte,
            "crossline-byte": self.crossline_byte,
            "depth": self.depth,
            "nodata": self.nodata,
        }


def trained_bytes(data: Data) -> WordPair | None:
    """Return where the line numbers were in the training data, if the run's settings name the bytes."""
    inline, crossline = (data.source().get(f"{direction}_byte") for direction in ("inline", "crossline"))
    return None if inline is None or crossline is None else (int(inline), int(crossline))


def check_survey_options(**values: Any) -> SurveyOptions:
    """Return typed options; None stands for a default.

    Raises:
        ValueError: a value is not one of those expected.
    """
    return checked(SurveyOptions, **{key: value for key, value in values.items() if value is not None})
