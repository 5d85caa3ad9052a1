"""How a run was started, and the command that makes it again from another shell, folder or environment."""

import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from salt.machine.distributed import world_size
from salt.overrides import CONFIGS, as_word, typed_words
from salt.paths import search_current_folder
from salt.runs.environment import Start, set_variables, thread_variables
from salt.runs.options import flatten

ONCE = ("folds", "dry_run", "accept")  # settings of one call, which a run's later calls need not have
PLACES: dict[str, tuple[str, ...]] = {  # settings that name a file or folder, and their values that do not
    **dict.fromkeys(("data.root", "data.cache", "data.mosaic", "data.unlabelled", "data.pseudo", "init"), ()),
    "data.folds": ("random", "mosaic"),
    "encoder.weights": ("imagenet",),
}
HIDDEN = "..."  # instead of a path, in the command for others
PATH = re.compile(r"""(^|[=:,\[{'"])(/|~)""")  # where one begins in a word
LONGEST_NAME = 200  # of a run that was a point; the file system takes 255 bytes


def describe_start(cfg: DictConfig) -> Start:
    """Return how the run under way was started, with a command that needs nothing of this shell or sweep.

    To the words as typed it adds what they took from elsewhere: absolute paths, values of variables, the number of
    threads and processes, the folders of own classes. A point of a sweep becomes a run beside the sweep's folder.
    """
    hydra, n = HydraConfig.get(), world_size()
    folder = Path(hydra.runtime.cwd)
    settled = from_variables(cfg) | absolute_places(cfg, folder)
    program = ["torchrun", "--standalone", f"--nproc-per-node={n}", "-m", "salt.train"] if n > 1 else ["salt-train"]
    variables = thread_variables() | set_variables() | python_path(cfg, folder)
    words = [*program, *config_flags(hydra), *settle(typed_words(hydra), settled | outside_sweep(cfg, hydra))]
    return Start(
        launcher="torchrun" if n > 1 else str(hydra.runtime.choices["hydra/launcher"]),
        command=in_shell(variables, words),
        shared=in_shell(
            {name: without_path(value, ()) for name, value in variables.items()},
            [without_path(word, settled) for word in words],
        ),
        folder=str(folder),
    )


def absolute_places(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """The files and folders that the settings name, for any current folder."""
    found = flatten(plain(cfg))
    named = {key: found.get(key) for key in PLACES}
    return {
        key: os.path.abspath(folder / Path(value).expanduser())
        for key, value in named.items()
        if isinstance(value, str) and value not in PLACES[key]
    }


def from_variables(cfg: DictConfig) -> dict[str, Any]:
    """The settings that name an environment variable, with what it gave them."""
    values = flatten(plain(cfg))
    written = flatten(plain(cfg, resolve=False))
    return {key: values[key] for key, text in written.items() if "oc.env" in str(text)}


def plain(cfg: DictConfig, resolve: bool = True) -> dict[str, Any]:
    """The settings as plain objects; with `resolve=False` as they are written in the YAML files."""
    settings: Any = OmegaConf.to_container(cfg, resolve=resolve)
    return settings


def outside_sweep(cfg: DictConfig, hydra: HydraConf) -> dict[str, Any]:
    """The settings that make a point of a sweep a run of its own; none for a run alone."""
    if hydra.mode != RunMode.MULTIRUN:
        return {}
    alone = {"hydra.mode": "RUN"}  # an ablation's YAML asks for a sweep
    if not hydra.sweep.subdir:  # a run in parts
        return alone
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", f"{cfg.name}_{hydra.sweep.subdir}")
    return alone | {"name": name[:LONGEST_NAME].strip("_")}


def settle(words: Sequence[str], settled: Mapping[str, Any]) -> Iterator[str]:
    """Yield the words without those of one call; settled keys have the value that they are settled to."""
    left = dict(settled)
    for word in words:
        typed = word.partition("=")[0]
        key = typed.lstrip("+")
        if key in settled:
            if key in left:
                yield as_word(typed, left.pop(key))
        elif key not in ONCE:
            yield word
    yield from (as_word(key, value) for key, value in left.items())


def config_flags(hydra: HydraConf) -> Iterator[str]:
    """Yield the flags that name other folders of YAML files than Salt's, or another main file."""
    sources = hydra.runtime.config_sources
    for source in sources:
        if source.provider == "command-line":
            yield from ("--config-dir", source.path)
        elif source.provider == "main" and source.path != str(CONFIGS):
            yield from ("--config-path", source.path)
    if hydra.job.config_name != "train":
        yield from ("--config-name", str(hydra.job.config_name))
    searched = [source for source in sources if "hydra.searchpath" in source.provider]
    places = [f"{s.schema}://{os.path.abspath(s.path) if s.schema == 'file' else s.path}" for s in searched]
    if places:
        yield as_word("hydra.searchpath", places)


def python_path(cfg: DictConfig, folder: Path) -> dict[str, str]:
    """The variable PYTHONPATH, with the current folder if own classes lie there; nothing if none is needed."""
    typed = [str(folder / entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    search_current_folder()
    modules = set(re.findall(r'"_target_": "(\w+)', json.dumps(plain(cfg)))) - {"salt"}
    own = [str(folder)] if any(folder in import_roots(module) for module in modules) else []
    paths = dict.fromkeys([*typed, *own])
    return {"PYTHONPATH": os.pathsep.join(paths)} if paths else {}


def import_roots(module: str) -> list[Path]:
    """The folders from which Python imports a module."""
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    file = [spec.origin] if spec.has_location and spec.origin else []  # some modules are built in
    places = spec.submodule_search_locations or file
    return [Path(place).absolute().parent for place in places]


def without_path(word: str, settled: Sequence[str] | Mapping[str, Any]) -> str:
    """A word of the command as others may see it: without the value if that is a path, or came from this shell."""
    key, equals, value = word.partition("=")
    if equals and (key.lstrip("+") in settled or PATH.search(value)):
        return f"{key}={HIDDEN}"
    return HIDDEN if PATH.search(word.removeprefix("~")) else word  # Hydra's ~key deletes a setting


def in_shell(variables: Mapping[str, str], words: Sequence[str]) -> str:
    """A command as a POSIX shell takes it."""
    return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in variables.items()), shlex.join(words)])
