"""Build what a fold trains with: tiles and batches, its state (new or from a checkpoint), what never changes."""

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
from salt.build import Forward, Network
from salt.components import build_part, get_target
from salt.config import RunConfig
from salt.data.lines import parts_to_train
from salt.data.load import join_tiles
from salt.data.loader import Draws, EpochBatches, TrainTiles
from salt.data.tiles import Tiles
from salt.job import Job
from salt.machine import distributed
from salt.machine.device import Runtime, explain_full_gpu
from salt.models.segmenter import Segmenter
from salt.runs.files import sha256
from salt.runs.rundir import has_checkpoint, how_to_remake, snapshot_file
from salt.runs.stacks import as_stack
from salt.runs.weights import load_weights
from salt.training import checkpoint
from salt.training.averaging import Averaging
from salt.training.loggers import NoLogger, SafeLogger
from salt.training.schedule import snapshot_epochs
from salt.training.state import Ahead, Fold, FoldState, NormBackup
from salt.training.warmstart import first_weights

log = logging.getLogger(__name__)

OFTEN = 10  # times that an epoch has a tile without a mask


@explain_full_gpu()
def make_state(job: Job, number: int, steps_per_epoch: int) -> FoldState:
    """Return the state of a fold: the one in its checkpoint, or a new one whose network has its first weights."""
    config, path, model = job.config, job.directory.fold_path(number), job.network.model
    resumes = has_checkpoint(path)
    if not resumes:
        set_first_weights(job, number)
    optimizer = build_optimizer(config, model)
    state = FoldState(
        model=model,
        average=build_averaging(config, model),
        optimizer=optimizer,
        schedule=build_schedule(config, optimizer, steps_per_epoch),
        scaler=build_scaler(job.runtime),
        epochs=config.trainer.epochs,
        steps_per_epoch=steps_per_epoch,
    )
    if resumes:
        checkpoint.load(state, path)
        snapshot_files(state, path)  # report a lost snapshot now, not at the end
        log.info("%s resumes after epoch %d, step %d", path, state.epoch, state.current.steps)
    return state


def set_first_weights(job: Job, number: int) -> None:
    """Load new weights into the network: those of the run that `init` names, or random ones with the encoder's own."""
    config, model = job.config, job.network.model
    first = first_weights(job, number)
    model.load_state_dict(build.build_model(build.without_weights(config) if first else config).state_dict())
    if first is not None:
        load_weights(model, first)
        path = job.directory.fold_path(number)
        log.info("%s starts from the weights in %s, SHA-256 %s", path, first, sha256(first))


def make_fold(job: Job, number: int) -> Fold:
    """Return what the steps of a fold use; the network has its first weights already."""
    loss = build.build_loss(job.config).to(job.runtime.device)
    folds = job.config.fold_list
    later = folds[folds.index(number) + 1 :] if number in folds else []
    return Fold(
        job=job,
        number=number,
        path=job.directory.fold_path(number),
        held_out=job.held_out(number),
        train_forward=wrap_ddp(job.network, loss, job.runtime),
        loss=loss,
        partly_known=job.data.partly_known,
        mix=build.build_augment(job.config).mix,
        norm_backup=NormBackup(job.network.model),
        ahead=Ahead(in_run=len(job.directory.unfinished(later)), in_sweep=job.launch.points_left * len(folds)),
        logger=build_logger(job.config),
    )


def snapshot_files(state: FoldState, path: Path) -> list[Path]:
    """Return the snapshots of the epochs done; raise ValueError if one is missing."""
    files = [snapshot_file(path, epoch) for epoch in snapshot_epochs(state.schedule) if epoch <= state.epoch]
    for file in files:
        if not file.exists():
            raise ValueError(f"{file} is missing. {how_to_remake(file)}")
    return files


def build_optimizer(config: RunConfig, model: nn.Module) -> Optimizer:
    """Return the optimizer: no weight decay for biases and norms, another rate for the encoder (`encoder_lr_scale`)."""
    lr, groups = config.optimizer.lr, []
    for of_encoder, rate in ((False, lr), (True, lr * config.optimizer.encoder_lr_scale)):
        part = [p for name, p in model.named_parameters() if name.startswith("encoder.") == of_encoder]
        groups.append({"params": [p for p in part if p.ndim > 1], "lr": rate})
        groups.append({"params": [p for p in part if p.ndim <= 1], "lr": rate, "weight_decay": 0.0})
    node = config.optimizer.node("encoder_lr_scale")
    # one pass over the weights; and the device itself skips a step without a finite gradient, so the CPU need not wait
    fused = "fused" in inspect.signature(get_target("optimizer", node["_target_"])).parameters
    optimizer: Optimizer = build_part("optimizer", {"fused": True} | node if fused else node, params=groups)
    if isinstance(optimizer, SGD):
        # torch allocates the momentum in the first step; if a fused optimizer skips that, it would be undefined
        for group in optimizer.param_groups:
            for parameter in group["params"] if group["momentum"] else ():
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def build_schedule(config: RunConfig, optimizer: Optimizer, steps_per_epoch: int) -> LRScheduler:
    """Return the schedule of the learning rate, whose step() is called after each training step."""
    steps = {"epochs": config.trainer.epochs, "steps_per_epoch": steps_per_epoch}
    return build_part("schedule", config.schedule.node(), optimizer=optimizer, **steps)


