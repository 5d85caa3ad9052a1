"""Paths as text: one text for each name on the disk, although Python reads names in the locale's encoding."""

import os
import re
import sys
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
    """Return a typed path, or one from `as_text`, as Python opens it below a folder.

    If both readings are possible, the one that exists wins.
    """
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
