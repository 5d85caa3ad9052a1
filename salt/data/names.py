"""File names as ids, with one spelling for one name, whatever system wrote it."""

import unicodedata
from pathlib import Path

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
