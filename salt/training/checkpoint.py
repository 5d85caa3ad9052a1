"""Checkpoints: last.pt holds the state of a fold, with checksums, and previous.pt the one before."""

import csv
import errno
import io
import logging
import os
import warnings
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from salt.machine.distributed import is_main
from salt.runs.files import BROKEN, first_line, rename, write_atomic, write_text
from salt.runs.weights import describe_mismatch
from salt.training.schedule import Plateau
from salt.training.state import PARTS, Clock, Epoch, FoldState

log = logging.getLogger(__name__)

FORMAT = 3  # of last.pt
MEMBERS = {*PARTS, "epoch", "current", "steps_per_epoch", "rows", "clock"}  # of last.pt


class Damaged(ValueError):
    """A checkpoint's bytes are not the ones that were written."""


def write_table(state: FoldState, path: Path) -> None:
    """Write metrics.csv; if it is some epochs ahead of last.pt, a fold that resumes writes them again."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(state.rows[-1]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(state.rows)
    write_text(path / "metrics.csv", text.getvalue())


def save(state: FoldState, path: Path) -> None:
    """Write last.pt atomically on rank 0; the one before becomes previous.pt. Raise OSError if disk or device fail."""
    if not is_main():
        return
    content = {"format": FORMAT, "epoch": state.epoch, "current": vars(state.current)}
    content |= {"steps_per_epoch": state.steps_per_epoch, "rows": state.rows, "clock": vars(state.clock)}
    buffer = io.BytesIO()
    try:
        content |= {name: part.state_dict() for name, part in state.parts().items()}  # the scaler's asks the device
        torch.save(content, buffer)  # not yet to the disk: what fails here is the device or the host's memory
    except RuntimeError as error:  # `defer_signals` would take it for the end of a compiler by a signal
        raise OSError(f"{path / 'last.pt'} is not written: {first_line(error)}. What was there is kept.") from error
    write_atomic(path / "last.pt", lambda file: file.write_bytes(buffer.getbuffer()), spare=path / "previous.pt")


def load(state: FoldState, path: Path) -> None:
    """Fill a state from last.pt, or previous.pt if that is damaged; raise OSError or ValueError if neither works."""
    damaged = []
    for file in (path / "last.pt", path / "previous.pt"):
        if not file.exists():
            continue
        try:
            content = read_checkpoint(file)
        except Damaged as error:
            damaged.append(str(error))
            continue
        fill(state, content, file)
        for message in damaged:
            log.warning("%s. Resuming from %s; the damaged file was renamed to damaged.pt.", message, file)
            rename(path / "last.pt", path / "damaged.pt")  # else the next save would make it the backup
        return
    raise ValueError(f"{'; '.join(damaged)}. Delete them to train this fold again from its beginning.")


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Return the content of a checkpoint; raise Damaged for other bytes than written, ValueError for another format."""
    stored = io.BytesIO(file.read_bytes())
    try:
        with zipfile.ZipFile(stored) as archive:
            broken = archive.testzip()  # torch itself does not check the checksums
    except BROKEN as error:
        raise Damaged(f"{file} is damaged: {error}") from None
    if broken is not None:
        raise Damaged(f"{file} is damaged: the checksum of {broken} is wrong")
    stored.seek(0)
    try:
        content = torch.load(stored, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ValueError(f"{file} cannot be used, it is no checkpoint of salt: {first_line(error)}") from None
    except Exception as error:  # torch raises many kinds; it reads zip archives more strictly than Python
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), str(file)) from error
        raise Damaged(f"{file} is damaged: {first_line(error)}") from None
    version = content.get("format") if isinstance(content, dict) else None
    if version not in (None, FORMAT):
        raise ValueError(f"{file} cannot be used: its format is {version}, this version of salt reads {FORMAT}")
    if version is None or not content.keys() >= MEMBERS:
        raise ValueError(f"{file} cannot be used, it is no checkpoint of salt")
    return content


def fill(state: FoldState, content: dict[str, Any], file: Path) -> None:
    """Put a checkpoint into a state; with another batch size the schedule starts at the same part of the epochs."""
    before = content["steps_per_epoch"]
    # a schedule by steps then has other steps than in the checkpoint; Plateau counts epochs
    moved = before != state.steps_per_epoch and not isinstance(state.schedule, Plateau)
    if moved:  # before the optimizer is filled: some schedules compute a rate from the one before
        done = content["epoch"] * before + content["current"]["steps"]
        advance(state.schedule, rescale(done, before, state.steps_per_epoch))
    fill_parts(state, content, file, kept={"schedule"} if moved else set())
    if moved:
        set_rates(state)
    state.epoch, state.rows, state.clock = content["epoch"], content["rows"], Clock(**content["clock"])
    state.current = Epoch(**content["current"])
    state.current.steps = rescale(state.current.steps, before, state.steps_per_epoch)


def rescale(steps: int, before: int, now: int) -> int:
    """Return how many steps do the same part of an epoch, if it had `before` steps and has `now`."""
    return steps * now // before


def set_rates(state: FoldState) -> None:
    """Give the optimizer the learning rates of the schedule."""
    for group, rate in zip(state.optimizer.param_groups, state.schedule.get_last_lr(), strict=True):
        group["lr"] = rate


def fill_parts(state: FoldState, content: dict[str, Any], file: Path, kept: set[str]) -> None:
    """Load the parts of a checkpoint, except those `kept` as they are; raise ValueError if one is of another run."""
    for name, part in state.parts().items():
        if name in kept:
            continue
        if name == "scaler" and content[name].get("scale") == 1:  # of a number format that needs no scale (step.py)
            continue
        other = describe_mismatch(part, content[name]) if isinstance(part, nn.Module) else None
        try:
            if other is None:
                part.load_state_dict(content[name])  # a RuntimeError would be one of the device
        except (ValueError, KeyError) as error:
            other = first_line(error)
        if other is not None:
            raise ValueError(f"{file} cannot be used, its {name} is of another run: {other}")
    match_layout(state.optimizer)


def match_layout(optimizer: torch.optim.Optimizer) -> None:
    """Give the moments the memory layout of their weights, which a fused optimizer needs and channels_last changes."""
    for weights, moments in optimizer.state.items():
        for name, value in moments.items():
            if isinstance(value, Tensor) and value.shape == weights.shape and value.stride() != weights.stride():
                moments[name] = torch.empty_like(weights, dtype=value.dtype).copy_(value)


def advance(schedule: LRScheduler, steps: int) -> None:
    """Move a new schedule forward by some steps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch warns that no step of the optimizer came before
        for _ in range(steps):
            schedule.step()
