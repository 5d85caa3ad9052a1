"""A whole run: checks, folds, out-of-fold scores, submission."""

import dataclasses
import logging
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salt import build
from salt.build import Network, build_network
from salt.config import RunConfig
from salt.data.folds import assign_folds, check_same_folds, keep_folds
from salt.data.load import load_data, load_pseudo_labels, settled
from salt.data.tiles import Dataset
from salt.inference.model import Model
from salt.inference.predict import Predictor
from salt.inference.submission import is_fresh, make_submission
from salt.machine import distributed
from salt.machine.device import Runtime, choose_runtime, is_out_of_memory, memory_given_back
from salt.reporting.curves import write_curves
from salt.reporting.page import PAGE, write_page
from salt.reporting.scores import write_scores
from salt.reporting.words import duration
from salt.runs.ensemble import Ensemble, Member
from salt.runs.environment import BY_CODE, Start, conditions, note_changes
from salt.runs.files import locked, read_json, remove, sha256, write_text
from salt.runs.rundir import Digests, RunDir
from salt.training.check import check_build
from salt.training.fold import train_fold
from salt.training.plan import counted, estimate_seconds, log_plan
from salt.training.progress import Ahead
from salt.training.setup import check_unlabelled
from salt.training.warmstart import check_first_weights

log = logging.getLogger(__name__)

CLAIM_SECONDS = 60.0  # to wait for another process of the same run that looks at config and folds
COLLECT_SECONDS = 3600.0  # to wait for another one that scores and predicts


def run(
    config: RunConfig,
    path: Path,
    device: str | None = None,
    in_parts: bool = False,
    points_left: int = 0,
    start: Start = BY_CODE,
) -> float | None:
    """Do or finish a run in the directory `path`; returns the out-of-fold score (None for a dry run).

    `device` stands for trainer.device=auto or cuda. A run that is done `in_parts` gets its submission when all folds
    are finished (one that is there is kept in step with the score). `points_left` of a sweep come after this one;
    the run directory tells of its `start`.

    Raises:
        ValueError: data, config or an existing run directory do not allow it.
    """
    runtime = choose_runtime(config.trainer, device)
    distributed.join(runtime.device.type == "cuda")
    directory = RunDir(path)
    begin = directory.folds_to_begin(config.fold_list)
    has_size = config.data.tile is not None  # then the network is checked before tiles are generated or read
    n_parameters = check_network(config, begin) if has_size else 0
    data = load_data(config)
    config = settled(config, data)
    if not has_size:
        n_parameters = check_network(config, begin)
    data = with_unlabelled(config, data, directory)
    folds = assign_folds(config, data.train)
    settings = config.model_dump(mode="json", by_alias=True)
    digests = digests_of(config, data, begin)
    directory.check(settings, digests)
    check_same_folds(path / "folds.csv", data.train.ids, folds, config.data.n_folds)
    check_first_weights(config, data.train.ids, folds, begin)
    check_unlabelled(config, data, folds, begin)
    log_plan(config, data, folds, runtime, n_parameters)
    if config.dry_run:
        log_estimate(config, data, folds, directory, runtime)
        distributed.leave()
        return None

    with locked(path, "claim", wait=CLAIM_SECONDS):
        # checked again: another process may have written it before the lock was taken
        claim(config, directory, digests, runtime, start)
        keep_folds(path / "folds.csv", data.train.ids, folds, config.data.n_folds)
    with directory.errors_kept(), memory_given_back():
        score = complete_run(config, data, folds, directory, runtime, in_parts, points_left)
    distributed.leave()
    return score


def claim(config: RunConfig, directory: RunDir, digests: Digests, runtime: Runtime, start: Start) -> None:
    """Take the directory for this run, with a record of how it is computed; a run that goes on notes what changed."""
    now = conditions(str(runtime.dtype).removeprefix("torch."), start)
    directory.claim(config.model_dump(mode="json", by_alias=True), digests, now)
    if distributed.is_main():  # the others may come before the record is written
        note_changes(directory.path, now, directory.unfinished(config.fold_list))


def with_unlabelled(config: RunConfig, data: Dataset, directory: RunDir) -> Dataset:
    """Return the data with the pseudo-labelled tiles, if folds that are not finished use them."""
    if config.semi_supervised.share and directory.unfinished(config.fold_list):
        return dataclasses.replace(data, unlabelled=load_pseudo_labels(config, data))
    return data


def complete_run(
    config: RunConfig,
    data: Dataset,
    folds: NDArray[np.int64],
    directory: RunDir,
    runtime: Runtime,
    in_parts: bool,
    points_left: int,
) -> float:
    """Train what is missing of the run's folds, then score and submit; returns the out-of-fold score."""
    network = build_network(config, runtime)
    for i, fold in enumerate(config.fold_list):
        later = directory.unfinished(config.fold_list[i + 1 :])
        ahead = Ahead(in_run=len(later), in_sweep=points_left * len(config.fold_list))
        complete_fold(config, fold, data, folds, directory, network, runtime, ahead)
    distributed.barrier()
    with locked(directory.path, "collect", wait=COLLECT_SECONDS):  # the last process finds all folds finished
        score, ensemble = distributed.from_main(lambda: collect(config, directory, data, folds, in_parts))
        if ensemble is not None:
            predictor = Predictor(network, runtime, config.trainer.tta, "test")
            make_submission(Model(ensemble, [predictor.in_turn(ensemble.first.files)]), data.test)
        write_report(config, directory, data, in_parts)
    return score


