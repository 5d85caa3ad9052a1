"""The settings of a run: their types, units and ranges. One message reports all problems."""

import math
import os
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainSerializer, ValidationError, model_validator

from salt.paths import as_text, on_disk
from salt.sections import Component, Section
from salt.words import problem_in_words


def check_ascending(pair: list[float]) -> list[float]:
    """Refuse two numbers that do not ascend."""
    if not -math.inf < pair[0] < pair[1] < math.inf:
        raise ValueError("expected two ascending numbers")
    return pair


def check_device(text: str) -> str:
    """Check the name of a device."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise ValueError("expected auto, cpu, cuda or cuda:N")
    return text


def check_name(name: str) -> str:
    """Check the name of a folder."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+=,-]{0,254}", name):
        raise ValueError("expected at most 255 letters, digits and _.+=,- with a letter or digit first")
    return name


FOLD_KINDS = ("random", "mosaic", "lines")  # that data.folds names
Stages = Literal["all"] | list[int]
Name = Annotated[str, AfterValidator(check_name)]
Device = Annotated[str, AfterValidator(check_device)]
# Few shells replace the ~ in key=~/path.
PathText = Annotated[
    str, AfterValidator(os.path.expanduser), AfterValidator(on_disk), PlainSerializer(as_text, when_used="json")
]
Pair = Annotated[list[float], Field(min_length=2, max_length=2), AfterValidator(check_ascending)]

# Checkpoints do not hold these, so a new value takes effect at the next step.
Acceptable = Literal["trainer.batch_size", "trainer.clip", "trainer.compile", "trainer.channels_last"]


class Amplitudes(Section):
    """How 16-bit and float amplitudes become grey values 0-255; images of eight bits stay as they are."""

    per: Literal["image", "survey"] = Field(description="scale each image by its own percentiles, or all by one range")
    percentiles: Pair = Field(description="percentiles, 0 ... 100, that become the grey values 0 and 255")
    range: Pair | None = Field(
        description="per=survey: amplitudes that become the grey values 0 and 255; null: the percentiles of all images"
    )

    @model_validator(mode="after")
    def check_range(self) -> "Amplitudes":
        """Refuse a common range if each image has its own."""
        if self.per == "image" and self.range is not None:
            raise ValueError("a range is common to all images, expected per=survey with it")
        return self

    @property
    def pair(self) -> tuple[float, float]:
        return self.percentiles[0], self.percentiles[1]

    @property
    def limits(self) -> tuple[float, float] | None:
        """Return the range, or None while it is unknown."""
        return None if self.range is None else (self.range[0], self.range[1])


class Labels(Section):
    """What the values of a mask mean; 0 is no salt."""

    salt: float | None = Field(
        None, allow_inf_nan=False, description="value of salt in masks, such as 255; null: the only one that is not 0"
    )
    unknown: float | None = Field(
        None,
        allow_inf_nan=False,
        description="value of pixels that nobody interpreted, such as 128; NaN always marks them. They count neither "
        "in training nor in scores",
    )

    @model_validator(mode="after")
    def check_values(self) -> "Labels":
        """Refuse a value with two meanings."""
        if self.salt == 0 or self.unknown == 0:
            raise ValueError("0 is no salt, expected other values")
        if self.salt is not None and self.salt == self.unknown:
            raise ValueError("salt and unknown have one value, expected two")
        return self


TWO_VALUES = Labels()  # 0, and one other for salt


