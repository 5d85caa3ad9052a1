"""File names as ids, with one spelling for one name, whatever system wrote it."""

import unicodedata
from pathlib import Path

from salt.paths import as_text


def id_of(path: Path) -> str:
    """Return the name of a file without its extension, with composed accents.

    A name that is neither UTF-8 nor of the locale keeps Python's surrogates, see `is_utf8`.
    """
    return composed(as_text(path.stem))


def composed(name: str) -> str:
    """Return a name with composed accents (Unicode's NFC), which macOS decomposes."""
    return unicodedata.normalize("NFC", name)


def is_utf8(name: str) -> bool:
    """Return whether a name can be written as UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(name: Path | str) -> str:
    """Return a name on one line, in characters that every stream takes."""
    text = str(name)
    return text if as_text(text).isprintable() else repr(text)[1:-1]
