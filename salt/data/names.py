"""File names as ids, with one spelling for one name, whatever system wrote it."""

import unicodedata
from pathlib import Path

import pandas as pd

from salt.paths import as_text


def id_of(path: Path) -> str:
    """Return the name of a file without its extension, composed (Unicode's NFC: macOS decomposes accents).

    A name that is neither UTF-8 nor of the locale keeps Python's surrogates, see `is_text`.
    """
    return composed(as_text(path.stem))


def composed(name: str) -> str:
    """Return a name with composed accents."""
    return unicodedata.normalize("NFC", name)


def is_text(name: str) -> bool:
    """Return whether a name can be written as UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(name: Path | str) -> str:
    """Return a name as a message shows it: on one line, in characters that every stream takes."""
    text = str(name)
    return text if as_text(text).isprintable() else repr(text)[1:-1]


def by_composed_id(table: pd.DataFrame, label: str) -> pd.DataFrame:
    """Return a table with composed ids as its index.

    Raises:
        ValueError: two ids are one name in two spellings.
    """
    found = table.set_axis(table.index.map(composed), axis="index")
    if not found.index.is_unique:
        twice = found.index[found.index.duplicated()][0]
        raise ValueError(f"{label}: id {twice} occurs more than once, in two Unicode spellings")
    return found
