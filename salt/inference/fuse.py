"""Batch norms folded into the convolutions before them, which predict the same in less time."""

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

CLOSE = 1e-3  # the most that a logit of the example may change, relative to the largest


@torch.no_grad()
def fold_batch_norms(model: nn.Module, images: Tensor, depths: Tensor) -> int:
    """Fold each batch norm whose input is the output of a convolution, in place; return how many were.

    `model(images, depths)` shows which those are. If the example's logits change, since a convolution is used
    elsewhere too, all weights stay as they were.
    """
    before = model(images, depths).logits
    pairs = find_pairs(model, images, depths)
    own = [(conv, conv.weight, conv.bias) for _, conv, _ in pairs]
    for name, conv, norm in pairs:
        assert norm.running_mean is not None and norm.running_var is not None
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        replace(model, name, activation_of(norm))
    if (model(images, depths).logits - before).abs().max() <= CLOSE * before.abs().max():
        return len(pairs)
    for conv, weight, bias in own:
        conv.weight, conv.bias = weight, bias
    for name, _, norm in pairs:
        replace(model, name, norm)
    return 0


def find_pairs(model: nn.Module, images: Tensor, depths: Tensor) -> list[tuple[str, nn.Conv2d, nn.BatchNorm2d]]:
    """Return each batch norm, by name, with the convolution whose output it gets, if both are called once."""
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []
    watched = {part: name for name, part in model.named_modules() if isinstance(part, nn.Conv2d | nn.BatchNorm2d)}
    hooks = [
        part.register_forward_hook(lambda part, given, output: calls.append((part, given[0], output)))
        for part in watched
    ]
    model(images, depths)
    for hook in hooks:
        hook.remove()
    parts = [part for part, _, _ in calls]
    makers = {id(output): part for part, _, output in calls if isinstance(part, nn.Conv2d) and parts.count(part) == 1}
    return [
        (watched[part], makers[id(given)], part)
        for part, given, _ in calls
        if isinstance(part, nn.BatchNorm2d) and parts.count(part) == 1 and id(given) in makers
    ]


def activation_of(norm: nn.BatchNorm2d) -> nn.Module:
    """Return what is left of a batch norm: the activation within timm's, else nothing."""
    activation = getattr(norm, "act", None)
    return activation if isinstance(activation, nn.Module) else nn.Identity()


def replace(model: nn.Module, name: str, part: nn.Module) -> None:
    """Put a module in the place of the one with this name."""
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, part)
