"""What pydantic finds wrong with the settings, in words that a user knows."""

import difflib
from typing import Any


def problem_in_words(detail: Any, settings: Any) -> str:
    """Return one line for one problem that pydantic found in the class `settings`."""
    # pydantic adds the branch of a union ("list[int]") to the key; the user knows only names and list positions
    key = ".".join(str(part) for part in detail["loc"] if not str(part).startswith(("list[", "literal[")))
    found = detail["input"]
    if detail["type"] == "extra_forbidden":
        return f"{key}: unknown key{near_keys(detail['loc'], settings)}"
    if detail["type"] == "missing":
        in_option = "; each option's YAML has it" if len(detail["loc"]) == 2 and isinstance(found, dict) else ""
        return f"{key}: is missing{in_option}"
    if detail["type"] == "model_type" and isinstance(found, str) and len(detail["loc"]) == 1:
        return f"{key}={found}: {key} has the group's settings; choose an option with {key.replace('_', '-')}={found}"
    return f"{key}: {detail['msg'][0].lower()}{detail['msg'][1:]}, found {found!r}"


def near_keys(loc: tuple[str | int, ...], settings: Any) -> str:
    """Return the nearest known key of the section that an unknown key stands in."""
    section = settings
    for part in loc[:-1]:
        section = section.model_fields[part].annotation
    near = difflib.get_close_matches(str(loc[-1]), getattr(section, "model_fields", {}), n=1)
    return f"; did you mean {'.'.join([*map(str, loc[:-1]), near[0]])}?" if near else ""
