"""Recipes follow the chosen options: a setting that the chosen option does not know is left out.

A recipe is a YAML for the whole config, in the group `experiment`, `ablation` or a user's own. Hydra merges it after
the groups' options, and its settings were written for the options that it names. If the command line, a sweep or a
later recipe chooses another option, the recipe's settings that this option's YAML also has stay.

This happens in Hydra's loader, which composes runs, points of a sweep (also in a launcher's processes) and `--cfg`.
"""

import copy
import re
from collections.abc import Iterator
from typing import Any

import hydra._internal.hydra as hydra_internal
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra.core.default_element import GroupDefault, ResultDefault
from hydra.errors import ConfigCompositionException
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from salt.overrides import as_word, flatten, unknown_key


class Loader(ConfigLoaderImpl):
    """Hydra's loader, with recipes that follow the options; the Sweep's settings list what was left out."""

    composition: "Composition | None" = None  # while a config is composed

    def load_configuration(self, *arguments: Any, **named: Any) -> DictConfig:
        """Compose a config; for an unknown key, the ConfigCompositionException names the known ones."""
        try:
            return super().load_configuration(*arguments, **named)
        except ConfigCompositionException as error:
            unknown = re.match(r"Could not override '([^']+)'\.\nTo append", str(error))
            if unknown is None or self.composition is None:
                raise
            message = unknown_key(unknown[1], self.composition.settings, self.composition.chosen)
            raise ConfigCompositionException(message) from error
        finally:
            self.composition = None  # launchers send the loader to other processes

    def get_group_options(self, group_name: str, *arguments: Any, **named: Any) -> list[str]:
        """Return the options of a group without Hydra's copy of its repository, which takes half the time of --help."""
        if set(named) <= {"results_filter"} and len(arguments) < 2:  # overrides may add a folder of options
            return self.repository.get_group_options(group_name, *arguments, **named)
        return super().get_group_options(group_name, *arguments, **named)

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        self.composition = Composition(defaults, repo)
        config = super()._compose_config_from_defaults_list(defaults=defaults, repo=repo)
        if OmegaConf.select(config, "hydra.callbacks.sweep") is not None:
            config.hydra.callbacks.sweep.changes = self.composition.changes
        return config

    def _load_single_config(self, default: ResultDefault, repo: IConfigRepository) -> ConfigResult:
        assert self.composition is not None
        return self.composition.add(default, super()._load_single_config(default=default, repo=repo))


def use_loader() -> None:
    """Let Hydra compose with `Loader`; it has no setting for this."""
    hydra_internal.ConfigLoaderImpl = Loader  # type: ignore[attr-defined]


class Composition:
    """The files of one config: `settings` so far, the option `chosen` of each group, `changes` of recipes."""

    def __init__(self, files: list[ResultDefault], repo: IConfigRepository):
        self.repo = repo
        self.parents = {str(file.config_path): file.parent for file in files}
        self.chosen: dict[str, str] = {}
        for path, parent in self.parents.items():
            group, option = split(path)
            if group and group != split(parent)[0]:  # else another option is built on this one
                self.chosen[group] = option
        self.settings: dict[str, Any] = {}
        self.changes: list[str] = []

    def add(self, file: ResultDefault, loaded: ConfigResult) -> ConfigResult:
        """Add a file; return the part of it to merge into the config."""
        content: Any = OmegaConf.to_container(loaded.config, resolve=False)
        if not file.package and section_of_group(split(file.config_path)[0]) not in content:
            unfit = [key for group in self.chosen for key in self.unfit(str(file.config_path), group, content)]
            if unfit:
                loaded = without(loaded, unfit)
                content = OmegaConf.to_container(loaded.config, resolve=False)
        merge(self.settings, content)
        return loaded

    def unfit(self, recipe: str, group: str, content: dict[str, Any]) -> list[str]:
        """Return the keys that a recipe sets for another option of a group, and that the chosen one does not know."""
        name, option = section_of_group(group), self.chosen[group]
        settings = content.get(name)
        meant, is_named = self.meant(recipe, group)
        if not isinstance(settings, dict) or meant in (None, option) or name not in self.settings:
            return []  # the last: what comes before the options is common to them
        unfit = dict(unknown_settings(settings, self.settings[name], name))
        left_out = tuple(f"{key}." for key in unfit)
        kept = {key: value for key, value in flatten({name: settings}).items() if not f"{key}.".startswith(left_out)}
        parts = [f"without {', '.join(map(as_typed, unfit, unfit.values()))}"] if unfit else []
        parts += [f"with its {', '.join(map(as_typed, kept, kept.values()))}"] if kept and is_named else []
        if parts:
            self.changes.append(f"{recipe}: {group}={option} instead of {meant}, {'; '.join(parts)}")
        return list(unfit)

    def meant(self, recipe: str, group: str) -> tuple[str | None, bool]:
        """Return the option that a recipe was written for, and whether a recipe names it or it is the default."""
        place: str | None = recipe
        while place is not None and place in self.parents:
            option = self.named(place, group)
            parent = self.parents[place]
            if option is not None:
                return option, parent in self.parents
            place = parent
        return None, False

    def named(self, place: str, group: str) -> str | None:
        """Return the option of a group that a file names, or a file that it is built on."""
        loaded = self.repo.load_config(place)
        for default in (loaded.defaults_list if loaded else None) or []:
            if isinstance(default, GroupDefault) and (default.group or "").strip("/") == group:
                return default.value.removesuffix(".yaml") if isinstance(default.value, str) else None
        below = [path for path, parent in self.parents.items() if parent == place]
        return next((option for path in reversed(below) if (option := self.named(path, group))), None)


def split(path: str | None) -> tuple[str, str]:
    """Return group and option of a file's path; the group is "" outside the groups."""
    group, slash, option = (path or "").partition("/")
    return (group, option) if slash else ("", group)


def section_of_group(group: str) -> str:
    """Return the key of a group's settings."""
    return group.replace("-", "_")


def unknown_settings(settings: dict[str, Any], known: Any, section: str) -> Iterator[tuple[str, Any]]:
    """Yield settings, by dotted key, that are not in `known` or differ in kind, and classes of the replaced option."""
    for key, value in settings.items():
        is_known = isinstance(known, dict) and key in known and isinstance(value, dict) == isinstance(known[key], dict)
        if not is_known or key == "_target_" or names_class(value):
            yield f"{section}.{key}", value
        elif isinstance(value, dict):
            yield from unknown_settings(value, known[key], f"{section}.{key}")


def names_class(value: Any) -> bool:
    """Return whether a value is a class with its settings, or a list of some."""
    if isinstance(value, list):
        return any(names_class(part) for part in value)
    return isinstance(value, dict) and "_target_" in value


def as_typed(key: str, value: Any) -> str:
    """Return a setting as it is typed; only its key if the value is long or depends on others."""
    return key if isinstance(value, dict | list) or "${" in str(value) else as_word(key, value)


def without(loaded: ConfigResult, keys: list[str]) -> ConfigResult:
    """Return a copy of a loaded file without some settings; Hydra keeps the file itself."""
    loaded = copy.copy(loaded)
    loaded.config = copy.deepcopy(loaded.config)
    with read_write(loaded.config), open_dict(loaded.config):
        for key in keys:
            section, _, last = key.rpartition(".")
            del OmegaConf.select(loaded.config, section)[last]
    return loaded


def merge(settings: dict[str, Any], more: dict[str, Any]) -> None:
    """Merge more settings into nested ones, as Hydra does."""
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(settings.get(key), dict):
            merge(settings[key], value)
        else:
            settings[key] = copy.deepcopy(value)
