"""Build a part of a run from its node of the config; its class may be a user's own. This needs no torch."""

import inspect
import logging
import sys
from typing import Any, get_args, get_type_hints

from hydra.errors import HydraException
from hydra.utils import get_object, instantiate
from pydantic import ConfigDict, TypeAdapter, ValidationError

from salt.paths import search_current_folder
from salt.words import did_you_mean

logging.getLogger("hydra.utils").setLevel(logging.CRITICAL + 1)  # get_object logs the error that it raises


def build_part(group: str, node: dict[str, Any], **runtime: Any) -> Any:
    """Build the object of a node, with arguments known at run time; raise ValueError with group, class and cause."""
    check_settings(group, node)
    try:
        return instantiate(node, **runtime, _convert_="all")
    except (HydraException, ValueError, TypeError) as error:
        cause: BaseException = error
        while isinstance(cause, HydraException) and cause.__cause__ is not None:
            cause = cause.__cause__
        text = f"{group}: cannot build {node['_target_']}: {type(cause).__name__}: {cause}"
        if isinstance(cause, TypeError):  # Python names the unknown or missing argument; name the others too
            known = inspect.signature(get_target(group, node["_target_"])).parameters.values()
            names = [k.name for k in known if k.name not in runtime and k.kind not in (k.VAR_POSITIONAL, k.VAR_KEYWORD)]
            text += f"; its settings: {', '.join(names) or 'none'}"
        raise ValueError(text) from error


def check_settings(group: str, node: dict[str, Any], path: str = "") -> None:
    """Check a node, and the nodes in it, against the types that its class declares: Python takes `no` for true."""
    target = get_target(group, node["_target_"])
    settings = {k: v for k, v in node.items() if not k.startswith("_")}
    if node["_target_"] == "torch.nn.Identity" and settings:
        raise ValueError(f"{group}: the choice without effect has no settings, found {', '.join(settings)}")
    try:
        hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError):  # annotations of a foreign class that cannot be resolved
        hints = {}
    for key, value in settings.items():
        parts = {f"{key}.{i}": part for i, part in enumerate(value)} if isinstance(value, list) else {key: value}
        for place, part in parts.items():
            if isinstance(part, dict) and "_target_" in part:
                check_settings(group, part, f"{path}{place}.")
        if is_plain(hints.get(key)):
            try:
                TypeAdapter(hints[key], config=ConfigDict(strict=True)).validate_python(value)
            except ValidationError as error:
                text = error.errors()[0]["msg"]
                expected = text.removeprefix("Input should be ")
                raise ValueError(f"{group}: {path}{key}={value!r}, expected {expected}") from None


def is_plain(hint: Any) -> bool:
    """Return whether a type is one of numbers and words, alone, optional or in a sequence."""
    parts = get_args(hint)
    return hint in (bool, int, float, str, type(None)) or (bool(parts) and all(is_plain(part) for part in parts))


def get_target(group: str, target: str) -> Any:
    """Return the class or function of this name, maybe from the current folder; raise ValueError if there is none."""
    search_current_folder()
    try:
        return get_object(target)
    except (ImportError, ValueError, HydraException) as error:
        raise ValueError(f"{group}: there is no {target}: {why_missing(target, error)}") from error


def why_missing(target: str, error: Exception) -> str:
    """Return in one line why a class cannot be imported, and what to do if its module is not found."""
    module, _, name = target.rpartition(".")
    first, cause = target.partition(".")[0], error.__cause__
    if isinstance(cause, ModuleNotFoundError) and cause.name == first:
        return (
            f"no module {first} in the current folder or those of PYTHONPATH. Run the command in the folder of "
            f"{first}.py, or set PYTHONPATH to that folder"
        )
    absent = isinstance(cause, AttributeError) or (isinstance(cause, ModuleNotFoundError) and cause.name == target)
    if absent and module in sys.modules:
        return f"{module} has no {name}{did_you_mean(name, vars(sys.modules[module]), f'{module}.')}"
    return str(error).splitlines()[0] if cause is None else f"{type(cause).__name__}: {cause}"
