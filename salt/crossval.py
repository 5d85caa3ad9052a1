"""A whole run: check it, train its folds, score them out of fold, predict the test tiles, report.

Under torchrun all processes come here; what writes files (salt/runs/files.py) does so on rank 0 alone.
"""

import logging
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from salt.config import RunConfig
from salt.data.folds import keep_folds
from salt.inference.choose import load_engine
from salt.inference.model import Model
from salt.inference.predict import Predictor
from salt.inference.submission import is_fresh, make_submission
from salt.job import ALONE, Job, Launch
from salt.machine import distributed
from salt.machine.device import explain_out_of_memory, free_memory_afterwards
from salt.out_of_fold import write_scores
from salt.preflight.checks import check_weights, preflight
from salt.preflight.plan import log_estimate
from salt.preflight.restart import delete_run
from salt.reporting.figures import write_curves
from salt.reporting.page import REPORT, write_report_page
from salt.runs.ensemble import Ensemble, Member
from salt.runs.environment import conditions, note_changes
from salt.runs.files import locked, remove, write_text
from salt.training.fold import train_fold
from salt.training.warmstart import record_looks

log = logging.getLogger(__name__)

CLAIM_SECONDS = 60.0  # to wait for another process of this run that writes or checks config and folds
RESULTS_SECONDS = 3600.0  # to wait for another process that scores and predicts


@free_memory_afterwards()  # a sweep has many runs in one process
def run(config: RunConfig, path: Path, launch: Launch = ALONE) -> float | None:
    """Train the folds of a run in the directory `path`, and return their out-of-fold score.

    None: it is a dry run, or data.n_folds=1 holds no tile out.

    An interrupted run resumes: finished folds stay as they are, and the next one continues from its checkpoint last.pt.

    Raises:
        ValueError: settings, data or an existing run directory do not allow it; or the training fails.
    """
    job = preflight(config, path, launch)  # refuses a run that cannot work
    if config.dry_run:
        log_estimate(job)
        distributed.leave()
        return None
    delete_run(job.directory, config)  # only now: a setting that is refused costs no finished fold
    claim_directory(job)
    with job.directory.record_failure():
        for fold in job.config.fold_list:
            with lock_fold(job, fold), explain_out_of_memory(job.config.trainer):
                complete_fold(job, fold)
        with lock_results(job):
            score = distributed.from_main(lambda: write_scores(job))
            predict_test_tiles(job, score)
            write_report(job, score)
    distributed.leave()
    return score["map"]


def complete_fold(job: Job, fold: int) -> None:
    """Train a fold unless it is finished, and mark it as finished by a file `done`, which names its weights."""
    path = job.directory.fold_path(fold)
    if distributed.from_main(lambda: job.directory.is_done(fold)):  # rank 0 has the lock
        log.info("fold %d is finished already", fold)
    else:
        check_weights(job, fold)  # again: hours may have passed since the first fold
        weights = train_fold(job, fold)
        if distributed.is_main():
            try:
                write_curves(path)
            except OSError as error:  # a picture does not stop the run
                log.warning("no metrics.png: %s", error)
        write_text(path / "done", "".join(f"{file.name}\n" for file in weights))
    remove(path / "last.pt", path / "previous.pt", path / "damaged.pt")  # checkpoints, also of a killed process


def predict_test_tiles(job: Job, score: dict[str, Any]) -> None:
    """Write submission.csv from the mean over all finished folds, unless it is of these weights already."""
    file = job.directory.path / "submission.csv"
    ensemble = Ensemble(job.directory.path, score, [Member(job.directory, job.config, score)])
    if not job.data.test.ids:
        log.info("no submission.csv, since the data has no test images")
    elif job.launch.in_parts and score["partial"] and not distributed.from_main(file.exists):
        command = shlex.join(["salt-submit", str(job.directory.path)])
        log.info("no submission.csv while the folds %s are missing; %s writes one", score["missing_folds"], command)
    elif distributed.from_main(lambda: is_fresh(ensemble)):
        log.info("%s is of these weights and this threshold already", file)
    else:
        engine = load_engine(job.config, ensemble.first.files, job.runtime)
        make_submission(Model(ensemble, [Predictor(engine, "test")]), job.data.test)


def write_report(job: Job, score: dict[str, Any]) -> None:
    """Write report.html, unless other processes still train folds; a page that fails does not stop the run."""
    if not (job.config.report and distributed.is_main()) or (job.launch.in_parts and score["partial"]):
        return
    if score["map"] is None:  # there is nothing to report on
        return
    page = job.directory.path / REPORT
    log.info("drawing %s ...", page)
    began = time.perf_counter()
    try:
        write_report_page(job.directory.path, data=job.data)
    except Exception as error:
        log.warning("no %s: %s: %s", page, type(error).__name__, error)
        return
    log.info("%s: open it in a browser (written in %.0f s)", page, time.perf_counter() - began)


def claim_directory(job: Job) -> None:
    """Write config, environment, folds and data.json; raise ValueError if the directory has other settings now."""
    config, directory = job.config, job.directory
    now = conditions(str(job.runtime.dtype).removeprefix("torch."), job.launch.start)
    with locked(directory.path, "claim", wait=CLAIM_SECONDS):
        directory.claim(config.model_dump(mode="json", by_alias=True), job.digests, now)
        if distributed.is_main():  # the others may come before environment.json is written
            note_changes(directory.path, now, directory.unfinished(config.fold_list))
            record_looks(job)
        keep_folds(directory.path / "folds.csv", job.data.train.ids, job.folds, config.data.n_folds)


@contextmanager
def lock_fold(job: Job, fold: int) -> Iterator[None]:
    """Keep other processes from a fold, except those of this torchrun; raise ValueError if one works on it."""
    distributed.barrier()
    with locked(job.directory.fold_path(fold), "fold"):
        yield


@contextmanager
def lock_results(job: Job) -> Iterator[None]:
    """Keep other processes from the run's scores and submission: the last one to come finds all folds finished."""
    distributed.barrier()
    with locked(job.directory.path, "collect", wait=RESULTS_SECONDS):
        yield
