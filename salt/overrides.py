"""Settings as typed, checked before Hydra composes them; Hydra's refusals and changed settings in words."""

import itertools
import json
import os
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, Quote, QuotedString, RangeSweep
from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from salt.words import did_you_mean

PACKAGED = Path(__file__).parent / "configs"  # in the wheel; in a checkout configs/ lies beside salt/
CONFIGS = PACKAGED if PACKAGED.is_dir() else Path(__file__).parents[1] / "configs"
EXTRAS = {"joblib": "joblib", "submitit_slurm": "slurm", "submitit_local": "slurm"}  # of Salt, with Hydra's launchers
REFUSED = (ValueError, HydraException, OmegaConfBaseException, YAMLError)  # what a user can cause in the settings
LONGEST = 80  # characters of a value
NONE = "(none)"  # of a setting that is missing


def parse(words: Iterable[str]) -> list[Override]:
    """Return typed settings (key=value) as Hydra reads them."""
    return OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(list(words))


def point_names(words: Iterable[str]) -> list[str]:
    """Return the names of a sweep's points, the first setting slowest; none if a setting has no values of its own."""
    values = []
    try:
        for override in OverridesParser.create().parse_overrides([str(word) for word in words]):
            if override.is_sweep_override() and override.key_or_group != "folds":  # folds share a run directory
                if isinstance(sweep := override.value(), ChoiceSweep | RangeSweep):
                    sweep.shuffle = False  # in the order as typed
                values.append([f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()])
    except HydraException:
        return []
    return [",".join(sorted(point)) for point in itertools.product(*values)] if values else []


def typed_words(settings: Any) -> list[str]:
    """Return the typed settings from Hydra's own config, without resolving their ${...}."""
    words: Any = OmegaConf.to_container(settings.overrides.task, resolve=False)
    return words


def in_quotes(value: str) -> str:
    """Quote a value, so that Hydra's grammar takes it as text."""
    return QuotedString(value, Quote.double).with_quotes()


def as_word(key: str, value: Any) -> str:
    """Return the word that sets a key to this value in Hydra's grammar, with quotes if text needs them."""
    if not isinstance(value, str):
        return f"{key}={json.dumps(value, ensure_ascii=False)}"
    word = f"{key}={value}"
    with suppress(HydraException):
        if "$" not in value and OverridesParser.create().parse_override(word).value() == value:
            return word
    literal = value.replace("${", r"\${")
    return f"{key}={in_quotes(literal)}"


def check_quotes(words: list[str]) -> None:
    """Raise ValueError if a word is no setting, or its value needs quotes, which the message shows."""
    parser = OverridesParser.create()
    for word in words:
        if "=" not in word and not word.startswith("~"):
            raise ValueError(f"{word}: expected a setting, {word}=VALUE; --help lists the options")
        try:
            parser.parse_overrides([word])
        except HydraException as error:
            key, _, value = word.partition("=")
            quoted = f"{key}={in_quotes(value)}"
            if value[:1] in ("[", "{", ""):  # no text: Hydra itself explains what is wrong
                continue
            with suppress(HydraException):  # the same, if the key is wrong
                parser.parse_overrides([quoted])
                raise ValueError(
                    f"{error}\nText with = ~ ( ) or letters beyond a-z needs quotes for Hydra, and quotes around them "
                    f"for the shell (in a sweep around each value):\n  {shlex.quote(quoted)}"
                ) from None


def check_overrides(overrides: list[Override]) -> None:
    """Raise ValueError if Hydra would drop a part: a list for a group, or a fixed setting that a sweep varies."""
    groups = GlobalHydra.instance().config_loader().list_groups("")
    varied: dict[str, Override] = {}
    for override in overrides:
        key, line = override.key_or_group, override.input_line
        value = override.value()
        for choice in value.list if isinstance(value, ChoiceSweep) else [value]:
            if key in groups and isinstance(choice, list):
                raise ValueError(
                    f"{line}: {key} takes one option. One after the other, in a sweep: salt-train -m "
                    f"{key}={','.join(map(str, choice))}. Together in one run: write your own YAML, as "
                    "configs/loss/bce_lovasz.yaml does for two losses."
                )
        if override.is_sweep_override():
            varied[key] = override
        elif key in varied:
            sweep = f"one point of a sweep that varies {varied[key].input_line}"
            raise ValueError(f"{line} would leave {sweep}; leave one of them out")


