"""What a run is made of: names, types, units and ranges of every setting. Every problem is reported, in one message."""

import difflib
import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from salt.paths import Place


def check_ascending(pair: list[float]) -> list[float]:
    """Two ascending numbers."""
    if not -math.inf < pair[0] < pair[1] < math.inf:
        raise ValueError("expected two ascending numbers")
    return pair


Stages = Literal["all"] | list[int]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+=,-]*$", max_length=255)]  # of a folder
Pair = Annotated[list[float], Field(min_length=2, max_length=2), AfterValidator(check_ascending)]

# Old places of classes: runs of earlier versions and a user's YAML files may name them there.
MOVED = {
    **{f"salt.averaging.{name}": f"salt.training.averaging.{name}" for name in ("Last", "EMA", "SWA")},
    **{
        f"salt.schedule.{name}": f"salt.training.schedule.{name}"
        for name in ("cosine", "CosineRestarts", "onecycle", "poly", "Plateau")
    },
    "salt.losses.combine.Step": "salt.losses.combine.StepChange",
    "salt.losses.combine.Linear": "salt.losses.combine.LinearChange",
    "salt.models.supervision.Supervision": "salt.models.supervision.NoDeepSupervision",
}

# The keys that `accept` may name. A changed value takes effect at the next step: checkpoints do not hold it.
# For another number of epochs a new schedule is brought to the epoch that is done.
ACCEPTABLE = ("trainer.batch_size", "trainer.clip", "trainer.compile", "trainer.channels_last", "trainer.epochs")


class Section(BaseModel):
    """Settings that the code knows by name; anything else is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Component(BaseModel):
    """A choice: the class or function named by `_target_`, with its own hyper-parameters beside it."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, populate_by_name=True)

    target: str = Field(alias="_target_")

    def node(self, *without: str) -> dict[str, Any]:
        """The plain node to build from, less the keys that the class itself does not take."""
        return {k: v for k, v in self.model_dump(by_alias=True).items() if k not in without}


class Amplitudes(Section):
    """How 16-bit and float amplitudes become grey values 0-255; images of eight bits stay as they are."""

    per: Literal["image", "survey"] = Field(description="scale each image by its own percentiles, or all by one range")
    percentiles: Pair = Field(description="percentiles, 0 ... 100, that become the grey values 0 and 255")
    range: Pair | None = Field(
        description="per=survey: amplitudes that become the grey values 0 and 255; null: the percentiles of all images"
    )

    @model_validator(mode="after")
    def check_range(self) -> "Amplitudes":
        """Refuse a common range where each image has its own."""
        if self.per == "image" and self.range is not None:
            raise ValueError("a range is common to all images, expected per=survey with it")
        return self

    @property
    def pair(self) -> tuple[float, float]:
        """The percentiles."""
        return self.percentiles[0], self.percentiles[1]

    @property
    def limits(self) -> tuple[float, float] | None:
        """The range, if it is known."""
        return None if self.range is None else (self.range[0], self.range[1])


class Data(Component):
    """Where the tiles come from and how they are divided into folds; the source's own settings lie beside these."""

    root: Place = Field(description="folder or file of the data")
    n_folds: int = Field(ge=2, description="number of folds")
    fold_seed: int = Field(ge=0, description="seed of the folds, which `seed` leaves as they are")
    folds: Place | None = Field(
        description="random, mosaic (sections stay whole) or a CSV id,fold; null: the data's own folds.csv, else random"
    )
    mosaic: Place | None = Field(description="CSV of salt-data mosaic; null: the data's own mosaic.csv, if any")
    unlabelled: Place | None = Field(description="other data of this kind whose test images are used; null: root")
    pseudo: Place | None = Field(description="semi-supervised=pseudo: file of salt-pseudo")
    tile: Annotated[list[Annotated[int, Field(ge=32)]], Field(min_length=2, max_length=2)] | None = Field(
        description="height and width in pixels, 32 or more, that the network is trained on; null: the images' own "
        "size if all have one that fits, else crops of input.size"
    )
    amplitudes: Amplitudes = Field(description="how 16-bit and float images become grey values")
    nodata: float | None = Field(
        allow_inf_nan=False,
        description="amplitude of missing pixels, such as -9999; NaN and pixels that a TIFF masks are always missing",
    )
    constant_tiles: Literal["empty", "model"] = Field(
        description="images of one grey value: predict no salt, or leave them to the network"
    )

    def source(self) -> dict[str, Any]:
        """Return the node of the class that reads the data: `_target_`, root and its own settings."""
        return self.node(*(type(self).model_fields.keys() - {"target", "root"}))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of `tile`, which is known once the data was read."""
        assert self.tile is not None
        height, width = self.tile
        return height, width


class Input(Component):
    """How a tile becomes the network's input."""

    channels: Literal["image", "depth", "depth_z"]
    mean: float | None = Field(allow_inf_nan=False)  # grey level in [0, 1] that becomes 0; null: as the encoder expects
    std: float | None = Field(gt=0, allow_inf_nan=False)  # spread of the grey level that becomes 1; null: as mean


