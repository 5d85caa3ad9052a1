"""How a run was started, and the command that reproduces it from another shell or folder."""

import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from salt.machine.distributed import world_size
from salt.overrides import CONFIGS, as_word, flatten, typed_words
from salt.runs.environment import Start, set_variables, thread_variables
from salt.runs.rundir import PER_CALL

PLACES: dict[str, tuple[str, ...]] = {  # settings that name a file or folder, and values of theirs that do not
    **dict.fromkeys(("data.root", "data.cache", "data.mosaic", "data.unlabelled", "data.pseudo", "init"), ()),
    "data.folds": ("random", "mosaic"),
    "encoder.weights": ("imagenet",),
}
HIDDEN = "..."  # instead of a path, in the command for others
PATH = re.compile(r"""(^|[=:,\[{'"])(/|~)""")  # its start in a word
MAX_RUN_NAME = 200  # characters, for a run that was a point; file systems take 255 bytes


def describe_start(cfg: DictConfig) -> Start:
    """Return how this run was started, with a command that needs neither this shell, its folder nor a sweep."""
    hydra, n = HydraConfig.get(), world_size()
    folder = Path(hydra.runtime.cwd)
    plain: list[Any] = [OmegaConf.to_container(cfg, resolve=resolve) for resolve in (True, False)]
    values, written = map(flatten, plain)
    from_variables = {key: values[key] for key, text in written.items() if "oc.env" in str(text)}
    settled = from_variables | absolute_places(values, folder)
    program = ["torchrun", "--standalone", f"--nproc-per-node={n}", "-m", "salt.train"] if n > 1 else ["salt-train"]
    variables = thread_variables() | set_variables() | python_path(values, folder)
    words = [*program, *config_flags(hydra), *settle(typed_words(hydra), settled | outside_sweep(cfg, hydra))]
    hidden = {name: without_path(value, ()) for name, value in variables.items()}
    return Start(
        launcher="torchrun" if n > 1 else str(hydra.runtime.choices["hydra/launcher"]),
        command=in_shell(variables, words),
        shared=in_shell(hidden, [without_path(word, settled) for word in words]),
        folder=str(folder),
    )


def absolute_places(values: dict[str, Any], folder: Path) -> dict[str, str]:
    """Return the files and folders that the settings name, as absolute paths."""
    named = {key: values.get(key) for key in PLACES}
    return {
        key: os.path.abspath(folder / Path(value).expanduser())
        for key, value in named.items()
        if isinstance(value, str) and value not in PLACES[key]
    }


def outside_sweep(cfg: DictConfig, hydra: HydraConf) -> dict[str, Any]:
    """Return the settings that make a point of a sweep a single run."""
    if hydra.mode != RunMode.MULTIRUN:
        return {}
    alone = {"hydra.mode": "RUN"}  # an ablation's YAML asks for a sweep
    if not hydra.sweep.subdir:  # a run in parts
        return alone
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", f"{cfg.name}_{hydra.sweep.subdir}")
    return alone | {"name": name[:MAX_RUN_NAME].strip("_")}


def settle(words: Sequence[str], settled: Mapping[str, Any]) -> Iterator[str]:
    """Yield the words without per-call settings; `settled` has the values of some keys."""
    left = dict(settled)
    for word in words:
        typed = word.partition("=")[0]
        key = typed.lstrip("+")
        if key in settled:
            if key in left:
                yield as_word(typed, left.pop(key))
        elif key not in PER_CALL or key == "report":
            yield word
    yield from (as_word(key, value) for key, value in left.items())


def config_flags(hydra: HydraConf) -> Iterator[str]:
    """Yield the flags that name folders of YAML files beside Salt's, or another main file."""
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


def python_path(values: dict[str, Any], folder: Path) -> dict[str, str]:
    """Return the variable PYTHONPATH for the user's classes, if the shell set it or the current folder has some."""
    paths = [str(folder / entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    modules = re.findall(r'_target_": "(\w+)', json.dumps(values))
    if any((folder / f"{module}.py").is_file() or (folder / module).is_dir() for module in modules if module != "salt"):
        paths.append(str(folder))
    return {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))} if paths else {}


def without_path(word: str, settled: Sequence[str] | Mapping[str, Any]) -> str:
    """Return a word for others to see: without its value if this is a path, or came from this shell."""
    key, equals, value = word.partition("=")
    if equals and (key.lstrip("+") in settled or PATH.search(value)):
        return f"{key}={HIDDEN}"
    return HIDDEN if PATH.search(word.removeprefix("~")) else word  # Hydra's ~key deletes a setting


def in_shell(variables: Mapping[str, str], words: Sequence[str]) -> str:
    """Return a command for a POSIX shell."""
    return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in variables.items()), shlex.join(words)])
