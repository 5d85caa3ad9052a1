"""What a fold begins with: its state, fresh or from a checkpoint, and the network as training calls it."""

import copy
import inspect
import logging
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from salt import build
from salt.build import Forward, Network, get_target
from salt.config import RunConfig
from salt.data.loader import EpochBatches
from salt.data.tiles import Dataset, Tiles
from salt.data.unlabelled import digest_of_folds, joined
from salt.machine import distributed
from salt.machine.device import Runtime, full_gpu_named
from salt.models.segmenter import Segmenter
from salt.reporting.loggers import Harmless, NoLogger
from salt.runs.files import sha256
from salt.runs.rundir import has_checkpoint, how_to_remake, snapshot_file
from salt.runs.weights import load_weights
from salt.training import checkpoint
from salt.training.averaging import Averaging
from salt.training.schedule import snapshot_epochs
from salt.training.state import State

log = logging.getLogger(__name__)

OFTEN = 10  # times that an epoch has a tile without a mask


@full_gpu_named()
def start(
    config: RunConfig, steps_per_epoch: int, path: Path, model: Segmenter, runtime: Runtime, first: Path | None = None
) -> State:
    """The state in `last.pt`, or a fresh one around `model`, with new weights or those in the file `first`."""
    resumed = has_checkpoint(path)
    if not resumed:
        model.load_state_dict(build.build_model(build.without_weights(config) if first else config).state_dict())
        if first is not None:
            load_weights(model, first)
            log.info("%s begins with the weights in %s, SHA-256 %s", path, first, sha256(first))
    optimizer = build_optimizer(config, model)
    state = State(
        model=model,
        average=build_averaging(config, model),
        optimizer=optimizer,
        schedule=build_schedule(config, optimizer, steps_per_epoch),
        scaler=build_scaler(runtime),
        epochs=config.trainer.epochs,
        steps_per_epoch=steps_per_epoch,
    )
    if resumed:
        checkpoint.load(state, path)
        snapshots(state, path)  # report a lost snapshot now, not at the end
        log.info("%s goes on after epoch %d, step %d", path, state.epoch, state.current.steps)
    return state


def training_tiles(config: RunConfig, data: Dataset, number: int) -> Tiles:
    """Return what the epochs of a fold draw from: the tiles with masks, then those with pseudo-labels.

    Raises:
        ValueError: the pseudo-labels do not fit.
    """
    if data.unlabelled is None:
        return data.train
    added = data.unlabelled.for_training(number, config.semi_supervised.least)
    log.info(
        "fold %d: %d of %d tiles without a mask take part, %d in each batch",
        number,
        len(added.ids),
        len(data.unlabelled.tiles.ids),
        n_without_mask(config),
    )
    return joined(data.train, added)


def check_unlabelled(config: RunConfig, data: Dataset, folds: NDArray[np.int64], begin: list[int]) -> None:
    """Make sure that the folds `begin` can use the pseudo-labels; warn of settings that the run does not use.

    Raises:
        ValueError: labels are missing, or come from networks that saw tiles which are held out here; or the processes
            cannot share the pseudo-labelled tiles of a batch.
    """
    for key in ("unlabelled", "pseudo"):
        if getattr(config.data, key) is not None and not config.semi_supervised.share:
            # no error: a sweep over semi-supervised has such points
            log.warning("data.%s is not used by this run's choice of semi-supervised", key)
    if data.unlabelled is None:
        return
    check_shares(config)
    labels = data.unlabelled.labels
    if labels.folds != digest_of_folds(data.train, folds):
        raise ValueError(
            f"data.pseudo={config.data.pseudo} was made with other tiles or folds than those of this run, so its "
            "networks saw tiles that are held out here; use the same data, data.folds, data.n_folds and data.fold_seed"
        )
    for fold in begin:
        labels.confident(fold, config.semi_supervised.least)


def epoch_batches(config: RunConfig, tiles: Tiles, folds: NDArray[np.int64], number: int) -> EpochBatches:
    """The batches of a fold's epochs; of several processes this one's share.

    `folds` (N) are those of the first N tiles; what comes after these belongs to every fold.

    Raises:
        ValueError: as `EpochBatches`.
    """
    images = tiles.crops(config.data.size)
    n = int(np.searchsorted(images, len(folds)))
    training = np.flatnonzero(folds[images[:n]] != number)
    batches = EpochBatches(
        training,
        config.trainer.batch_size,
        (config.seed, number),
        distributed.rank(),
        distributed.world_size(),
        training[tiles.coverage[images[training]] == 0],
        config.trainer.empty_share,
        np.arange(n, len(images)),
        n_without_mask(config),
    )
    if batches.repeats > OFTEN:
        log.warning(
            "fold %d: an epoch has each of the %d tiles without a mask up to %d times; more of them, or a lower "
            "semi_supervised.share or least, would be better",
            number,
            len(batches.more),
            batches.repeats,
        )
    return batches


