"""docs/settings.md: every key that `salt-train --cfg job` shows, with its default and meaning.

Keys that Salt knows by name are explained by their description in salt/config.py, which also gives their range. The
keys of a loss, a gate and other components are explained by the comment beside them in the option's YAML file.
"""

import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from option_files import Group, Setting, node_name, read_groups, run_settings
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from salt.config import RunConfig

INTRODUCTION = """# Settings

Every setting of a run, as `salt-train --cfg job` shows them. `make docs` writes this page.

- Choose an option of a group: `loss=focal`. Change a setting: `loss.gamma=3 trainer.epochs=20`.
- If options have different defaults, each is followed by its options in parentheses. `???`: you must give a value.
- `_target_`, which most options have, is the class or function to build. The keys that are not explained elsewhere are
  its parameters. A class of your own: [extending.md](extending.md).
- A number in a key is the place in a list, counted from 0: `augment.transforms.1.scale`.
- What each option is, with paper and cost: [mechanisms.md](mechanisms.md).
"""
NUMBERS = {int: "integer", float: "number"}
SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def settings_page(configs: Path) -> str:
    """Return the page."""
    parts = [INTRODUCTION, "\n## The run\n\n", table("", [("", setting) for setting in run_settings(configs)], 1)]
    for group in read_groups(configs):
        parts.append(f"\n## {group.name}\n\n{describe(group)}\n")
        if rows := [(option.name, setting) for option, setting in group.settings()]:
            parts.append("\n" + table(node_name(group.name), rows, len(group.options)))
    return "".join(parts)


def describe(group: Group) -> str:
    """Return what the group chooses, and its options; with the sentence of each that no other page lists."""
    about = f"{chooses(group)}."
    if len(group.options) == 1:
        return about
    if group.has_papers:
        names = ", ".join(f"`{option.name}`{' (default)' * (option.name == group.default)}" for option in group.options)
        return f"{about} Options ([mechanisms.md](mechanisms.md#{group.name})): {names}."
    return about + "\n\n" + "\n".join(f"- `{option.name}`: {option.header()['']}" for option in group.options)


def chooses(group: Group) -> str:
    """Return what the group chooses."""
    field = RunConfig.model_fields.get(node_name(group.name))
    text = field.description if field else group.comment
    text = text or ""
    return f"{text[:1].upper()}{text[1:]}"


def table(node: str, rows: list[tuple[str, Setting]], n_options: int) -> str:
    """Return one row for each key and meaning, with the default of each option."""
    defaults: dict[tuple[str, str], dict[str, list[str]]] = {}
    for option, setting in rows:
        row = defaults.setdefault((setting.key, meaning(node, setting)), {})
        row.setdefault(setting.default, []).append(option)
    lines = ["| setting | default | meaning |", "| --- | --- | --- |"]
    prefix = f"{node}." if node else ""
    for (key, text), row in defaults.items():
        lines.append(f"| `{prefix}{key}` | {default_cell(row, n_options)} | {text} |")
    return "\n".join(lines) + "\n"


def default_cell(row: dict[str, list[str]], n_options: int) -> str:
    """Return the defaults with their options; the most frequent one alone if every option has the setting."""
    usual = max(row, key=lambda value: len(row[value]))
    in_all = sum(map(len, row.values())) == n_options and (len(row) == 1 or len(row[usual]) > 2)
    cells = [f"`{usual}`"] if in_all else []
    for value, names in row.items():
        if value != usual or not in_all:
            cells.append(f"`{value}`" + ("" if names == [value] else f" ({', '.join(names)})"))
    return ", ".join(cells)


def meaning(node: str, setting: Setting) -> str:
    """Return what a setting means, with its unit and range; empty if nobody says it."""
    field = field_of([node, *setting.key.split(".")] if node else setting.key.split("."))
    if field is not None and field.description:
        values = values_of(field)
        return f"{field.description}{f' ({values})' if values else ''}".replace("|", "\\|")
    return setting.comment.replace("|", "\\|")


def unexplained(configs: Path) -> list[str]:
    """Return the keys that no description or comment explains."""
    missing = [setting.key for setting in run_settings(configs) if not meaning("", setting)]
    for group in read_groups(configs):
        node = node_name(group.name)
        for option, setting in group.settings():
            if not meaning(node, setting):
                missing.append(f"{node}.{setting.key} ({option.group}/{option.file.name})")
    return missing


def field_of(keys: list[str]) -> FieldInfo | None:
    """Return the field of salt/config.py that a key names, if it is one."""
    model: Any = RunConfig
    field = None
    for key in keys:
        field = getattr(model, "model_fields", {}).get(key)
        if field is None:
            return None
        classes = [kind for kind in kinds(field.annotation) if get_origin(kind) is None and isinstance(kind, type)]
        model = next((kind for kind in classes if issubclass(kind, BaseModel)), None)
    return field


def kinds(annotation: Any) -> list[Any]:
    """Return the types of a union, without None; of `Annotated`, those within."""
    if get_origin(annotation) is Annotated:
        return kinds(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [kind for part in get_args(annotation) if part is not type(None) for kind in kinds(part)]
    return [annotation]


def values_of(field: FieldInfo) -> str:
    """Return the values that the type of a field allows, such as `integer ≥ 1`; empty if it is any text or list."""
    words = []
    for kind in kinds(field.annotation):
        if get_origin(kind) is Literal and len(get_args(kind)) > 1:
            words.append(", ".join(f"`{choice}`" for choice in get_args(kind)))
        elif kind in NUMBERS:
            limits = [
                f"{sign} {limit:g}"
                for bound in field.metadata
                for name, sign in SIGNS.items()
                if (limit := getattr(bound, name, None)) is not None
            ]
            words.append(f"{NUMBERS[kind]} {' and '.join(limits)}".strip())
    return " or ".join(words)
