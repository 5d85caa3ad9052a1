"""Describe how the settings of two runs differ, in few words."""

from collections.abc import Iterator
from typing import Any

import yaml

from salt.overrides import CONFIGS

LONGEST = 80  # characters of a value
NONE = "(none)"  # of a setting that is missing


def flatten(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested dict as {dotted key: value}."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def describe_changes(old: dict[str, Any], new: dict[str, Any], keys: list[str]) -> list[str]:
    """Return lines "key: old -> new" for keys of flat settings; "group: option -> option" if that says it all."""
    lines = []
    for section in dict.fromkeys(section_of(key) for key in keys):
        before, after = option_of(section, old), option_of(section, new)
        if before and after and before != after:
            lines.append(f"{section.replace('_', '-')}: {before} -> {after}")
        else:
            pairs = [(key, old.get(key, NONE), new.get(key, NONE)) for key in keys if section_of(key) == section]
            lines += [f"{key}: {a} -> {b}" for pair in pairs for key, a, b in value_changes(*pair)]
    return lines


def section_of(key: str) -> str:
    """Return the first part of a dotted key."""
    return key.partition(".")[0]


def option_of(section: str, flat: dict[str, Any]) -> str | None:
    """Return the option whose YAML has exactly these settings, or None."""
    settings = {key: value for key, value in flat.items() if section_of(key) == section}
    for file in sorted((CONFIGS / section.replace("_", "-")).glob("*.yaml")):
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        if flatten({section: content.get(section, content)}) == settings:
            return file.stem
    return None


def value_changes(key: str, old: Any, new: Any) -> Iterator[tuple[str, str, str]]:
    """Yield key, old and new value; for lists of as many classes, those of each setting that differs."""
    if not (has_classes(old) and has_classes(new) and len(old) == len(new)):
        yield key, short_value(old), short_value(new)
    else:
        for i, (a, b) in enumerate(zip(old, new, strict=True)):
            flat = [flatten({f"{key}.{i}": part}) for part in (a, b)]
            for place in {**flat[0], **flat[1]}:
                values = [part.get(place, NONE) for part in flat]
                if values[0] != values[1]:
                    yield from value_changes(place, *values)


def has_classes(value: Any) -> bool:
    """Return whether a value is a list of settings."""
    return isinstance(value, list) and any(isinstance(part, dict) for part in value)


def short_value(value: Any) -> str:
    """Return a value as it is typed, cut if it is long; of the settings of a class its name."""
    if isinstance(value, dict):
        return value.get("_target_", "?").rpartition(".")[2]
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    text = f"[{', '.join(map(short_value, value))}]" if isinstance(value, list) else str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
