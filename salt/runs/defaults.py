"""What the classes of a run's options do where its config.yaml lacks a setting that a later version added."""

import inspect
import pydoc
from typing import Any


def class_defaults(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the defaults of each class that a `_target_` of flattened settings names, by dotted key."""
    defaults = {}
    for key, target in settings.items():
        if key.endswith("._target_") and callable(found := locate(str(target))):
            for name, parameter in inspect.signature(found).parameters.items():
                if parameter.default is not parameter.empty:
                    defaults[f"{key.removesuffix('_target_')}{name}"] = parameter.default
    return defaults


def locate(target: str) -> Any:
    """Return the object of that dotted name, or None if it is not there or cannot be imported."""
    try:
        return pydoc.locate(target)
    except pydoc.ErrorDuringImport:
        return None
