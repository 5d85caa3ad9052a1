"""All that changes while a fold trains, and its file: checked when read, with the one before as a spare."""

import csv
import io
import logging
import warnings
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from salt.data.archive import BROKEN
from salt.models.segmenter import Segmenter
from salt.runs.files import rename, write_atomic, write_text
from salt.runs.rundir import remake
from salt.training.averaging import Last
from salt.training.schedule import Plateau

log = logging.getLogger(__name__)

WARMUP_STEPS = 10  # not counted in images per second: compilation, caches
FORMAT = 2  # of last.pt
PARTS = ("model", "average", "optimizer", "schedule", "scaler")  # of a state, with a state_dict
MEMBERS = {*PARTS, "epoch", "current", "steps_per_epoch", "rows", "clock"}  # of last.pt

Row = dict[str, float | int | None]  # of metrics.csv


@dataclass
class Clock:
    """Time of a fold over all its processes: `seconds` of everything, and of counted training steps alone."""

    seconds: float = 0.0
    train_seconds: float = 0.0
    train_images: int = 0
    warmup_seconds: float = 0.0
    warmup_images: int = 0
    steps: int = 0  # of this process: the first ones are slow

    def count_step(self, seconds: float, n_images: int) -> None:
        """Add one training step."""
        self.steps += 1
        if self.steps <= WARMUP_STEPS:
            self.warmup_seconds += seconds
            self.warmup_images += n_images
        else:
            self.train_seconds += seconds
            self.train_images += n_images

    @property
    def images_per_second(self) -> float:
        """Training throughput, data loading included; of the warm-up, if a fold is so short that there is no more."""
        if self.train_seconds:
            return self.train_images / self.train_seconds
        return self.warmup_images / self.warmup_seconds if self.warmup_seconds else 0.0


@dataclass
class Epoch:
    """What is known of the epoch that is under way."""

    steps: int = 0  # done
    skipped: int = 0  # steps without a finite loss and gradient
    losses: list[float] = field(default_factory=list)  # of the other steps

    @property
    def mean(self) -> float:
        """Mean loss so far."""
        return sum(self.losses) / max(len(self.losses), 1)


@dataclass
class State:
    """All that changes in training; `last.pt` holds just this."""

    model: Segmenter
    average: Last
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    steps_per_epoch: int
    epoch: int = 0  # epochs done
    current: Epoch = field(default_factory=Epoch)
    rows: list[Row] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)

    def parts(self) -> dict[str, Any]:
        """The members that have a state_dict."""
        return {name: getattr(self, name) for name in PARTS}


class Damaged(ValueError):
    """A checkpoint's bytes are not the ones that were written."""


def write_table(state: State, path: Path) -> None:
    """Write metrics.csv; it may be some epochs ahead of last.pt, and a fold that goes on writes them again."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(state.rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(state.rows)
    write_text(path / "metrics.csv", text.getvalue())


def save(state: State, path: Path) -> None:
    """Write last.pt atomically; the checkpoint before stays as previous.pt."""
    content = {name: part.state_dict() for name, part in state.parts().items()}
    clock = vars(state.clock) | {"steps": 0}
    content |= {"format": FORMAT, "epoch": state.epoch, "current": vars(state.current)}
    content |= {"steps_per_epoch": state.steps_per_epoch, "rows": state.rows, "clock": clock}
    write_atomic(path / "last.pt", lambda temporary: torch.save(content, temporary), spare=path / "previous.pt")


def load(state: State, path: Path) -> None:
    """Fill a state from last.pt; from previous.pt, with a warning, where last.pt is damaged and set aside.

    Raises:
        ValueError: both are damaged; or the file is of another format or network, or holds Python objects.
    """
    damaged = []
    for file in (path / "last.pt", path / "previous.pt"):
        if not file.exists():
            continue
        try:
            content = read(file)
        except Damaged as error:
            damaged.append(str(error))
            continue
        fill(state, content, file)
        for message in damaged:
            log.warning("%s; going on from %s; until the fold is done it is kept as damaged.pt", message, file)
            rename(path / "last.pt", path / "damaged.pt")  # or the next save would make it the spare
        return
    raise ValueError(f"{'; '.join(damaged)}. Delete them to train this fold again from its beginning.")


def read(file: Path) -> dict[str, Any]:
    """The content of a checkpoint.

    Raises:
        Damaged: its bytes are not the ones that were written.
        ValueError: it is of another format, or holds more than numbers, texts and tensors.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            broken = archive.testzip()  # torch itself does not look at the checksums
    except BROKEN as error:
        raise Damaged(f"{file} is damaged: {error}") from None
    if broken is not None:
        raise Damaged(f"{file} is damaged: the checksum of {broken} is wrong")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ValueError(f"{file} cannot be used, it is no checkpoint of salt: {first_line(error)}") from None
    except Exception as error:  # torch raises many kinds; it reads zip archives more strictly than Python
        raise Damaged(f"{file} is damaged: {first_line(error)}") from None
    if not isinstance(content, dict) or "format" not in content:
        raise ValueError(f"{file} cannot be used, it is no checkpoint of salt")
    if content["format"] != FORMAT:
        raise ValueError(
            f"{file} cannot be used: its format is {content['format']}, this version of salt reads {FORMAT}"
        )
    missing = sorted(MEMBERS - content.keys())
    if missing:
        raise ValueError(f"{file} cannot be used, it is no checkpoint of salt: it lacks {', '.join(missing)}")
    return content


