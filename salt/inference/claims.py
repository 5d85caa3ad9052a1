"""A record beside results of what their bytes depend on, so that they are continued in the same way or not at all."""

from pathlib import Path
from typing import Any

from salt.data.windows import OVERLAP
from salt.inference.settings import PredictionSettings
from salt.runs.ensemble import Ensemble
from salt.runs.files import keep_first, read_json, write_json

MADE = "made_with"  # in the record
OPTIONS = (  # of which a record allows one value
    *("nodata", "depth", "overlap", "mirror", "engine"),
    *("lines", "directions", "mean", "spread", "as", "smallest-body", "inline-byte", "crossline-byte"),
)


def facts_of(ensemble: Ensemble, settings: PredictionSettings, given: dict[str, Any]) -> dict[str, Any]:
    """Return what the bytes of the results depend on: weights, threshold and options; `given` are more of these."""
    overlap = OVERLAP if settings.overlap is None else settings.overlap
    mirror = ensemble.first.config.trainer.tta if settings.mirror is None else settings.mirror
    given = {key: value for key, value in given.items() if value is not None}
    return ensemble.origin | given | {"overlap": overlap, "mirror": mirror}


def claim_results(record: Path, facts: dict[str, Any], settings: PredictionSettings) -> PredictionSettings:
    """Check that the results of a record come from these weights and options; return the settings that continue them.

    Raises:
        ValueError: they come from others.
    """
    if not record.exists():
        return settings
    found = read_json(record)
    made = found.pop(MADE, {})
    if settings.engine != "auto":
        facts, found = facts | {"engine": settings.engine}, found | {"engine": made.get("engine", settings.engine)}
    check_facts(record, found, facts)
    return settings.model_copy(update={"engine": made.get("engine", settings.engine)})


def check_facts(record: Path, found: dict[str, Any], facts: dict[str, Any]) -> None:
    """Raise ValueError if what a record holds differs from these facts."""
    if found != facts:
        changed = [key for key in OPTIONS if found.get(key) != facts.get(key)]
        other = f"made with another --{' and --'.join(changed)}" if changed else "of another run"
        if found.get("survey") != facts.get("survey"):
            other = "of another survey of this name"
        raise ValueError(f"{record.parent} holds predictions {other}; choose another --out")


def record_results(record: Path, facts: dict[str, Any], made: dict[str, str]) -> None:
    """Record where results come from, and what computed them; of processes that start together, one does, on any disk.

    Raises:
        ValueError: the record that is there has other facts, another precision or another engine.
    """
    made = {key: made[key] for key in ("precision", "engine")}
    if not record.exists():
        write_json(record, facts | {MADE: made}, keep_first)
    recorded = read_json(record)
    found = recorded.pop(MADE, made)
    check_facts(record, recorded, facts)
    if found != made:
        changed = ", ".join(f"{key} {found[key]}, not {made[key]}" for key in made if found[key] != made[key])
        raise ValueError(f"{record.parent} holds predictions made with {changed}; choose another --out")
