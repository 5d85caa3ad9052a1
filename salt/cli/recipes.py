"""A recipe's settings follow the options that are chosen: what another option does not know is left out.

A recipe is a YAML for the whole config, such as those of the groups `experiment` and `ablation`, or a user's own. Its
settings come after the groups' options, and were written for the options that the recipe names. Where another option is
chosen, by the command line, by a sweep or by a later recipe, the settings that its own YAML has stay.

Hydra composes in one place, the loader, for a run, for each point of a sweep (also in a launcher's processes) and for
`--cfg`. So this is done there: what is shown is what runs.
"""

import copy
from collections.abc import Iterator
from typing import Any

import hydra._internal.hydra as hydra_internal
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra.core.default_element import GroupDefault, ResultDefault
from hydra.errors import ConfigCompositionException
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from salt.overrides import refused_key, unknown_key


class Loader(ConfigLoaderImpl):
    """Hydra's loader, with recipes that follow the options; what was left out is listed in the Sweep's settings."""

    composition: "Composition | None" = None  # under way

    def load_configuration(self, *arguments: Any, **named: Any) -> DictConfig:
        """Compose a config.

        Raises:
            ConfigCompositionException: Hydra refuses it; an unknown key is named with those that there are.
        """
        try:
            return super().load_configuration(*arguments, **named)
        except ConfigCompositionException as error:
            key = refused_key(error)
            if key is None or self.composition is None:
                raise
            message = unknown_key(key, self.composition.settings, self.composition.chosen)
            raise ConfigCompositionException(message) from error
        finally:
            self.composition = None  # launchers send the loader to other processes

    def get_group_options(self, group_name: str, *arguments: Any, **named: Any) -> list[str]:
        """Return the options of a group. Hydra copies its repository for each call, which took --help half its time."""
        if set(named) <= {"results_filter"} and len(arguments) < 2:  # no overrides, which may add a folder of options
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
    """Let Hydra compose with `Loader`, for which it has no setting."""
    hydra_internal.ConfigLoaderImpl = Loader  # type: ignore[attr-defined]


class Composition:
    """The files of one config, which are added in their order.

    `settings` are those so far, `chosen` has the option of each group, `changes` says what recipes lost and kept.
    """

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
        """Add a file; returns what of it is to be merged into the config."""
        content: Any = OmegaConf.to_container(loaded.config, resolve=False)
        own = section(split(file.config_path)[0])
        if not file.package and own not in content:
            unfit = [key for group in self.chosen for key in self.unfit(str(file.config_path), group, content)]
            if unfit:
                loaded = without(loaded, unfit)
                content = OmegaConf.to_container(loaded.config, resolve=False)
        merge(self.settings, content)
        return loaded

    def unfit(self, recipe: str, group: str, content: dict[str, Any]) -> list[list[str]]:
        """The keys that a recipe sets for another option of a group, and that the chosen one does not know."""
        name, option = section(group), self.chosen[group]
        settings = content.get(name)
        meant, is_named = self.meant(recipe, group)
        if not isinstance(settings, dict) or meant in (None, option) or name not in self.settings:
            return []  # the last: what comes before the options is common to them
        unfit = list(unknown_keys(settings, self.settings.get(name), [name]))
        dropped = [shown(key, content) for key in unfit]
        kept = [shown(key, content) for key in leaves(settings, [name]) if not any(starts(key, k) for k in unfit)]
        parts = [f"without {', '.join(dropped)}"] if dropped else []
        parts += [f"with its {', '.join(kept)}"] if kept and is_named else []
        if parts:
            self.changes.append(f"{recipe}: {group}={option} instead of {meant}, {'; '.join(parts)}")
        return unfit

    def meant(self, recipe: str, group: str) -> tuple[str | None, bool]:
        """The option that a recipe's settings were written for, and whether a recipe named it or it is the default."""
        place: str | None = recipe
        while place is not None and place in self.parents:
            option = self.named(place, group)
            parent = self.parents[place]
            if option is not None:
                return option, parent in self.parents
            place = parent
        return None, False

    def named(self, place: str, group: str) -> str | None:
        """The option of a group that a file names, or else one of the files that it is built on."""
        loaded = self.repo.load_config(place)
        for default in (loaded.defaults_list if loaded else None) or []:
            if isinstance(default, GroupDefault) and (default.group or "").strip("/") == group:
                return default.value.removesuffix(".yaml") if isinstance(default.value, str) else None
        below = [path for path, parent in self.parents.items() if parent == place]
        return next((option for path in reversed(below) if (option := self.named(path, group))), None)


def split(path: str | None) -> tuple[str, str]:
    """Group and option of a file's path; a file outside the groups has the group ""."""
    group, slash, option = (path or "").partition("/")
    return (group, option) if slash else ("", group)


def section(group: str) -> str:
    """The key of a group's settings."""
    return group.replace("-", "_")


def unknown_keys(settings: dict[str, Any], known: Any, path: list[str]) -> Iterator[list[str]]:
    """The paths of settings that are not in `known`, or are of another kind there; also those that name a class.

    A class belongs to the option that was replaced: its settings would not fit, and it would hide the chosen one.
    """
    for key, value in settings.items():
        is_known = isinstance(known, dict) and key in known and isinstance(value, dict) == isinstance(known[key], dict)
        if not is_known or key == "_target_" or names_class(value):
            yield [*path, key]
        elif isinstance(value, dict):
            yield from unknown_keys(value, known[key], [*path, key])


def names_class(value: Any) -> bool:
    """Whether a value is a class with its settings, or a list of some."""
    if isinstance(value, list):
        return any(names_class(part) for part in value)
    return isinstance(value, dict) and "_target_" in value


def leaves(settings: dict[str, Any], path: list[str]) -> Iterator[list[str]]:
    """The paths of the settings that are no sections."""
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, [*path, key])
        else:
            yield [*path, key]


def starts(path: list[str], beginning: list[str]) -> bool:
    """Whether a path is the other one, or lies below it."""
    return path[: len(beginning)] == beginning


def shown(path: list[str], content: Any) -> str:
    """A setting as it is typed; only its key, if the value is long or depends on others."""
    value = content
    for key in path:
        value = value[key]
    key = ".".join(map(str, path))
    if isinstance(value, dict | list) or "${" in str(value):
        return key
    return f"{key}={'null' if value is None else str(value).lower() if isinstance(value, bool) else value}"


def without(loaded: ConfigResult, paths: list[list[str]]) -> ConfigResult:
    """A file without some of its settings; Hydra keeps the files that it has loaded, so this is a copy."""
    loaded = copy.copy(loaded)
    loaded.config = copy.deepcopy(loaded.config)
    with read_write(loaded.config), open_dict(loaded.config):
        for path in paths:
            node: Any = loaded.config
            for key in path[:-1]:
                node = node[key]
            del node[path[-1]]
    return loaded


def merge(settings: dict[str, Any], more: dict[str, Any]) -> None:
    """Merge more settings into nested ones, as Hydra does."""
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(settings.get(key), dict):
            merge(settings[key], value)
        else:
            settings[key] = copy.deepcopy(value)