class Data(Component):
    """Where the tiles come from and how they are divided into folds; the source's own settings lie beside these."""

    root: PathText = Field(description="folder or file of the data")
    n_folds: int = Field(ge=1, description="number of folds; 1: all images train, and nothing is scored")
    fold_seed: int = Field(ge=0, description="seed of the folds, which `seed` leaves as they are")
    folds: PathText | None = Field(
        description="random, mosaic (sections stay whole), lines (blocks of neighbouring lines, data=segy) or a CSV "
        "id,fold; null: the data's own folds.csv, else lines if there are any, else random"
    )
    gap: int = Field(  # with a default: runs of earlier versions lack it
        0,
        ge=0,
        le=1000,
        description="data=segy: line numbers between training and held-out lines that take no part in training",
    )
    mosaic: PathText | None = Field(description="CSV of salt-data mosaic; null: the data's own mosaic.csv, if any")
    unlabelled: PathText | None = Field(description="other data of this kind whose test images are used; null: root")
    pseudo: PathText | None = Field(description="semi-supervised=pseudo: file of salt-pseudo")
    tile: Annotated[list[Annotated[int, Field(ge=32)]], Field(min_length=2, max_length=2)] | None = Field(
        description="height and width in pixels, 32 or more, that the network is trained on; null: the images' own "
        "size if all have one that fits, else crops of input.size"
    )
    passes: int = Field(  # with a default: runs of earlier versions lack it
        1, ge=1, description="times that the random crops of an epoch cover the images' known area"
    )
    amplitudes: Amplitudes = Field(description="how 16-bit and float images become grey values")
    nodata: float | None = Field(
        allow_inf_nan=False,
        description="amplitude of missing pixels, such as -9999; NaN and pixels that a TIFF masks are always missing",
    )
    labels: Labels = Field(  # with a default: runs of earlier versions lack it
        TWO_VALUES, description="what the values of a mask mean"
    )
    constant_tiles: Literal["empty", "model"] = Field(
        description="images of one grey value: predict no salt, or leave them to the network"
    )

    def source(self) -> dict[str, Any]:
        """Return the node of the class that reads the data: `_target_`, root and its own settings."""
        return self.node(*(type(self).model_fields.keys() - {"target", "root"}))

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width of `tile`; call it after the data is read."""
        assert self.tile is not None
        height, width = self.tile
        return height, width


class Input(Component):
    """How a tile becomes the network's input."""

    channels: Literal["image", "depth", "depth_z"] = Field(
        description="depth: image, relative depth in the tile, and their product; depth_z: also the depth in the survey"
    )
    mean: float | None = Field(
        allow_inf_nan=False, description="grey level in [0, 1] that becomes 0; null: the encoder's"
    )
    std: float | None = Field(gt=0, allow_inf_nan=False, description="spread that becomes 1; null: the encoder's")


class EncoderConfig(Section):
    """Which encoder, where its weights come from, and how its first layers work."""

    name: str | None = Field(description="name in segmentation-models-pytorch, or in timm after tu-; null: no encoder")
    weights: PathText | None = Field(description="imagenet, a .safetensors or .pth file, or null for random weights")
    stem: str = Field(
        description="default; no_maxpool, stride1: more resolution (ResNet, SENet; EfficientNet of timm: stride1)"
    )


class Attention(Component):
    """The gate, and the stages it follows."""

    encoder: Stages = Field(description="gated encoder stages: all, or a list of 1 (stride 2) to 5 (stride 32)")
    decoder: Stages = Field(description="gated decoder stages: all, or a list of 1 (deepest) to 5")


class Optimizer(Component):
    """An optimizer of torch."""

    lr: float = Field(gt=0, allow_inf_nan=False, description="learning rate")
    encoder_lr_scale: float = Field(
        gt=0, allow_inf_nan=False, description="times lr for the encoder; below 1 keeps more of its ImageNet weights"
    )


class SemiSupervised(Section):
    """Training with pseudo-labels: masks that an earlier run predicted."""

    share: float = Field(ge=0, lt=1, description="share of a batch's tiles that have a pseudo-label; 0: none")
    least: float = Field(ge=0, le=1, description="confidence from which a pseudo-label is used")


class Trainer(Section):
    """How a fold is trained."""

    epochs: int = Field(ge=1, description="passes over the training tiles")
    batch_size: int = Field(ge=2, description="tiles of a training step; batch norm needs two")
    empty_share: float = Field(
        ge=0, le=1, description="share of the training tiles without salt that an epoch uses; each epoch draws others"
    )
    predict_batch_size: int | None = Field(
        ge=1,
        description="tiles predicted at once; null: at most 8 in each lane of a CPU, on a GPU four times batch_size",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        description="number format of the computation; auto: the one that the device computes fastest"
    )
    compile: bool = Field(
        description="use torch.compile: takes a minute, no gain on a CPU; needs a compiler (GPU: and Python.h)"
    )
    channels_last: bool = Field(description="channels-last memory layout; faster with mixed precision")
    device: Device = Field(description="auto, cpu, cuda, cuda:1 and so on")
    workers: int | None = Field(ge=0, description="loader processes; null: 0 on a CPU, up to 8 with a GPU")
    clip: float | None = Field(gt=0, allow_inf_nan=False, description="largest gradient norm; null: no limit")
    validate_every: int = Field(ge=1, description="epochs between validations; the last epoch is always validated")
    checkpoint_seconds: float = Field(
        ge=0, description="age of a checkpoint, in seconds, after which an epoch ends with a new one; 0: every epoch"
    )
    tta: bool = Field(description="test-time augmentation: average with the prediction of the mirrored tile")
    engine: Literal["torch", "openvino"] = Field(  # with a default: runs of earlier versions lack it
        "torch", description="what predicts held-out and test tiles; openvino (CPU, extra openvino) is faster"
    )


