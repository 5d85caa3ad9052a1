"""Numbers and names as text, on the terminal and on pages."""

import re
from collections.abc import Sequence
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
    """Return text for HTML that may break after a sign within a name or path, not within a word.

    Only text longer than any word, such as a digest, may break elsewhere.
    """
    text = re.sub(r"([._/,=:;\\-])(?=[^\W\d])", rf"\1{BREAK}", str(value))
    text = re.sub(
        rf"[^\s{BREAK}]{{{LONGEST + 1},}}", lambda word: BREAK.join(re.findall(f".{{1,{PIECE}}}", word[0])), text
    )
    return Markup("<wbr>").join(text.split(BREAK))
