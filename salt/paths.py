"""Paths and file names as text: one spelling for each name, whatever the locale or the system that wrote it."""

import os
import re
import sys
import unicodedata
from contextlib import suppress
from pathlib import Path


def as_text(text: str) -> str:
    """Return a path, or a text with paths, as Salt's files hold it: in UTF-8, whatever the locale.

    In a Latin-1 locale Python reads the UTF-8 name `données` as `donnÃ©es`. Names that are no UTF-8 stay as Python read
    them.
    """
    return text if text.isascii() else re.sub(r"[^\x00-\x7f]+", lambda found: read_as_utf_8(found[0]), text)


def read_as_utf_8(part: str) -> str:
    """Decode letters as UTF-8, if their bytes on the disk are UTF-8."""
    try:
        return os.fsencode(part).decode("utf-8")
    except UnicodeError:
        return part


def on_disk(text: str, folder: str = "") -> str:
    """Return a path, typed or from `as_text`, as Python opens it below a folder; of two readings the existing one."""
    try:
        written = os.fsdecode(text.encode("utf-8"))
    except UnicodeError:  # typed, and no UTF-8
        return text
    if written == text:
        return text
    try:
        os.fsencode(text)
    except UnicodeError:  # the locale lacks its letters, so it comes from a UTF-8 file
        return written
    places = ([path, *path.parents] for path in (Path(folder, text), Path(folder, written)))
    for here, there in zip(*places, strict=True):
        if os.path.lexists(here) != os.path.lexists(there):
            return text if os.path.lexists(here) else written
    return text


def search_current_folder() -> None:
    """Let Python find a user's own classes in the current folder, as `python -m` does."""
    with suppress(OSError):  # it may have been deleted
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())


def id_of(path: Path) -> str:
    """Return the name of a file without its extension, with composed accents; see `is_utf8` for other names."""
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
