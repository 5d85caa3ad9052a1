"""Paths as text: one text for one name on the disk, though Python reads names in the locale's encoding."""

import os
import re
import sys
from contextlib import suppress
from pathlib import Path


def as_text(text: str) -> str:
    """Return a path, or a text with paths, as files hold it: the paths' bytes read as UTF-8, whatever the locale.

    In a Latin-1 locale Python reads the name `données`, written by any other program as UTF-8, as `donnÃ©es`. What is
    no UTF-8 stays as Python read it.
    """
    return text if text.isascii() else re.sub(r"[^\x00-\x7f]+", lambda found: read_as_utf_8(found[0]), text)


def read_as_utf_8(part: str) -> str:
    """Return letters whose bytes, in the encoding of file names, are UTF-8 as what these say."""
    try:
        return os.fsencode(part).decode("utf-8")
    except UnicodeError:
        return part


def on_disk(text: str, folder: str = "") -> str:
    """Return a path below a folder as Python opens it, from how it was typed or how a file holds it (see `as_text`).

    Where both might be meant, what is there decides: names on the disk have no locale.
    """
    try:
        written = os.fsdecode(text.encode("utf-8"))
    except UnicodeError:  # typed, and not UTF-8
        return text
    if written == text:
        return text
    try:
        os.fsencode(text)
    except UnicodeError:  # it has letters that the locale lacks, so a file in UTF-8 named it
        return written
    for here, there in zip(with_parents(Path(folder, text)), with_parents(Path(folder, written)), strict=True):
        if os.path.lexists(here) != os.path.lexists(there):
            return text if os.path.lexists(here) else written
    return text


def with_parents(path: Path) -> list[Path]:
    """Return a path and the folders it lies in, the innermost first."""
    return [path, *path.parents]


def search_current_folder() -> None:
    """Let Python find a user's own classes in the current folder, as `python -m` does."""
    with suppress(OSError):  # it may have been deleted
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
