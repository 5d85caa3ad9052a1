"""What a fold begins with: its state, fresh or from a checkpoint, and the network as training calls it."""

import copy
import inspect
import logging
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from salt import build
from salt.build import Forward, Network, get_target
from salt.config import RunConfig
from salt.job import Job
from salt.machine import distributed
from salt.machine.device import Runtime, full_gpu_named
from salt.models.segmenter import Segmenter
from salt.runs.files import sha256
from salt.runs.rundir import has_checkpoint, how_to_remake, snapshot_file
from salt.runs.weights import load_weights
from salt.training import checkpoint
from salt.training.averaging import Averaging
from salt.training.loggers import Harmless, NoLogger
from salt.training.schedule import snapshot_epochs
from salt.training.state import Ahead, Fold, State, Statistics
from salt.training.warmstart import first_weights

log = logging.getLogger(__name__)


@full_gpu_named()
def make_state(job: Job, fold: int, steps_per_epoch: int) -> State:
    """Return the state of a fold: that in its checkpoint, or a new one around the network, with its first weights."""
    config, path, model = job.config, job.path(fold), job.network.model
    resumed = has_checkpoint(path)
    if not resumed:
        set_first_weights(job, fold)
    optimizer = build_optimizer(config, model)
    state = State(
        model=model,
        average=build_averaging(config, model),
        optimizer=optimizer,
        schedule=build_schedule(config, optimizer, steps_per_epoch),
        scaler=build_scaler(job.runtime),
        epochs=config.trainer.epochs,
        steps_per_epoch=steps_per_epoch,
    )
    if resumed:
        checkpoint.load(state, path)
        snapshots(state, path)  # report a lost snapshot now, not at the end
        log.info("%s resumes after epoch %d, step %d", path, state.epoch, state.current.steps)
    return state


def set_first_weights(job: Job, fold: int) -> None:
    """Give the network new random weights with the encoder's own, or those of the run that `init` names."""
    config, model = job.config, job.network.model
    first = first_weights(config, fold)
    model.load_state_dict(build.build_model(build.without_weights(config) if first else config).state_dict())
    if first is not None:
        load_weights(model, first)
        log.info("%s starts from the weights in %s, SHA-256 %s", job.path(fold), first, sha256(first))


def make_fold(job: Job, number: int) -> Fold:
    """Return what the steps of a fold work with; the network has its first weights already."""
    loss = build.build_loss(job.config).to(job.runtime.device)
    later = job.config.fold_list[job.config.fold_list.index(number) + 1 :] if number in job.config.fold_list else []
    return Fold(
        job=job,
        number=number,
        train_forward=wrap_ddp(job.network, loss, job.runtime),
        loss=loss,
        mix=build.build_augment(job.config).mix,
        statistics=Statistics(job.network.model),
        ahead=Ahead(
            in_run=len(job.directory.unfinished(later)),
            in_sweep=job.place.points_left * len(job.config.fold_list),
        ),
        logger=build_logger(job.config),
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