@contextmanager
def hydra_raises() -> Iterator[None]:
    """Within this context, Hydra raises its errors instead of printing them with advice about a stack trace."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


def explain(error: Exception) -> str:
    """Return what Hydra, OmegaConf or YAML refuses, without the places where Hydra searched."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, option = error.missing_cfg_file.removesuffix(".yaml").rpartition("/")
        if group == "hydra/launcher" and option in EXTRAS:
            return f"{group}={option} is not installed: pip install 'salt-segmentation[{EXTRAS[option]}]'"
        near = did_you_mean(option, error.options)
        return f"{group}={option}: unknown option{near}\nThe options: {', '.join(error.options)}"
    if isinstance(error, MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"{mark.name}, line {mark.line + 1} is no YAML: {error.problem}"
    text = str(error)
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return f"{error.full_key}: {text.splitlines()[0]}"
    if isinstance(error, HydraException) and isinstance(error.__cause__, OmegaConfBaseException):
        return f"{text}: {error.__cause__}".removeprefix(": ").splitlines()[0]
    return text


def unknown_key(key: str, settings: dict[str, Any], chosen: dict[str, str]) -> str:
    """Return the message for a key that is not in `settings`; `chosen` has the option of each group."""
    *sections, last = key.split(".")
    group = sections[0].replace("_", "-") if sections else ""
    place, node = ".".join(sections), find_node(settings, sections)
    option = f"{group}={chosen[group]}" if group in chosen else place
    if sections and node is None:
        return f"{key}: unknown key; {option} has no settings {place}"
    if sections and isinstance(node, dict):
        names = [str(name) for name in node if name != "_target_"]
        known = f"; {option if len(sections) == 1 else place} has {', '.join(names) or 'no settings'}"
        return f"{key}: unknown key{did_you_mean(last, names, f'{place}.') or known}"
    keys = [known for known in all_keys(settings) if not known.startswith("hydra.")]
    same_end = [known for known in keys if known.rpartition(".")[2] == last]  # epochs for trainer.epochs
    return f"{key}: unknown key{f'; did you mean {same_end[0]}?' if same_end else did_you_mean(key, keys)}"


def find_node(settings: Any, path: list[str]) -> Any:
    """Return the settings at a path of keys and list positions; None if they are null, False if there are none."""
    for part in path:
        if isinstance(settings, list) and part.isdigit() and int(part) < len(settings):
            settings = settings[int(part)]
        elif isinstance(settings, dict) and part in settings:
            settings = settings[part]
        else:
            return False
    return settings


def default_settings() -> dict[str, Any]:
    """Return the settings of `salt-train` without any words; also within a run, whose own Hydra stays."""
    own = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            settings: Any = OmegaConf.to_container(compose("train"), resolve=True)
    finally:
        GlobalHydra.instance().hydra = own
    return settings


def all_keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of nested settings, with those of the sections."""
    for key, value in node.items() if isinstance(node, dict) else ():
        yield f"{prefix}{key}"
        yield from all_keys(value, f"{prefix}{key}.")


def missing_values(keys: set[str], choices: dict[str, Any]) -> str:
    """Return the message for keys without a value, which an option (such as encoder=any) leaves to the user."""
    groups = {key: key.partition(".")[0].replace("_", "-") for key in sorted(keys)}
    return "\n".join(
        f"{group}={choices[group]} needs {key}=..." if group in choices else f"{key} has no value, set {key}=..."
        for key, group in groups.items()
    )


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
