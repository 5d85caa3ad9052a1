"""The options of `salt-train` as the files in configs/ describe them: headers, settings, and measured costs.

Nothing here imports torch, so that the pages are written in about a second.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
COSTS = ROOT / "docs" / "costs.csv"
BASELINE = ("baseline", "")  # the row of the costs that others are relative to
SETTINGS = "settings"  # the group of a row for several settings
KEYS = ("Paper", "Formula", "Expect", "Differs")  # of a header


@dataclass(frozen=True)
class Setting:
    """A key of an option: its place below the group's node, its default, and the comment beside it."""

    key: str
    default: str
    comment: str


@dataclass(frozen=True)
class Option:
    """An option of a group: configs/GROUP/NAME.yaml."""

    group: str
    file: Path

    @property
    def name(self) -> str:
        """The word that chooses the option."""
        return self.file.stem

    def header(self) -> dict[str, str]:
        """Return the texts of the header by key, in one line each, up to an empty line; the first has the key ""."""
        texts: dict[str, str] = {}
        key = ""
        for line in self.file.read_text(encoding="utf-8").splitlines():
            text = line.removeprefix("#").strip()
            if not line.startswith("#") or not text:
                break
            if text.startswith("@package"):
                continue
            word, colon, rest = text.partition(": ")
            if colon and word in KEYS:
                key, text = word, rest
            texts[key] = f"{texts[key]} {text}" if key in texts else text
        return texts

    def settings(self) -> list[Setting]:
        """Return the settings in their order; an option of all groups (`_global_`) has those of its own group."""
        text = self.file.read_text(encoding="utf-8")
        node = yaml.compose(text)
        if "@package _global_" in text:
            node = child(node, node_name(self.group))
        return list(settings_below(node, text)) if isinstance(node, yaml.MappingNode) else []


@dataclass(frozen=True)
class Cost:
    """What an option was measured to cost, as text with the digits that are known."""

    group: str
    option: str
    parameters: str  # millions
    multiply_adds: str  # billions, to predict one tile
    step: str  # time of a training step relative to the baseline's
    seconds: str  # of the step, for 16 tiles
    machine: str


@dataclass(frozen=True)
class Group:
    """A group of options: its name, the default, the options, and settings that train.yaml has for all of them."""

    name: str
    default: str
    comment: str
    options: list[Option]
    common: list[Setting]

    def settings(self) -> Iterator[tuple[Option, Setting]]:
        """Yield the settings of each option: its own, then those of train.yaml that it leaves as they are."""
        for option in self.options:
            own = option.settings()
            yield from ((option, setting) for setting in own)
            keys = {setting.key for setting in own}
            yield from ((option, setting) for setting in self.common if setting.key not in keys)

    @property
    def has_papers(self) -> bool:
        """Whether the options are mechanisms of the network or its training, which name their papers."""
        return any("Paper" in option.header() for option in self.options)


def read_groups(configs: Path) -> list[Group]:
    """Return the groups in the order of train.yaml."""
    text = (configs / "train.yaml").read_text(encoding="utf-8")
    root = yaml.compose(text)
    groups = []
    for name, default, comment in re.findall(r"^  - ([\w-]+): (\w+)(?: +# (.*))?$", text, re.MULTILINE):
        files = sorted((configs / name).glob("*.yaml"), key=lambda file: (file.stem != default, file.stem))
        node = child(root, node_name(name))
        common = list(settings_below(node, text)) if isinstance(node, yaml.MappingNode) else []
        groups.append(Group(name, default, comment, [Option(name, file) for file in files], common))
    return groups


def run_settings(configs: Path) -> list[Setting]:
    """Return the settings of train.yaml that belong to no group, such as `seed`."""
    text = (configs / "train.yaml").read_text(encoding="utf-8")
    others = {"defaults", "hydra", *(node_name(group.name) for group in read_groups(configs))}
    return [one for one in settings_below(yaml.compose(text), text) if one.key.split(".")[0] not in others]


def node_name(group: str) -> str:
    """Return the name of a group's node in the config, which has no hyphens."""
    return group.replace("-", "_")


def child(node: yaml.Node, name: str) -> yaml.Node | None:
    """Return the value of a key in a mapping, or None."""
    return next((value for key, value in node.value if key.value == name), None)


def settings_below(node: yaml.MappingNode, text: str, place: str = "") -> Iterator[Setting]:
    """Yield the settings of a mapping and of the mappings in it, without `_target_`."""
    for key, value in node.value:
        if key.value == "_target_":
            continue
        items = value.value if isinstance(value, yaml.SequenceNode) else [value]
        mappings = [item for item in items if isinstance(item, yaml.MappingNode)]
        in_block = isinstance(value, yaml.CollectionNode) and not value.flow_style
        end = key.end_mark if in_block else value.end_mark
        comment = text[end.index :].partition("\n")[0].partition("#")[2].strip()
        classes = [str(target.value).rpartition(".")[2] for item in mappings if (target := child(item, "_target_"))]
        plain = " ".join(text[value.start_mark.index : value.end_mark.index].split())
        default = (", ".join(classes) or "below") if mappings else plain
        yield Setting(f"{place}{key.value}", default, comment)
        for number, item in enumerate(mappings):
            index = f".{number}" if isinstance(value, yaml.SequenceNode) else ""
            yield from settings_below(item, text, f"{place}{key.value}{index}.")


def read_costs(file: Path = COSTS) -> dict[tuple[str, str], Cost]:
    """Return the measured costs by group and option."""
    with file.open(encoding="utf-8", newline="") as rows:
        return {(row["group"], row["option"]): Cost(**row) for row in csv.DictReader(rows)}


def write_costs(costs: dict[tuple[str, str], Cost], file: Path = COSTS) -> None:
    """Write the measured costs, sorted by group and option."""
    with file.open("w", encoding="utf-8", newline="") as out:
        table = csv.writer(out, lineterminator="\n")
        table.writerow([field.name for field in fields(Cost)])
        table.writerows(astuple(costs[key]) for key in sorted(costs))
