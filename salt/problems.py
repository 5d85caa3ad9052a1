"""What is wrong with a setting, in words that a user knows."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


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
