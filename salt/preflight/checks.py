"""The refusals that need torch or the data: settings, data and folds, and every part tried on a dummy batch."""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from salt import build
from salt.build import build_network
from salt.config import RunConfig
from salt.data.folds import assign_folds, check_same_folds
from salt.data.load import digest_of_folds, fill_from_data, largest_tile, load_data, load_unlabelled, with_labels
from salt.data.tiles import Dataset
from salt.job import ALONE, Job, Launch
from salt.losses.combine import set_progress, simple_losses
from salt.losses.known import FullyKnown
from salt.machine import distributed
from salt.machine.device import choose_runtime
from salt.models.segmenter import Segmenter
from salt.preflight.plan import log_plan
from salt.runs.files import sha256
from salt.runs.rundir import Digests, RunDir
from salt.runs.weights import describe_mismatch, read_weights
from salt.training import setup
from salt.training.setup import n_pseudo
from salt.training.warmstart import check_same_start, first_weights

log = logging.getLogger(__name__)


def preflight(config: RunConfig, path: Path, launch: Launch = ALONE) -> Job:
    """Check settings, network, data, folds and directory, log the plan and return the job, or raise ValueError."""
    runtime = choose_runtime(config.trainer, launch.device)
    distributed.join(runtime.device.type == "cuda")
    directory = RunDir(path)
    # a run that restart will delete does not matter: until then, look where there is none
    before = RunDir(path / "none") if config.restart and directory.is_begun() else directory
    begin = before.folds_to_begin(config.fold_list)
    n_parameters = try_parts(config if begin and config.init is None else build.without_weights(config))
    data = load_data(config)
    config = fill_from_data(config, data)
    if config.semi_supervised.share and before.unfinished(config.fold_list):
        labelled = with_labels(load_unlabelled(config, data), Path(str(config.data.pseudo)))
        data = dataclasses.replace(data, unlabelled=labelled)
    check_takes_known(config, data)
    folds = assign_folds(config, data.train)
    unlabelled = None if data.unlabelled is None else data.unlabelled.digest
    digests = Digests(data.digest(), data.train.digest(), digest_of_weights(config, begin), unlabelled)
    job = Job(config, data, folds, directory, runtime, build_network(config, runtime), launch, digests)
    before.check(config.model_dump(mode="json", by_alias=True), digests)
    check_same_folds(before.path / "folds.csv", data.train.ids, folds, config.data.n_folds)
    check_first_weights(job, begin)
    check_pseudo_labels(job, begin)
    log_plan(job, n_parameters, steps=check_batches(job))
    return job


def digest_of_weights(config: RunConfig, begin: list[int]) -> str | None:
    """Return SHA-256 of the encoder's file, or None if no fold in `begin` starts from it."""
    file = config.encoder.weights
    needed = bool(begin) and config.init is None
    return sha256(Path(file)) if needed and file not in (None, "imagenet") and Path(file).is_file() else None


def check_weights(job: Job, fold: int) -> None:
    """Raise ValueError if the file of encoder weights has changed since the run's other folds started."""
    digest = digest_of_weights(job.config, job.directory.folds_to_begin([fold]))
    if digest is not None:
        job.directory.check_weights(digest, str(job.config.encoder.weights))


def check_first_weights(job: Job, begin: list[int]) -> None:
    """Raise ValueError if `begin` cannot start from the run `init`: unfinished, another network, or other folds."""
    config = job.config
    files = [file for file in (first_weights(job, fold) for fold in begin) if file is not None]
    if not files:
        return
    other = describe_mismatch(build.build_model(build.without_weights(config)), read_weights(files[0]))
    if other is not None:
        network = f"has another network than this run ({other})"
        raise ValueError(f"init={config.init} {network}; expected the same encoder, decoder and other parts")
    check_same_start(job)


def check_takes_known(config: RunConfig, data: Dataset) -> None:
    """Raise ValueError if masks have unknown pixels, and the loss cannot leave them out."""
    for module in build.build_loss(config).modules() if data.partly_known else ():
        if isinstance(module, FullyKnown):
            module.refuse()


def check_pseudo_labels(job: Job, begin: list[int]) -> None:
    """Raise ValueError if labels are missing for the folds `begin`, or are of networks that saw held-out tiles."""
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
    """Raise ValueError if the processes cannot share the pseudo-labelled tiles of a batch evenly."""
    n, processes = n_pseudo(config), distributed.world_size()
    if n % processes:
        raise ValueError(
            f"trainer.batch_size={config.trainer.batch_size} with semi_supervised.share={config.semi_supervised.share} "
            f"has {n} tiles without a mask in each batch, expected a multiple of {processes}"
        )


