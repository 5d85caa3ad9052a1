"""A finished run as one zip file to share: its networks, settings, scores and a card, without paths and checkpoints."""

import atexit
import re
import shutil
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import yaml

from salt.overrides import CONFIGS
from salt.runs.card import make_card
from salt.runs.files import BROKEN, read_json, read_yaml, write_atomic
from salt.runs.rundir import RunDir, weight_files

CARD = "README.md"
HIDDEN = "..."  # replaces the paths of the machine that trained the run
RUN_FILES = ("config.yaml", "environment.json", "folds.csv", "oof.csv", "oof.npz", "score.json")
OLDER_LACK = ("data.json",)  # runs of earlier versions do not have it
FOLD_FILES = ("done", "metrics.csv", "timing.json")
NEEDED = ("config.yaml", "environment.json", "score.json")
NAMES = re.compile(
    f"{re.escape(CARD)}|{'|'.join(map(re.escape, RUN_FILES + OLDER_LACK))}"
    rf"|fold_\d{{1,4}}/({'|'.join(map(re.escape, FOLD_FILES))}|(model|snapshot_\d{{1,6}})\.safetensors)"
)
BOMB, LARGE = 100, 10_000_000  # a member of more than LARGE bytes never shrinks to less than one part in BOMB


def write_bundle(run: RunDir, file: Path) -> None:
    """Write the finished folds of a run into one zip file, atomically.

    Raises:
        ValueError: the run is not finished, uses a class that is not Salt's, or one of its files is missing.
    """
    config = run.read_config()
    score = run.read_score(config.data.n_folds)
    settings = without_paths(read_yaml(run.path / "config.yaml"))
    refuse_foreign(settings, run.path / "config.yaml")
    members = [run.path / name for name in RUN_FILES if name != "config.yaml"]
    members += [run.path / name for name in OLDER_LACK if (run.path / name).is_file()]
    for fold in (run.fold_path(row["fold"]) for row in score["folds"]):
        members += [*(fold / name for name in FOLD_FILES), *weight_files(fold)]
    if score["map"] is None:  # no tile was held out
        members = [member for member in members if member.stem != "oof"]
    absent = [member for member in members if not member.is_file()]
    if absent:
        raise ValueError(f"{absent[0]} is missing; the same salt-train command writes it again")
    card = make_card(config, score, read_json(run.path / "environment.json"))

    def write(partial: Path) -> None:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(CARD, card)
            archive.writestr("config.yaml", yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
            for member in members:
                archive.write(member, member.relative_to(run.path).as_posix())

    write_atomic(file, write)


def without_paths(node: Any) -> Any:
    """Return settings in which each absolute path is replaced by `...`: it would name folders of this machine."""
    if isinstance(node, dict):
        return {key: without_paths(value) for key, value in node.items()}
    if isinstance(node, list):
        return [without_paths(value) for value in node]
    return HIDDEN if isinstance(node, str) and (Path(node).is_absolute() or node.startswith("~")) else node


def open_run(path: Path) -> Path:
    """Return the folder of a run: the path itself, or a temporary folder if it is a bundle.

    Raises:
        ValueError: the file is no bundle, is damaged, or holds what a bundle never does.
    """
    if not path.is_file():
        return path
    status = path.stat()
    return unpack(path.resolve(), status.st_size, status.st_mtime_ns)


@cache
def unpack(file: Path, size: int, changed: int) -> Path:
    """Return a folder with the files of a bundle, which is removed when the process ends; `size`, `changed`: its state.

    Raises:
        ValueError: see `open_run`.
    """
    folder = Path(mkdtemp(prefix="salt-bundle-")) / file.stem
    atexit.register(shutil.rmtree, folder.parent, ignore_errors=True)
    try:
        with zipfile.ZipFile(file) as archive:
            for member in checked_members(file, archive):
                archive.extract(member, folder)  # zipfile reads no more than declared, and compares checksums
    except BROKEN as error:
        if isinstance(error, ValueError) and str(error).startswith(f"{file}"):
            raise
        raise ValueError(f"{file} is no complete bundle of salt-export: {error}") from None
    absent = [name for name in NEEDED if not (folder / name).is_file()]
    if absent:
        raise ValueError(f"{file} is no bundle of salt-export: it lacks {absent[0]}")
    refuse_foreign(read_yaml(folder / "config.yaml"), file)
    return folder


def checked_members(file: Path, archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    """Yield the members of an archive, each a plain file that a bundle may hold.

    Raises:
        ValueError: a member has another name, occurs twice, or is far larger than its compressed form allows.
    """
    seen: set[str] = set()
    for member in archive.infolist():
        name = member.orig_filename
        if not NAMES.fullmatch(name):
            raise ValueError(f"{file}: a bundle holds no {name!r}, only safetensors, tables and settings")
        if name in seen:
            raise ValueError(f"{file}: {name} occurs twice")
        if member.file_size > LARGE and member.file_size > BOMB * member.compress_size:
            raise ValueError(f"{file}: {name} claims {member.file_size} bytes in {member.compress_size}, too many")
        seen.add(name)
        yield member


def refuse_foreign(settings: Any, file: Path) -> None:
    """Make sure that settings name no class but those of Salt's own options: building a class runs its code.

    Raises:
        ValueError: one is of another package.
    """
    foreign = sorted(set(targets(settings)) - salt_targets())
    if foreign:
        raise ValueError(
            f"{file} uses {foreign[0]}, which is no option of Salt; a bundle holds no code. Share the run "
            "directory and the file of the class instead"
        )


def targets(node: Any) -> Iterator[str]:
    """Yield the classes that settings name."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield str(node["_target_"])
        for value in node.values():
            yield from targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from targets(value)


@cache
def salt_targets() -> set[str]:
    """Return the classes of all options that come with Salt."""
    return {
        name for file in CONFIGS.rglob("*.yaml") for name in targets(yaml.safe_load(file.read_text(encoding="utf-8")))
    }
