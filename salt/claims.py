"""Who works on a run: locks between processes, and what happens to a failure. All of it wraps the training."""

from collections.abc import Iterator
from contextlib import contextmanager

from salt.config import RunConfig
from salt.data.folds import keep_folds
from salt.job import Job
from salt.machine import distributed
from salt.machine.device import is_out_of_memory
from salt.runs.environment import conditions, note_changes
from salt.runs.files import locked, remove

CLAIM_SECONDS = 60.0  # to wait for another process of the same run that looks at config and folds
COLLECT_SECONDS = 3600.0  # to wait for another one that scores and predicts


@contextmanager
def claimed(job: Job) -> Iterator[None]:
    """Hold the run directory for these settings; keep the traceback of a failure in error.txt.

    Raises:
        ValueError: another process has claimed it for other settings in the meantime.
    """
    with locked(job.directory.path, "claim", wait=CLAIM_SECONDS):
        claim(job)
    with job.directory.errors_kept():
        yield


def claim(job: Job) -> None:
    """Write config.yaml, environment.json and folds.csv, or check those that are there; note what has changed."""
    config, directory = job.config, job.directory
    now = conditions(str(job.runtime.dtype).removeprefix("torch."), job.place.start)
    directory.claim(config.model_dump(mode="json", by_alias=True), job.digests, now)
    if distributed.is_main():  # the others may come before the record is written
        note_changes(directory.path, now, directory.unfinished(config.fold_list))
    keep_folds(directory.path / "folds.csv", job.data.train.ids, job.folds, config.data.n_folds)


@contextmanager
def held(job: Job, fold: int) -> Iterator[bool]:
    """Hold a fold for this process and those of its torchrun; yield whether it must still be trained.

    Raises:
        ValueError: another process works on it, or the GPU's memory is too small.
    """
    distributed.barrier()
    path = job.path(fold)
    with locked(path, "fold"), out_of_memory_named(job.config):
        yield not distributed.from_main(lambda: job.directory.is_done(fold))  # rank 0 has the lock
        # a finished fold needs no checkpoint; a killed process may have left it
        remove(path / "last.pt", path / "previous.pt", path / "damaged.pt")


@contextmanager
def collecting(job: Job) -> Iterator[None]:
    """Hold the results of a run; of several processes the last one finds all folds finished."""
    distributed.barrier()
    with locked(job.directory.path, "collect", wait=COLLECT_SECONDS):
        yield


@contextmanager
def out_of_memory_named(config: RunConfig) -> Iterator[None]:
    """Within this context an out-of-memory error of the GPU becomes a ValueError that says what to lower."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(out_of_memory(config, error)) from error


def out_of_memory(config: RunConfig, error: Exception) -> str:
    """Return the message for a GPU whose memory is too small: the cause, and which settings to lower."""
    n = distributed.world_size()  # each takes as many tiles
    half = max(config.trainer.batch_size // (2 * n), 2) * n
    return (
        f"out of GPU memory with trainer.batch_size={config.trainer.batch_size}: {str(error).splitlines()[0]} "
        "Lower trainer.batch_size or input.size, or choose a smaller encoder, under another name. To resume the "
        f"folds of this run: trainer.batch_size={half} 'accept=[trainer.batch_size]'"
    )