def collect(
    config: RunConfig, directory: RunDir, data: Dataset, folds: NDArray[np.int64], in_parts: bool
) -> tuple[float, Ensemble | None]:
    """Score the finished folds; return the score, and the networks of the submission, if one must be written."""
    score = write_scores(config, directory, data.train, folds)
    submission = directory.path / "submission.csv"
    if not data.test.ids:
        log.info("no submission.csv, since the data has no test images")
        return score["map"], None
    if in_parts and score["partial"] and not submission.exists():
        command = shlex.join(["salt-submit", str(directory.path)])
        log.info("no submission.csv while the folds %s are missing; %s writes one", score["missing_folds"], command)
        return score["map"], None
    ensemble = Ensemble(directory.path, score, [Member(directory, config, score)])
    if is_fresh(ensemble):
        log.info("%s is of these weights and this threshold already", submission)
        return score["map"], None
    return score["map"], ensemble


def write_report(config: RunConfig, directory: RunDir, data: Dataset, in_parts: bool) -> None:
    """Write report.html, unless other processes still train folds; a page that fails is no reason to fail a run."""
    if not (config.report and distributed.is_main()):
        return
    if in_parts and read_json(directory.path / "score.json", "partial")["partial"]:
        return
    log.info("drawing %s ...", directory.path / PAGE)
    began = time.perf_counter()
    try:
        write_page(directory.path, data=data)
    except Exception as error:
        log.warning("no %s: %s: %s", directory.path / PAGE, type(error).__name__, error)
        return
    log.info("%s: open it in a browser (written in %.0f s)", directory.path / PAGE, time.perf_counter() - began)


def check_network(config: RunConfig, begin: list[int]) -> int:
    """Check every part of the run (see `check_build`); the encoder's weights are loaded if folds begin with them."""
    return check_build(config if begin and config.init is None else build.without_weights(config))


def digests_of(config: RunConfig, data: Dataset, begin: list[int]) -> Digests:
    """Digests of what the run reads."""
    return Digests(
        data=data.digest(),
        train=data.train.digest(),
        weights=digest_of_weights(config, begin),
        unlabelled=None if data.unlabelled is None else data.unlabelled.digest,
    )


def digest_of_weights(config: RunConfig, begin: list[int]) -> str | None:
    """SHA-256 of the encoder's file, where one is given and folds are to begin with it; None elsewhere."""
    file = config.encoder.weights
    needed = bool(begin) and config.init is None
    return sha256(Path(file)) if needed and file not in (None, "imagenet") and Path(file).is_file() else None


def complete_fold(
    config: RunConfig,
    fold: int,
    data: Dataset,
    folds: NDArray[np.int64],
    directory: RunDir,
    network: Network,
    runtime: Runtime,
    ahead: Ahead,
) -> None:
    """Train a fold, unless it is finished; no other process may work on it."""
    distributed.barrier()
    path = directory.fold(fold)
    with locked(path, "fold"):
        if distributed.from_main(lambda: directory.is_done(fold)):  # rank 0 has the lock
            log.info("fold %d is finished already", fold)
        else:
            digest = digest_of_weights(config, directory.folds_to_begin([fold]))
            if digest is not None:  # checked again: hours may have passed since the first fold
                directory.check_weights(digest, str(config.encoder.weights))
            with out_of_memory_named(config):
                weights = train_fold(config, fold, data, folds, path, network, runtime, ahead)
            draw_curves(path)
            write_text(path / "done", "".join(f"{file.name}\n" for file in weights))
        # a finished fold needs no checkpoint; a killed process may have left it
        remove(path / "last.pt", path / "previous.pt", path / "damaged.pt")


def draw_curves(fold: Path) -> None:
    """Draw a fold's learning curves; a picture that cannot be written is no reason to stop."""
    if distributed.is_main():
        try:
            write_curves(fold)
        except OSError as error:
            log.warning("no metrics.png: %s", error)


def out_of_memory(config: RunConfig, error: Exception) -> str:
    """The error message for a GPU whose memory is too small: the cause, and which settings to lower."""
    n = distributed.world_size()  # each takes as many tiles
    half = max(config.trainer.batch_size // (2 * n), 2) * n
    return (
        f"out of GPU memory with trainer.batch_size={config.trainer.batch_size}: {str(error).splitlines()[0]} "
        "Lower trainer.batch_size or input.size, or choose a smaller encoder, under another name. To go on with the "
        f"folds of this run: trainer.batch_size={half} 'accept=[trainer.batch_size]'"
    )


def log_estimate(
    config: RunConfig, data: Dataset, folds: NDArray[np.int64], directory: RunDir, runtime: Runtime
) -> None:
    """Log how long the folds that are not finished will take, if one process trains them."""
    if distributed.world_size() > 1:
        return
    todo = directory.unfinished(config.fold_list)
    if todo:
        log.info("timing a few steps ...")
    with memory_given_back(), out_of_memory_named(config):
        seconds = estimate_seconds(config, data, folds, todo, runtime)
    log.info(
        "%s to train: about %s on this machine, by a trial of a few steps",
        counted(len(todo), "fold"),
        duration(seconds),
    )


@contextmanager
def out_of_memory_named(config: RunConfig) -> Iterator[None]:
    """Within this context an out-of-memory error of the GPU becomes a ValueError that says what to lower."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(out_of_memory(config, error)) from error
