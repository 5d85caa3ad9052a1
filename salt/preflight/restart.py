"""What `restart` refuses to delete, and deletes."""

import shutil
from pathlib import Path

from salt.config import RunConfig
from salt.machine import distributed
from salt.runs.files import check_free
from salt.runs.rundir import RunDir


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