class Encoder(Section):
    """Which encoder, where its weights come from, and how its first layers work."""

    name: str | None  # null: the decoder brings its own
    weights: Place | None  # imagenet, null (random), or a local .safetensors or .pth file
    stem: str


class Attention(Component):
    """The gate, and the stages it follows."""

    encoder: Stages  # 1 (stride 2) ... 5 (stride 32)
    decoder: Stages  # 1 (deepest) ... 5


class Optimizer(Component):
    """An optimizer of torch."""

    lr: float = Field(gt=0, allow_inf_nan=False)
    encoder_lr_scale: float = Field(gt=0, allow_inf_nan=False)  # the encoder's learning rate is lr times this


class SemiSupervised(Component):
    """What training does with tiles that have no mask."""

    share: float = Field(ge=0, lt=1)  # of a batch's tiles


class Trainer(Section):
    """How a fold is trained."""

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=2)  # tiles; batch norm needs two
    empty_share: float = Field(ge=0, le=1)  # of the tiles without salt, in an epoch; others are drawn for the next
    predict_batch_size: int | None = Field(ge=1)  # tiles; null: batch_size, on a GPU four times as many
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    compile: bool
    channels_last: bool
    device: str = Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    workers: int | None = Field(ge=0)  # loader processes; null: 0 on CPU, up to 8 with a GPU
    clip: float | None = Field(gt=0, allow_inf_nan=False)  # largest gradient norm; null: no limit
    validate_every: int = Field(ge=1)  # epochs; the last epoch always
    checkpoint_seconds: float = Field(ge=0)  # age at which an epoch's end replaces the last checkpoint
    tta: bool  # average with the prediction of the mirrored tile


class RunConfig(Section):
    """One run."""

    name: Name
    seed: int = Field(ge=0)
    folds: Stages  # the folds to train: all, or a list such as [0,2]
    init: Place | None  # a run directory: fold k begins with the weights of its fold k; null: with the encoder's
    dry_run: bool
    accept: list[str]  # keys whose value may differ from the run that goes on, such as trainer.batch_size
    report: bool = True  # write report.html at the end; a run of an earlier version lacks the key
    data: Data
    input: Input
    encoder: Encoder
    attention: Attention
    center: Component
    decoder: Component
    hypercolumn: Component
    deep_supervision: Component
    loss: Component
    augment: Component
    optimizer: Optimizer
    schedule: Component
    resolution: Component
    averaging: Component
    logger: Component = Component(target="salt.reporting.loggers.NoLogger")  # runs of earlier versions lack it
    semi_supervised: SemiSupervised = SemiSupervised(target="salt.training.semi.Supervised", share=0.0)
    trainer: Trainer

    @property
    def fold_list(self) -> list[int]:
        """The folds to train, as numbers."""
        return list(range(self.data.n_folds)) if self.folds == "all" else list(self.folds)


