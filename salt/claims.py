"""Which process works on what: a run directory belongs to one config, and each fold in it to one process at a time."""

from collections.abc import Iterator
from contextlib import contextmanager

from salt.data.folds import keep_folds
from salt.job import Job
from salt.machine import distributed
from salt.runs.environment import conditions, note_changes
from salt.runs.files import locked

CLAIM_SECONDS = 60.0  # to wait for another process of this run that writes or checks config and folds
RESULTS_SECONDS = 3600.0  # to wait for another process that scores and predicts


def claim_directory(job: Job) -> None:
    """Write config.yaml, environment.json and folds.csv, or check that those there are the job's.

    Raises:
        ValueError: another process has claimed the directory for other settings since the preflight.
    """
    config, directory = job.config, job.directory
    now = conditions(str(job.runtime.dtype).removeprefix("torch."), job.launch.start)
    with locked(directory.path, "claim", wait=CLAIM_SECONDS):
        directory.claim(config.model_dump(mode="json", by_alias=True), job.digests, now)
        if distributed.is_main():  # the others may come before environment.json is written
            note_changes(directory.path, now, directory.unfinished(config.fold_list))
        keep_folds(directory.path / "folds.csv", job.data.train.ids, job.folds, config.data.n_folds)


@contextmanager
def lock_fold(job: Job, fold: int) -> Iterator[None]:
    """Keep other processes from a fold, except those of this torchrun.

    Raises:
        ValueError: another process works on it.
    """
    distributed.barrier()
    with locked(job.directory.fold_path(fold), "fold"):
        yield


@contextmanager
def lock_results(job: Job) -> Iterator[None]:
    """Keep other processes from the run's scores and submission: the last one to come finds all folds finished."""
    distributed.barrier()
    with locked(job.directory.path, "collect", wait=RESULTS_SECONDS):
        yield