def n_without_mask(config: RunConfig) -> int:
    """How many tiles of a batch have no mask of their own: one at least, and not all of them."""
    share, size = config.semi_supervised.share, config.trainer.batch_size
    return min(max(round(share * size), 1), size - 1) if share else 0


def check_shares(config: RunConfig) -> None:
    """Make sure that the processes can share both kinds of tiles in a batch.

    Raises:
        ValueError: they cannot.
    """
    n, processes = n_without_mask(config), distributed.world_size()
    if n % processes:
        raise ValueError(
            f"trainer.batch_size={config.trainer.batch_size} with semi_supervised.share={config.semi_supervised.share} "
            f"has {n} tiles without a mask in each batch, expected a multiple of {processes}"
        )


def snapshots(state: State, path: Path) -> list[Path]:
    """The snapshots of the epochs done.

    Raises:
        ValueError: one is missing.
    """
    files = [snapshot_file(path, epoch) for epoch in snapshot_epochs(state.schedule) if epoch <= state.epoch]
    for file in files:
        if not file.exists():
            raise ValueError(f"{file} is missing. {how_to_remake(file)}")
    return files


def build_optimizer(config: RunConfig, model: nn.Module) -> Optimizer:
    """The optimizer; biases and the scales of norms (tensors of one dimension) are not decayed.

    The encoder's weights have a learning rate of their own where `encoder_lr_scale` is not 1.
    """
    groups = []
    for of_encoder, rate in (
        (False, config.optimizer.lr),
        (True, config.optimizer.lr * config.optimizer.encoder_lr_scale),
    ):
        part = [p for name, p in model.named_parameters() if name.startswith("encoder.") == of_encoder]
        groups.append({"params": [p for p in part if p.ndim > 1], "lr": rate})
        groups.append({"params": [p for p in part if p.ndim <= 1], "lr": rate, "weight_decay": 0.0})
    node = config.optimizer.node("encoder_lr_scale")
    # one pass over the weights; and the device itself skips a step without a finite gradient, so the CPU need not wait
    fused = "fused" in inspect.signature(get_target("optimizer", node["_target_"])).parameters
    optimizer: Optimizer = build.build("optimizer", {"fused": True} | node if fused else node, params=groups)
    if isinstance(optimizer, SGD):
        begin_with_zeros(optimizer)
    return optimizer


def begin_with_zeros(optimizer: SGD) -> None:
    """Set the momentum to zero before the first step.

    torch allocates it within that step; if a fused optimizer skips the step, its content would be undefined.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["momentum"] else ():
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def build_schedule(config: RunConfig, optimizer: Optimizer, steps_per_epoch: int) -> LRScheduler:
    """The learning rate's schedule, one call of step() after each training step."""
    schedule: LRScheduler = build.build(
        "schedule",
        config.schedule.node(),
        optimizer=optimizer,
        epochs=config.trainer.epochs,
        steps_per_epoch=steps_per_epoch,
    )
    return schedule


def build_averaging(config: RunConfig, model: nn.Module) -> Averaging:
    """The averaged copy of the network whose weights are the result."""
    average: Averaging = build.build("averaging", config.averaging.node(), model=model)
    return average


def build_logger(config: RunConfig) -> Harmless:
    """What shows the run in another program; rank 0 alone does."""
    return Harmless(build.build("logger", config.logger.node()) if distributed.is_main() else NoLogger())


def build_scaler(runtime: Runtime) -> torch.amp.GradScaler:
    """Skips steps without a finite gradient, on the device itself; in float16 it also scales the loss."""
    if runtime.dtype == torch.float16:
        return torch.amp.GradScaler(runtime.device.type)
    return torch.amp.GradScaler(runtime.device.type, init_scale=1.0)  # train_step keeps it there


def wrap_ddp(network: Network, loss: nn.Module, runtime: Runtime) -> Forward:
    """Wrap the network in DistributedDataParallel if torchrun started several processes; gradients are averaged."""
    if distributed.world_size() == 1:
        return network.eval_forward
    freeze_unused(network.model, loss, runtime)
    devices = [runtime.device] if runtime.device.type == "cuda" else None
    return DistributedDataParallel(network.eval_forward, device_ids=devices)


def freeze_unused(model: Segmenter, loss: nn.Module, runtime: Runtime) -> None:
    """Freeze the layers that no output depends on, as EfficientNet brings; processes would wait for their gradients."""
    trial = copy.deepcopy(model).train()
    masks = torch.zeros(2, 1, *model.tile, device=runtime.device)
    masks[0, :, model.tile[0] // 2 :] = 1
    output = trial(torch.rand_like(masks), masks.new_zeros(2))
    trial.loss(output, masks, loss).backward()
    for own, tried in zip(model.parameters(), trial.parameters(), strict=True):
        own.requires_grad_(tried.grad is not None)