def check_batches(job: Job) -> list[int]:
    """Return the steps of an epoch of each fold; raise ValueError if a batch is too large or cannot be shared evenly.

    It also raises ValueError if data.gap leaves a fold no line to train on.
    """
    folds = job.config.fold_list
    return [len(setup.epoch_batches(job, fold, setup.all_labelled_tiles(job, fold))) for fold in folds]


def try_parts(config: RunConfig) -> int:
    """Build every part, push a dummy batch through on the CPU, and return the number of parameters."""
    model, loss = build_parts(with_tile(config))
    for progress in (0.0, 0.999):
        set_progress(loss, progress)
        check_dummy_batch(config, model, loss)
    return sum(p.numel() for p in model.parameters())


def check_parts(config: RunConfig) -> None:
    """Raise ValueError if a part cannot be built, in a moment: without data, and on the meta device without memory."""
    if config.encoder.name is not None:
        config = build.without_weights(config)
    config = with_tile(config)
    try:
        with torch.device("meta"):
            build_parts(config)
    except Exception:  # some networks compute with their weights when they are built
        build_parts(config)


def with_tile(config: RunConfig) -> RunConfig:
    """Return settings with a tile size; if it is unknown before the data is read, the largest that the input takes."""
    if config.data.tile is not None:
        return config
    size = largest_tile(config)
    return config.model_copy(update={"data": config.data.model_copy(update={"tile": [size, size]})})


def build_parts(config: RunConfig) -> tuple[Segmenter, nn.Module]:
    """Build every part; return the network and the loss, or raise one ValueError for all parts that cannot be built."""
    problems: list[str] = []

    def attempt(make: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return make(config, *arguments)
        except ValueError as error:
            problems.append(str(error))

    model, loss = attempt(build.build_model), attempt(build.build_loss)
    attempt(build.build_augment)
    attempt(setup.build_logger)
    stand_in = model or nn.Conv2d(1, 1, 1)
    attempt(setup.build_averaging, stand_in)
    optimizer = attempt(setup.build_optimizer, stand_in)
    if optimizer is not None:
        attempt(setup.build_schedule, optimizer, 10)
    if problems:
        raise ValueError("\n".join(problems))
    return model, loss


def check_dummy_batch(config: RunConfig, model: Segmenter, loss: nn.Module) -> None:
    """Raise ValueError if the network or the loss cannot take two dummy tiles forward and backward."""
    masks = torch.zeros(2, 1, *model.tile)
    masks[0, :, model.tile[0] // 2 :] = 1
    try:
        output = model(torch.rand_like(masks), torch.rand(2))
    except Exception as error:  # a part may be the user's own
        network, cause = f"encoder.name={config.encoder.name} with these options", f"{type(error).__name__}: {error}"
        raise ValueError(f"{network} cannot take a tile: {cause}") from error
    if output.logits.shape != masks.shape:
        found, expected = tuple(output.logits.shape), tuple(masks.shape)
        raise ValueError(f"the decoder and head give logits {found}, expected {expected}")
    for part in simple_losses(loss):
        check_loss(part, output.logits, masks)
    try:
        value = model.loss(output, masks, loss)
        value.backward()
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        raise ValueError(f"deep-supervision: the loss of these options fails: {cause}") from error
    if not torch.isfinite(value):
        raise ValueError(f"a dummy batch gives the loss {value.item()}")


def check_loss(loss: nn.Module, logits: Tensor, masks: Tensor) -> None:
    """Check that a loss takes logits and masks (N 1 H W) and returns a scalar with a gradient."""
    expected = f"loss: {type(loss).__name__}.forward(logits, masks) must return a scalar tensor with a gradient, got"
    try:
        value = loss(logits, masks)
    except Exception as error:
        raise ValueError(f"{expected} {type(error).__name__}: {error}") from error
    if not isinstance(value, Tensor):
        raise ValueError(f"{expected} {type(value).__name__}")
    if value.ndim or not value.requires_grad:
        gradient = "" if value.requires_grad else " without a gradient"
        raise ValueError(f"{expected} a tensor of shape {tuple(value.shape)}{gradient}")
