"""Encoders of segmentation-models-pytorch for grey tiles: local or ImageNet weights, stem, and attention gates."""

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import timm
from segmentation_models_pytorch.encoders import get_encoder, get_encoder_names
from torch import Tensor, nn

from salt.models.encoder_weights import WEIGHT_PACKAGES, from_hub, load_encoder, packaged_file

N_STAGES = 5  # feature maps, at strides 2, 4, 8, 16, 32 unless the stem is changed
STEMS = ("default", "no_maxpool", "stride1")

# Mean and spread of the grey level in [0, 1] that ImageNet weights were trained with: the mean over the three colours.
IMAGENET = (0.449, 0.226)  # of 0.485, 0.456, 0.406 and 0.229, 0.224, 0.225
SYMMETRIC = (0.5, 0.5)  # grey levels in [-1, 1]
# smp's own encoders that expect other values, by prefix; the hub records them beside the weights
OTHER_SCALES = {
    "inception": SYMMETRIC,
    "xception": SYMMETRIC,
    "timm-tf_efficientnet_lite": SYMMETRIC,
    "dpn": (0.451, 0.235),  # of 124, 117, 104 and 1 / 0.0167, divided by 255
}

Gate = Callable[[int], nn.Module]  # makes a gate for a number of channels

# Modules of the ResNet and SENet families whose output is the feature map of stage 1 ... 5.
_STAGE_MODULES = (("relu", "layer0"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))


class GatedEncoder(nn.Module):
    """Feature maps of an encoder at strides 1 (the input itself), 2, 4 ... 32, gated after the named stages.

    In the ResNet and SENet families a gate follows its stage inside the network, so the next stage sees the gated map;
    in other families it changes only the returned map. `gated_stages=None` gates every stage that has channels.

    The stem of these two families may keep more resolution: `no_maxpool` leaves the max pool out (strides 2, 2, 4, 8,
    16); with `stride1` the first convolution keeps the size of the input (1, 2, 4, 8, 16). timm's EfficientNets have
    no max pool, so they take `stride1` only.

    Shape: (N in_channels H W) to a list of 6 maps (N C_i H_i W_i); `channels` gives C_i.

    Raises:
        ValueError: the encoder or stem is unknown, its weights are missing or do not fit, or a stage cannot be gated.
    """

    def __init__(
        self,
        name: str,
        weights: str | None,
        gate: Gate = nn.Identity,
        gated_stages: Sequence[int] | None = (),
        in_channels: int = 1,
        stem: str = "default",
    ):
        super().__init__()
        self.body = load_body(name, weights, in_channels)
        change_stem(self.body, name, stem)
        self.channels: list[int] = list(self.body.out_channels)  # type: ignore[arg-type]
        self.gates = nn.ModuleDict()
        if gated_stages is None:
            gated_stages = [stage for stage in range(1, N_STAGES + 1) if self.channels[stage]]
        for stage in sorted(set(gated_stages)):
            if not 1 <= stage <= N_STAGES or not self.channels[stage]:
                there = [i for i in range(1, N_STAGES + 1) if self.channels[i]]
                raise ValueError(f"attention.encoder has stage {stage}, expected stages of {there} for {name}")
            module = gate(self.channels[stage])
            inner = next((n for n in _STAGE_MODULES[stage - 1] if hasattr(self.body, n)), None)
            if inner is not None and is_resnet(self.body):
                setattr(self.body, inner, nn.Sequential(getattr(self.body, inner), module))
            else:
                self.gates[str(stage)] = module

    def forward(self, x: Tensor) -> list[Tensor]:
        features: list[Tensor] = list(self.body(x))
        for stage, gate in self.gates.items():
            features[int(stage)] = gate(features[int(stage)])
        return features


