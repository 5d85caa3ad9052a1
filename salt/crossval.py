"""A run: check it, train its folds, score them out of fold, predict the test tiles."""

import logging
import shlex
import time
from pathlib import Path
from typing import Any

from salt.claims import claimed, collecting, held
from salt.config import RunConfig
from salt.inference.model import Model
from salt.inference.predict import Predictor
from salt.inference.submission import is_fresh, make_submission
from salt.job import ALONE, Job, Place
from salt.machine import distributed
from salt.machine.device import memory_given_back
from salt.out_of_fold import write_scores
from salt.preflight.checks import check_weights, preflight
from salt.preflight.plan import log_estimate
from salt.reporting.page import REPORT, write_report_page
from salt.reporting.pictures import write_curves
from salt.runs.ensemble import Ensemble, Member
from salt.runs.files import write_text
from salt.training.fold import train_fold

log = logging.getLogger(__name__)


@memory_given_back()  # a sweep has many runs in one process
def run(config: RunConfig, path: Path, place: Place = ALONE) -> float | None:
    """Train the folds of a run in the directory `path`, score them out of fold, and write submission and report.

    An interrupted run resumes, and finished folds stay as they are. Return the score, or None for a dry run.

    Raises:
        ValueError: settings, data or an existing run directory do not allow it; or the training fails.
    """
    job = preflight(config, path, place)
    score = None
    if config.dry_run:
        log_estimate(job)
    else:
        with claimed(job):
            for fold in job.config.fold_list:
                with held(job, fold) as unfinished:
                    if unfinished:
                        complete_fold(job, fold)
                    else:
                        log.info("fold %d is finished already", fold)
            with collecting(job):
                score = distributed.from_main(lambda: write_scores(job))
                submit(job, score)
                write_report(job, score)
    distributed.leave()
    return None if score is None else score["map"]


def complete_fold(job: Job, fold: int) -> None:
    """Train a fold, draw its curves, and mark it as finished by a file `done` that names its weights."""
    check_weights(job, fold)  # again: hours may have passed since the first fold
    weights = train_fold(job, fold)
    if distributed.is_main():
        draw_curves(job.path(fold))
    write_text(job.path(fold) / "done", "".join(f"{file.name}\n" for file in weights))


def draw_curves(fold: Path) -> None:
    """Draw a fold's learning curves; a picture that cannot be written is no reason to stop."""
    try:
        write_curves(fold)
    except OSError as error:
        log.warning("no metrics.png: %s", error)


def submit(job: Job, score: dict[str, Any]) -> None:
    """Predict the test tiles by the mean over all finished folds, unless the submission is of these already."""
    file = job.directory.path / "submission.csv"
    ensemble = Ensemble(job.directory.path, score, [Member(job.directory, job.config, score)])
    if not job.data.test.ids:
        log.info("no submission.csv, since the data has no test images")
    elif job.place.in_parts and score["partial"] and not distributed.from_main(file.exists):
        command = shlex.join(["salt-submit", str(job.directory.path)])
        log.info("no submission.csv while the folds %s are missing; %s writes one", score["missing_folds"], command)
    elif distributed.from_main(lambda: is_fresh(ensemble)):
        log.info("%s is of these weights and this threshold already", file)
    else:
        predictor = Predictor(job.network, job.runtime, job.config.trainer.tta, "test")
        make_submission(Model(ensemble, [predictor.in_turn(ensemble.first.files)]), job.data.test)


def write_report(job: Job, score: dict[str, Any]) -> None:
    """Write report.html, unless other processes still train folds; a page that fails is no reason to fail a run."""
    if not (job.config.report and distributed.is_main()) or (job.place.in_parts and score["partial"]):
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
