"""The weights with which a fold begins if `init` names a run: never those of a network that saw its held-out images."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from salt.config import RunConfig
from salt.data import likeness
from salt.data.folds import read_folds
from salt.job import Job
from salt.runs.bundle import open_run
from salt.runs.rundir import RunDir, weight_files
from salt.words import plural

log = logging.getLogger(__name__)


def first_weights(job: Job, number: int) -> Path | None:
    """Return the weights of the run `init` with which a fold begins, or None if there is no `init`.

    They are of the same fold; if no image is shared and that fold is not finished, of the first one that is.

    Raises:
        ValueError: there are none.
    """
    config = job.config
    if config.init is None:
        return None
    run = run_of(config.init)
    n_folds = run.read_config().data.n_folds
    if is_unrelated(job):
        done = run.done_folds(n_folds)
        if not done:
            raise ValueError(f"init={config.init} has no finished fold to start from")
        return weight_files(run.fold_path(number if number in done else done[0]))[-1]
    if n_folds != config.data.n_folds:
        expected = f"expected {config.data.n_folds}, as this run"
        raise ValueError(f"init={config.init} has {n_folds} folds, {expected}{because(job)}")
    if not run.is_done(number):
        unfinished = f"its fold {number} is not finished"
        raise ValueError(f"init={config.init}: {unfinished}, so fold {number} cannot start from it{because(job)}")
    return weight_files(run.fold_path(number))[-1]


def run_of(init: str) -> RunDir:
    """Return the run that `init` names."""
    return RunDir(open_run(Path(init)))


def shared_images(job: Job) -> set[str] | None:
    """Return the training images that networks of the run `init` may have seen; None if an older run does not say."""
    before = likeness.read(run_of(str(job.config.init)).path)
    return None if before is None else {*before.images, *before.others} & set(job.looks.images)


def is_unrelated(job: Job) -> bool:
    """Return whether no network of the run `init` saw an image of this run: then every fold may begin with each."""
    return shared_images(job) == set()


def because(job: Job) -> str:
    """Return why the folds have to be the same."""
    shared = shared_images(job)
    if shared is None:
        return f"; it does not record its images ({likeness.LOOKS}), so its folds must be those of this run"
    return f"; it shares {plural(len(shared), 'image')} with this run, so its folds must be the same"


def check_same_start(job: Job) -> None:
    """Raise ValueError if folds could begin with networks that saw their held-out images; warn if the data differs."""
    config = job.config
    run = run_of(str(config.init))
    before = likeness.read(run.path)
    for line in [] if before is None else likeness.differences(before, job.looks):
        log.warning("init=%s: this data differs from what it was trained on: %s", config.init, line)
    if is_unrelated(job):
        warn_of_names(job, run)
        return
    wrong = f"init={config.init}: its folds are not those of this run"
    try:
        theirs = read_folds(run.path / "folds.csv", job.data.train.ids, config.data.n_folds)
    except ValueError as error:
        raise ValueError(f"{wrong}: {error}{because(job)}") from None
    if not np.array_equal(theirs, job.folds):
        saw = "so its networks saw tiles that are held out here; use the same data.fold_seed"
        raise ValueError(f"{wrong}, {saw}{because(job)}")
    if before is not None and (earlier := set(before.others) & set(job.looks.images) - set(before.images)):
        images = f"{plural(len(earlier), 'image')} of this run"
        raise ValueError(f"init={config.init}: its networks saw {images} before it began, whatever their fold")


def warn_of_names(job: Job, run: RunDir) -> None:
    """Warn if images have names of images that the run `init` was trained on, but other grey levels."""
    file = run.path / "folds.csv"
    names = set(pd.read_csv(file, dtype=str, keep_default_na=False)["id"]) if file.is_file() else set()
    if same := names & set(job.data.train.ids):
        log.warning(
            "init=%s was trained on %s of the same name as here, such as %s, but with other pixels; if they are "
            "the same, scaled or cut otherwise, its networks saw what is held out here, and the score is too high",
            *(job.config.init, plural(len(same), "image"), min(same)),
        )


def images_seen(config: RunConfig) -> set[str]:
    """Return the images that the first weights of a run were trained on, as far as the run `init` says."""
    before = None if config.init is None else likeness.read(run_of(config.init).path)
    return set() if before is None else {*before.images, *before.others}


def record_looks(job: Job) -> None:
    """Write what the training data looks like into the run directory, unless it is there."""
    if (job.directory.path / likeness.LOOKS).exists():
        return
    others = images_seen(job.config)
    if job.data.unlabelled is not None:
        others.update(likeness.digests_of(job.data.unlabelled.tiles.images))
    likeness.write(job.directory.path, job.looks, others - set(job.looks.images))
