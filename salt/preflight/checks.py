"""The refusals that need torch or the data, before anything is written or trained."""

import dataclasses
import logging
from pathlib import Path

import numpy as np

from salt import build
from salt.build import build_network
from salt.config import RunConfig
from salt.data.folds import assign_folds, check_same_folds, read_folds
from salt.data.load import fill_from_data, load_data, load_pseudo_labels
from salt.data.unlabelled import digest_of_folds
from salt.job import ALONE, Job, Launch
from salt.machine import distributed
from salt.machine.device import choose_runtime
from salt.preflight.parts import try_parts
from salt.preflight.plan import log_plan
from salt.runs.bundle import open_run
from salt.runs.files import sha256
from salt.runs.rundir import Digests, RunDir
from salt.runs.weights import describe_mismatch, read_weights
from salt.training.batches import n_pseudo
from salt.training.setup import first_weights

log = logging.getLogger(__name__)


def preflight(config: RunConfig, path: Path, launch: Launch = ALONE) -> Job:
    """Check settings, network, data, folds and run directory together, log the plan, and return the job.

    Raises:
        ValueError: the run would fail, or would mix its results with others.
    """
    runtime = choose_runtime(config.trainer, launch.device)
    distributed.join(runtime.device.type == "cuda")
    directory = RunDir(path)
    begin = directory.folds_to_begin(config.fold_list)
    n_parameters = try_parts(config if begin and config.init is None else build.without_weights(config))
    data = load_data(config)
    config = fill_from_data(config, data)
    if config.semi_supervised.share and directory.unfinished(config.fold_list):
        data = dataclasses.replace(data, unlabelled=load_pseudo_labels(config, data))
    folds = assign_folds(config, data.train)
    unlabelled = None if data.unlabelled is None else data.unlabelled.digest
    digests = Digests(data.digest(), data.train.digest(), digest_of_weights(config, begin), unlabelled)
    job = Job(config, data, folds, directory, runtime, build_network(config, runtime), launch, digests)
    directory.check(config.model_dump(mode="json", by_alias=True), digests)
    check_same_folds(path / "folds.csv", data.train.ids, folds, config.data.n_folds)
    check_first_weights(job, begin)
    check_pseudo_labels(job, begin)
    log_plan(job, n_parameters)
    return job


def digest_of_weights(config: RunConfig, begin: list[int]) -> str | None:
    """Return SHA-256 of the encoder's file, or None if no fold in `begin` starts from it."""
    file = config.encoder.weights
    needed = bool(begin) and config.init is None
    return sha256(Path(file)) if needed and file not in (None, "imagenet") and Path(file).is_file() else None


def check_weights(job: Job, fold: int) -> None:
    """Check that a new fold starts from the same file of encoder weights as the run's other folds.

    Raises:
        ValueError: the file has changed.
    """
    digest = digest_of_weights(job.config, job.directory.folds_to_begin([fold]))
    if digest is not None:
        job.directory.check_weights(digest, str(job.config.encoder.weights))


def check_first_weights(job: Job, begin: list[int]) -> None:
    """Check that the folds `begin` can start from the run that `init` names.

    Raises:
        ValueError: a fold of that run is not finished; it has another network; or it has other folds, so that its fold
            k was trained on tiles that this run's fold k is scored on.
    """
    config = job.config
    files = [file for file in (first_weights(config, fold) for fold in begin) if file is not None]
    if not files:
        return
    assert config.init is not None
    other = describe_mismatch(build.build_model(build.without_weights(config)), read_weights(files[0]))
    if other is not None:
        raise ValueError(
            f"init={config.init} has another network than this run ({other}); expected the same encoder, decoder and "
            "other parts"
        )
    wrong = f"init={config.init}: its folds are not those of this run"
    try:
        theirs = read_folds(open_run(Path(config.init)) / "folds.csv", job.data.train.ids, config.data.n_folds)
    except ValueError as error:
        raise ValueError(f"{wrong}: {error}") from None
    if not np.array_equal(theirs, job.folds):
        raise ValueError(f"{wrong}, so its networks saw tiles that are held out here; use the same data.fold_seed")


def check_pseudo_labels(job: Job, begin: list[int]) -> None:
    """Check that the folds `begin` can use the pseudo-labels; warn of settings that the run does not use.

    Raises:
        ValueError: labels are missing, or come from networks that saw tiles which are held out here; or the processes
            cannot share the pseudo-labelled tiles of a batch.
    """
    config, data = job.config, job.data
    for key in ("unlabelled", "pseudo"):
        if getattr(config.data, key) is not None and not config.semi_supervised.share:
            # no error: a sweep over semi-supervised has such points
            log.warning("data.%s is not used by this run's choice of semi-supervised", key)
    if data.unlabelled is None:
        return
    check_shares(config)
    labels = data.unlabelled.labels
    if labels.folds != digest_of_folds(data.train, job.folds):
        raise ValueError(
            f"data.pseudo={config.data.pseudo} was made with other tiles or folds than those of this run, so its "
            "networks saw tiles that are held out here; use the same data, data.folds, data.n_folds and data.fold_seed"
        )
    for fold in begin:
        labels.confident(fold, config.semi_supervised.least)


def check_shares(config: RunConfig) -> None:
    """Check that the processes can share the pseudo-labelled tiles of a batch.

    Raises:
        ValueError: their number is no multiple of the number of processes.
    """
    n, processes = n_pseudo(config), distributed.world_size()
    if n % processes:
        raise ValueError(
            f"trainer.batch_size={config.trainer.batch_size} with semi_supervised.share={config.semi_supervised.share} "
            f"has {n} tiles without a mask in each batch, expected a multiple of {processes}"
        )
