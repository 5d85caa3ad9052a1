"""Numbers, names and what is wrong with a setting as text, on the terminal and on pages."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from markupsafe import Markup

LONGEST, PIECE = 32, 16  # characters: no word is longer; a digest is, and may break into pieces
BREAK = "\x00"  # marks a place to break; in no name


def duration(seconds: float) -> str:
    """Return a time in at most two units."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def percent(share: float) -> str:
    """Return a share in percent."""
    return f"{100 * share:.1f} %"


def signed(value: float) -> str:
    """Return a number with four digits and its sign; zero is +0.0000."""
    return f"{round(value, 4) + 0.0:+.4f}"


def span(low: float, high: float, sign: bool = False) -> str:
    """Return an interval, or one value if both ends are equal in four digits."""
    first, last = (signed(value) if sign else f"{value:.4f}" for value in (low, high))
    return f"{first} to {last}" if first != last else f"{first}, without spread"


def plural(n: int, word: str) -> str:
    """Return a number of things: 1 tile, 2,000 tiles."""
    return f"{n:,} {word}{'s' * (n != 1)}"


def numbered(word: str, numbers: Sequence[int]) -> str:
    """Return things by their numbers: fold 1, folds 0, 2 and 3."""
    *others, last = map(str, numbers)
    return f"{word}s {', '.join(others)} and {last}" if others else f"{word} {last}"


def breakable(value: Any) -> Markup:
    """Return text for HTML that may break after a sign in a name or path; only words above LONGEST break within."""
    text = re.sub(r"([._/,=:;\\-])(?=[^\W\d])", rf"\1{BREAK}", str(value))
    long_word = rf"[^\s{BREAK}]{{{LONGEST + 1},}}"
    text = re.sub(long_word, lambda word: BREAK.join(re.findall(f".{{1,{PIECE}}}", word[0])), text)
    return Markup("<wbr>").join(text.split(BREAK))


def problem_in_words(detail: Any, settings: Any) -> str:
    """Return one line for a problem that pydantic found in the class `settings`."""
    # pydantic adds the branch of a union ("list[int]") to the key; the user knows only names and list positions
    key = ".".join(str(part) for part in detail["loc"] if not str(part).startswith(("list[", "literal[")))
    found = detail["input"]
    if detail["type"] == "extra_forbidden":
        *sections, last = detail["loc"]
        for part in sections:
            settings = settings.model_fields[part].annotation
        return f"{key}: unknown key{did_you_mean(last, settings.model_fields, key.removesuffix(last))}"
    if detail["type"] == "missing":
        in_option = "; each option's YAML has it" if len(detail["loc"]) == 2 and isinstance(found, dict) else ""
        return f"{key}: is missing{in_option}"
    if detail["type"] == "model_type" and isinstance(found, str) and len(detail["loc"]) == 1:
        return f"{key}={found}: {key} has the group's settings; choose an option with {key.replace('_', '-')}={found}"
    text = detail["msg"].removeprefix("Value error, ")
    return f"{key}: {text[0].lower()}{text[1:]}, found {found!r}"


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return a hint at the nearest known name, if one is near."""
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {prefix}{near[0]}?" if near else ""