def check_config(raw: dict[str, Any]) -> RunConfig:
    """A typed, frozen config from plain containers.

    Raises:
        ValueError: all problems together, each with its full key, what was expected and what was found.
    """
    raw = with_new_places(raw)
    problems: list[str] = []
    config = None
    try:
        config = RunConfig.model_validate(raw)
    except ValidationError as error:
        problems += [describe(detail) for detail in error.errors()]
    problems += check_folds(raw.get("folds"), raw.get("data"))
    problems += check_accept(raw.get("accept"), raw.get("schedule"))
    if problems or config is None:
        count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise ValueError(f"the config has {count}:\n  " + "\n  ".join(problems))
    return config


def with_new_places(node: Any, key: str = "") -> Any:
    """The same settings, with each class and setting that has moved at its new place."""
    if isinstance(node, dict):
        return {k: with_new_places(value, k) for k, value in node.items()}
    if isinstance(node, list):
        return [with_new_places(value) for value in node]
    if key == "_target_" and isinstance(node, str):
        return MOVED.get(node, node)
    return node


def check_name(name: object) -> None:
    """Check the setting `name` alone, for where a folder is made before the rest is known.

    Raises:
        ValueError: it is no plain name.
    """
    try:
        TypeAdapter(Name).validate_python(name, strict=True)
    except ValidationError as error:
        raise ValueError(describe(error.errors()[0] | {"loc": ("name",)})) from None


def check_folds(folds: object, data: object) -> list[str]:
    """Problems between `folds` and `data.n_folds`; wrong types are reported by the types themselves."""
    n_folds = data.get("n_folds") if isinstance(data, dict) else None
    if not isinstance(folds, list) or not isinstance(n_folds, int) or not all(isinstance(f, int) for f in folds):
        return []
    if not folds or len(set(folds)) < len(folds) or not set(folds) <= set(range(n_folds)):
        more = f"; for more folds set data.n_folds={max(folds) + 1}" if folds and max(folds) >= n_folds else ""
        return [f"folds: expected distinct folds of 0..{n_folds - 1} (data.n_folds={n_folds}), found {folds}{more}"]
    return []


def check_accept(accept: object, schedule: object) -> list[str]:
    """Problems of `accept`: only some keys may change when a run resumes."""
    keys = [key for key in accept if isinstance(key, str)] if isinstance(accept, list) else []
    bad = [key for key in keys if key not in ACCEPTABLE]
    problems = [f"accept: expected some of {', '.join(ACCEPTABLE)}, found {bad}"] if bad else []
    if "trainer.epochs" in keys and isinstance(schedule, dict) and "CosineRestarts" in str(schedule.get("_target_")):
        problems.append(
            "accept: trainer.epochs cannot change with schedule=cosine_restarts: its cycles have one length"
        )
    return problems


def describe(detail: Any) -> str:
    """One line for one problem found by pydantic."""
    # pydantic adds the branch of a union ("list[int]") to the key; the user knows only names and list positions
    key = ".".join(str(part) for part in detail["loc"] if not str(part).startswith(("list[", "literal[")))
    found = detail["input"]
    if detail["type"] == "extra_forbidden":
        return f"{key}: unknown key{near_keys(detail['loc'])}"
    if detail["type"] == "missing":
        in_option = "; each option's YAML has it" if len(detail["loc"]) == 2 and isinstance(found, dict) else ""
        return f"{key}: is missing{in_option}"
    if detail["type"] == "model_type" and isinstance(found, str) and len(detail["loc"]) == 1:
        return f"{key}={found}: {key} has the group's settings; choose an option with {key.replace('_', '-')}={found}"
    return f"{key}: {detail['msg'][0].lower()}{detail['msg'][1:]}, found {found!r}"


def near_keys(loc: tuple[str | int, ...]) -> str:
    """The nearest known key of the section that an unknown key stands in."""
    section: Any = RunConfig
    for part in loc[:-1]:
        section = section.model_fields[part].annotation
    near = difflib.get_close_matches(str(loc[-1]), getattr(section, "model_fields", {}), n=1)
    return f"; did you mean {'.'.join([*map(str, loc[:-1]), near[0]])}?" if near else ""
