"""The refusals that need no torch, which takes seconds to import."""

import shutil
from pathlib import Path

from salt.config import FOLD_KINDS, RunConfig
from salt.data.source import source_of
from salt.machine import distributed
from salt.runs.files import check_file, check_free
from salt.runs.rundir import RunDir


def check_start(config: RunConfig, path: Path) -> None:
    """Raise ValueError if a file that a setting names is missing, or the run directory is not free for this config."""
    directory, data, encoder = RunDir(path), config.data, config.encoder
    replaced = config.restart and directory.is_begun()
    source_of(data).check()
    if data.folds not in (None, *FOLD_KINDS):
        expected = f"; expected {', '.join(FOLD_KINDS)}, or a file with the columns id,fold"
        check_file("data.folds", Path(data.folds), expected)
    if data.mosaic is not None:
        check_file("data.mosaic", Path(data.mosaic), "; expected a table of salt-data mosaic, or null")
    if not replaced:
        directory.check(config.model_dump(mode="json", by_alias=True))
    if replaced or directory.folds_to_begin(config.fold_list):
        if config.init is not None and not Path(config.init).is_file():  # a bundle is one file
            check_file("init", Path(config.init, "config.yaml"), "; expected a run directory, a bundle, or null")
        elif encoder.name and encoder.weights not in (None, "imagenet"):
            expected = "; expected imagenet, null, or a .safetensors or .pth file"
            check_file("encoder.weights", Path(encoder.weights), expected)
        if data.pseudo is not None:
            check_file("data.pseudo", Path(data.pseudo), "; expected a file of salt-pseudo, or null")
    if replaced:
        check_restart(directory, config)
    directory.check_free(config.fold_list)


def check_restart(directory: RunDir, config: RunConfig) -> None:
    """Raise ValueError if restart may not delete a run: it has finished folds, is at work, or holds what this reads."""
    path = directory.path
    if config.dry_run or distributed.world_size() > 1:
        raise ValueError("restart deletes a run: expected neither dry_run=true nor torchrun with it")
    data, encoder = config.data, config.encoder
    read = {"init": config.init, "encoder.weights": encoder.weights}
    read |= {f"data.{key}": getattr(data, key) for key in ("root", "folds", "mosaic", "unlabelled", "pseudo")}
    for key, given in read.items():
        if given is not None and Path(given).resolve().is_relative_to(path.resolve()):
            raise ValueError(f"{key}={given} lies in {path}, which restart would delete; choose another name=...")
    folds = sorted(path.glob("fold_*"))
    for fold in folds:
        check_free(fold, "fold")
    finished = [fold.name for fold in folds if (fold / "done").exists()]
    if finished and config.restart != "finished":
        raise ValueError(f"{path} has finished folds ({', '.join(finished)}); restart=finished deletes them too")


def delete_run(directory: RunDir, config: RunConfig) -> None:
    """Print what the run directory that `restart` replaces holds, and delete it; raise as `check_restart`."""
    if not config.restart or not directory.is_begun() or distributed.world_size() > 1:  # nothing to delete, or no run
        return
    check_restart(directory, config)  # again: another process may have finished a fold since
    path = directory.path
    for entry in sorted(path.iterdir()):
        size = sum(file.stat().st_size for file in [entry, *entry.rglob("*")] if file.is_file())
        print(f"deleting {entry} ({size / 1e6:.1f} MB)")
    shutil.rmtree(path)
