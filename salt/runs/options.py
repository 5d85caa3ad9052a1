"""What differs between the settings of two runs, in few words."""

from collections.abc import Iterator
from typing import Any

import yaml

from salt.overrides import CONFIGS

LONGEST = 80  # characters of a value
NONE = "(none)"  # stands for a setting that is not there


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
    """Return lines "key: old -> new" for keys of flat settings; "group: option -> option" where that says it all."""
    lines = []
    for section in dict.fromkeys(section_of(key) for key in keys):
        before, after = option_of(section, old), option_of(section, new)
        if before and after and before != after:
            lines.append(f"{section.replace('_', '-')}: {before} -> {after}")
        else:
            pairs = [(key, old.get(key, NONE), new.get(key, NONE)) for key in keys if section_of(key) == section]
            lines += [f"{key}: {a} -> {b}" for pair in pairs for key, a, b in changes(*pair)]
    return lines


def section_of(key: str) -> str:
    """Return the first part of a dotted key."""
    return key.partition(".")[0]


def option_of(section: str, flat: dict[str, Any]) -> str | None:
    """Return the option of Salt's own whose YAML has just these settings; None if there is none."""
    settings = {key: value for key, value in flat.items() if section_of(key) == section}
    for file in sorted((CONFIGS / section.replace("_", "-")).glob("*.yaml")):
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        if flatten({section: content.get(section, content)}) == settings:
            return file.stem
    return None


def changes(key: str, old: Any, new: Any) -> Iterator[tuple[str, str, str]]:
    """Yield key, old and new value; of lists of classes what differs in each, or the classes if these differ."""
    if not (has_classes(old) or has_classes(new)):
        yield key, shown(old), shown(new)
    elif classes(old) != classes(new):
        yield key, shown(classes(old)), shown(classes(new))
    else:
        for i, (a, b) in enumerate(zip(old, new, strict=True)):
            flat = [flatten({f"{key}.{i}": part}) for part in (a, b)]
            for place in {**flat[0], **flat[1]}:
                values = [part.get(place, NONE) for part in flat]
                if values[0] != values[1]:
                    yield from changes(place, *values)


def has_classes(value: Any) -> bool:
    """Return whether a value is a list of settings."""
    return isinstance(value, list) and any(isinstance(part, dict) for part in value)


def classes(value: Any) -> Any:
    """Return the names of the classes in a list of settings; another value as it is."""
    if not has_classes(value):
        return value
    return [part.get("_target_", "?").rpartition(".")[2] if isinstance(part, dict) else part for part in value]


def shown(value: Any) -> str:
    """Return a value as it is typed, cut if it is long."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    text = f"[{', '.join(map(shown, value))}]" if isinstance(value, list) else str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