def fill(state: State, content: dict[str, Any], file: Path) -> None:
    """Put the content of a checkpoint into a state.

    Raises:
        ValueError: it is of another network or optimizer.
    """
    same_steps = content["steps_per_epoch"] == state.steps_per_epoch
    if not same_steps:
        replay(state, content)
    for name, part in state.parts().items():
        if name == "schedule" and not same_steps and not isinstance(part, Plateau):
            continue
        if name == "scaler" and content[name].get("scale") == 1:  # of a machine where nothing is scaled (see step.py)
            continue
        try:
            part.load_state_dict(content[name])
        except (RuntimeError, ValueError, KeyError) as error:
            raise ValueError(f"{file} cannot be used, its {name} is of another run: {first_line(error)}") from None
    match_layout(state.optimizer)
    if not same_steps and not isinstance(state.schedule, Plateau):
        for group, rate in zip(state.optimizer.param_groups, state.schedule.get_last_lr(), strict=True):
            group["lr"] = rate
    state.epoch, state.rows, state.clock = content["epoch"], content["rows"], Clock(**content["clock"])
    state.current = Epoch(**content["current"])
    if not same_steps:
        state.current.steps = state.current.steps * state.steps_per_epoch // content["steps_per_epoch"]


def match_layout(optimizer: torch.optim.Optimizer) -> None:
    """Give the moments the memory layout of their weights, which trainer.channels_last may have changed.

    A fused optimizer walks over both as they lie in memory; with another layout it would mix up the numbers.
    """
    for weights, moments in optimizer.state.items():
        for name, value in moments.items():
            if isinstance(value, Tensor) and value.shape == weights.shape and value.stride() != weights.stride():
                moments[name] = torch.empty_like(weights, dtype=value.dtype).copy_(value)


def replay(state: State, content: dict[str, Any]) -> None:
    """Bring the schedule to where a run with another batch size was: the same part of its epochs."""
    done = content["epoch"] + content["current"]["steps"] / content["steps_per_epoch"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that no step of the optimizer came before
        for _ in range(int(done * state.steps_per_epoch)):
            state.schedule.step()


def first_line(error: Exception) -> str:
    """The beginning of an error's text."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def save_weights(model: nn.Module, file: Path) -> None:
    """Write a network's weights, atomically."""
    weights = to_safetensors({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()})
    write_atomic(file, lambda temporary: temporary.write_bytes(weights))


def load_weights(model: nn.Module, file: Path) -> None:
    """Give the network the weights in one of a fold's files.

    Raises:
        ValueError: the file is missing, damaged or of another network.
    """
    try:
        model.load_state_dict(load_file(file))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise ValueError(f"{file} cannot be used: {first_line(error)}. {remake(file)}") from error