def build_averaging(config: RunConfig, model: nn.Module) -> Averaging:
    """Return the averaged copy of the network, whose weights are the result."""
    return build_part("averaging", config.averaging.node(), model=model)


def build_logger(config: RunConfig) -> SafeLogger:
    """Return the logger of rank 0, and one that does nothing on the other ranks."""
    return SafeLogger(build_part("logger", config.logger.node()) if distributed.is_main() else NoLogger())


def build_scaler(runtime: Runtime) -> torch.amp.GradScaler:
    """Return the GradScaler: it skips steps without a finite gradient; in float16 it also scales the loss."""
    scale = 2.0**16 if runtime.dtype == torch.float16 else 1.0  # 1: no scaling, and train_step keeps it so
    return torch.amp.GradScaler(runtime.device.type, init_scale=scale)


def wrap_ddp(network: Network, loss: nn.Module, runtime: Runtime) -> Forward:
    """Wrap the network in DistributedDataParallel, which averages gradients, if torchrun started several processes."""
    if distributed.world_size() == 1:
        return network.forward
    freeze_unused(network.model, loss, runtime)
    devices = [runtime.device] if runtime.device.type == "cuda" else None
    return DistributedDataParallel(network.forward, device_ids=devices)


def freeze_unused(model: Segmenter, loss: nn.Module, runtime: Runtime) -> None:
    """Freeze layers that no output depends on, as EfficientNet has: the processes would wait for their gradients."""
    trial = copy.deepcopy(model).train()
    masks = torch.zeros(2, 1, *model.tile, device=runtime.device)
    masks[0, :, model.tile[0] // 2 :] = 1
    output = trial(torch.rand_like(masks), masks.new_zeros(2))
    trial.loss(output, masks, loss).backward()
    for own, tried in zip(model.parameters(), trial.parameters(), strict=True):
        own.requires_grad_(tried.grad is not None)


def all_tiles(job: Job, number: int) -> Tiles:
    """Return all tiles of a fold, with those held out: `all_labelled_tiles`, then those with pseudo-labels for it."""
    tiles = all_labelled_tiles(job, number)
    if job.data.unlabelled is None:
        return tiles
    added = job.data.unlabelled.for_training(number, job.config.semi_supervised.least)
    log.info(
        "fold %d: %d of %d tiles without a mask take part, %d in each batch",
        *(number, len(added.ids), len(job.data.unlabelled.tiles.ids), n_pseudo(job.config)),
    )
    return join_tiles(tiles, added)


def make_crops(job: Job, number: int, tiles: Tiles) -> TrainTiles:
    """Return the augmented tiles that a fold trains on, or crops of them."""
    config = job.config
    return TrainTiles(tiles, build.build_augment(config), (config.seed, number), config.data.size, config.data.passes)


def all_labelled_tiles(job: Job, number: int) -> Tiles:
    """Return all tiles with masks, with those held out; what is too near to a held-out line of this fold is unknown."""
    tiles = job.data.train
    if tiles.lines is None:
        return tiles
    parts = parts_to_train(tiles.lines, job.folds == number, job.config.data.gap)
    if all(part.all() for part, fold in zip(parts, job.folds, strict=True) if fold != number):
        return tiles  # nothing is too near
    pixels = [np.broadcast_to(part, image.shape) for part, image in zip(parts, tiles.images, strict=True)]
    tiles = tiles.known_within(as_stack(pixels))
    if not tiles.n_known.any():
        raise ValueError(
            f"data.gap={job.config.data.gap} leaves fold {number} no line to train on; expected a smaller gap or fewer "
            "folds (data.n_folds=1 trains on all lines without a score)"
        )
    return tiles


def training_positions(job: Job, number: int, tiles: Tiles) -> NDArray[np.int64]:
    """Return the positions of the tiles with masks that train a fold."""
    n = len(job.folds)
    return np.flatnonzero((job.folds != number) & (tiles.n_known[:n] > 0))


def epoch_batches(job: Job, number: int, tiles: Tiles) -> EpochBatches:
    """Return the batches of an epoch, without the held-out tiles; `tiles` are all of a fold, or those with a mask."""
    config = job.config
    images = tiles.crops(config.data.size, config.data.passes)
    n = int(np.searchsorted(images, len(job.folds)))  # crops of images with a mask, which come first
    training = np.flatnonzero(np.isin(images[:n], training_positions(job, number, tiles)))
    draws = Draws(
        positions=training,
        empty=training[tiles.coverage[images[training]] == 0],
        empty_share=config.trainer.empty_share,
        pseudo=np.arange(n, len(images)),
        n_pseudo=n_pseudo(config),
    )
    batches = EpochBatches(draws, config.trainer.batch_size, (config.seed, number), distributed.group())
    if batches.repeats > OFTEN:
        log.warning(
            "fold %d: an epoch has each of the %d tiles without a mask up to %d times; more of them, or a lower "
            "semi_supervised.share or least, would be better",
            *(number, len(draws.pseudo), batches.repeats),
        )
    return batches


def n_pseudo(config: RunConfig) -> int:
    """Return how many tiles of a batch have no mask: at least one and not all, unless the share is 0."""
    share, size = config.semi_supervised.share, config.trainer.batch_size
    return min(max(round(share * size), 1), size - 1) if share else 0