class RunConfig(Section):
    """One run."""

    name: Name = Field(
        description="name of the run; its directory is runs/NAME, with the variable SALT_RUNS set $SALT_RUNS/NAME"
    )
    seed: int = Field(ge=0, description="seed of weights, order and augmentation; the folds have data.fold_seed")
    folds: Stages = Field(description="folds to train: all, or a list such as [0,2]")
    init: PathText | None = Field(
        description="run that fold k starts from, mostly from its fold k; null: the encoder's weights"
    )
    dry_run: bool = Field(description="check everything, print the plan and the time it needs, and stop")
    restart: bool | Literal["finished"] = Field(
        description="true: delete a run of this name first, if none of its folds is finished; finished: delete any"
    )
    accept: list[Acceptable] = Field(description="settings that may change when the run resumes, such as trainer.clip")
    report: bool = Field(description="write report.html at the end")
    data: Data = Field(description="where the tiles come from, and the folds")
    input: Input = Field(description="how a tile becomes the network's input")
    encoder: EncoderConfig = Field(description="the encoder, its weights and its stem")
    attention: Attention = Field(description="gates in encoder and decoder")
    center: Component = Field(description="context block between encoder and decoder")
    decoder: Component = Field(description="the decoder; tiramisu brings its own encoder")
    hypercolumn: Component = Field(description="decoder stages that the head sees")
    deep_supervision: Component = Field(description="extra heads during training")
    loss: Component = Field(description="segmentation loss")
    augment: Component = Field(description="random changes of training tiles")
    optimizer: Optimizer = Field(description="optimizer and learning rate")
    schedule: Component = Field(description="learning rate over the steps")
    averaging: Component = Field(description="which weights are the result")
    logger: Component = Field(description="what other programs show while a run trains")
    semi_supervised: SemiSupervised = Field(description="what training does with tiles that have no mask")
    trainer: Trainer = Field(description="epochs, batch, precision and device")

    @property
    def fold_list(self) -> list[int]:
        return list(range(self.data.n_folds)) if self.folds == "all" else list(self.folds)


def check_config(raw: dict[str, Any]) -> RunConfig:
    """Return a typed, frozen config; raise ValueError with a line for each wrong setting."""
    problems: list[str] = []
    config = None
    try:
        config = RunConfig.model_validate(raw)
    except ValidationError as error:
        problems += [problem_in_words(detail, RunConfig) for detail in error.errors()]
    problems += check_folds(raw.get("folds"), raw.get("data"))
    if config is not None and config.semi_supervised.share and config.data.pseudo is None:
        problems.append("semi-supervised=pseudo needs data.pseudo=FILE, which salt-pseudo RUN writes")
    if problems or config is None:
        count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise ValueError(f"the config has {count}:\n  " + "\n  ".join(problems))
    return config


def check_folds(folds: object, data: object) -> list[str]:
    """Return the problems between `folds` and `data.n_folds`; pydantic reports wrong types."""
    n_folds = data.get("n_folds") if isinstance(data, dict) else None
    if not isinstance(folds, list) or not isinstance(n_folds, int) or not all(isinstance(f, int) for f in folds):
        return []
    if not folds or len(set(folds)) < len(folds) or not set(folds) <= set(range(n_folds)):
        more = f"; for more folds set data.n_folds={max(folds) + 1}" if folds and max(folds) >= n_folds else ""
        return [f"folds: expected distinct folds of 0..{n_folds - 1} (data.n_folds={n_folds}), found {folds}{more}"]
    return []