class NoEncoder(nn.Module):
    """No encoder, for a decoder that works on the input itself: the list of maps holds only the input.

    Shape: (N in_channels H W) to a list of that.

    Raises:
        ValueError: gated stages, weights or a stem are named.
    """

    def __init__(self, in_channels: int, weights: str | None, stem: str, gated_stages: Sequence[int] | None):
        super().__init__()
        if gated_stages is None or gated_stages:
            raise ValueError("encoder=none has no stages to gate, expected attention.encoder=[]")
        if weights is not None or stem != "default":
            raise ValueError(f"encoder=none takes no encoder.weights={weights}, encoder.stem={stem}")
        self.channels = [in_channels]

    def forward(self, x: Tensor) -> list[Tensor]:
        return [x]


def input_scale(name: str | None) -> tuple[float, float]:
    """Return mean and spread of the grey level in [0, 1] that an encoder's weights expect; timm records its own."""
    name = name or ""
    if name.startswith("tu-"):
        record = timm.get_pretrained_cfg(name.removeprefix("tu-"))
        return IMAGENET if record is None else (fmean(record.mean), fmean(record.std))
    return next((scale for prefix, scale in OTHER_SCALES.items() if name.startswith(prefix)), IMAGENET)


def is_resnet(body: nn.Module) -> bool:
    """Return whether an encoder is of smp's ResNet or SENet families, whose stages and stem can be changed."""
    return hasattr(body, "layer4") and (hasattr(body, "maxpool") or hasattr(body, "layer0_pool"))


def change_stem(body: nn.Module, name: str, stem: str) -> None:
    """Let the first layers keep more resolution; raise ValueError if the stem does not suit the encoder."""
    if stem not in STEMS:
        raise ValueError(f"encoder.stem={stem!r}, expected one of {', '.join(STEMS)}")
    if stem == "default":
        return
    # timm's; the padding of smp's own fits a stride of 2 only
    efficientnet = any(part.rpartition(".")[2] == "conv_stem" for part, _ in body.named_modules())
    if not (is_resnet(body) or (efficientnet and stem == "stride1")):
        and_timm = " and in timm's EfficientNets" if stem == "stride1" else ""
        raise ValueError(
            f"encoder.stem={stem} works in the ResNet and SENet families (resnet34, se_resnext50 ...)"
            f"{and_timm}, not in {name}; expected encoder.stem=default"
            f"{' or stride1' if efficientnet else ''}"
        )
    if stem == "no_maxpool":
        setattr(body, "maxpool" if hasattr(body, "maxpool") else "layer0_pool", nn.Identity())
    else:
        next(m for m in body.modules() if isinstance(m, nn.Conv2d)).stride = (1, 1)


def load_body(name: str, weights: str | None, in_channels: int) -> nn.Module:
    """Return an encoder with weights: random (None), "imagenet" (package or hub), or a .safetensors or .pth file."""
    if not name.startswith("tu-") and name not in get_encoder_names():
        near = difflib.get_close_matches(name, get_encoder_names(), n=5, cutoff=0.4)
        names = ", ".join(near)
        raise ValueError(f"encoder.name={name} is no encoder of segmentation-models-pytorch; near names: {names}")
    try:
        if weights is None:
            return get_encoder(name, in_channels=in_channels, weights=None)
        if weights == "imagenet" and name in WEIGHT_PACKAGES:
            return load_encoder(name, packaged_file(name), in_channels)
        if weights == "imagenet":
            own = True if name.startswith("tu-") else "imagenet"  # timm has one set of weights for each name
            with from_hub(name):
                return get_encoder(name, in_channels=in_channels, weights=own)
        return load_encoder(name, Path(weights), in_channels)
    except KeyError as error:
        raise ValueError(f"encoder.weights={weights}: {error.args[0]}") from None
    except ValueError as error:  # smp's message for transformers such as ViT, whose maps all have one size
        if "downsampling pattern" not in str(error):
            raise
        raise ValueError(
            f"encoder.name={name} does not halve its feature maps from stage to stage, which the decoder needs; "
            "choose one that does, such as resnet34, mit_b0 or tu-convnext_tiny"
        ) from None
    except RuntimeError as error:  # timm's message for an unknown model, or for one without weights
        near = [f"tu-{m}" for m in difflib.get_close_matches(name[3:], timm.list_models(), n=5, cutoff=0.4)]
        raise ValueError(f"encoder.name={name}: {error}; near names: {', '.join(near)}") from None
