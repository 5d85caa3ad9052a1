"""Deep supervision: losses and heads of multiscale and nonempty, against their formulas."""

import functools

import pytest
import torch
import torch.nn.functional as F
from conftest import options, raw_config
from helpers.networks import BASE, SMALL_UNET, batch, built, maps
from torch._subclasses import FakeTensorMode

from salt.components import build_part
from salt.losses.combine import set_progress
from salt.losses.pixel import BCE
from salt.models.heads import Hypercolumn, LastStage
from salt.models.inputs import Pad, at_tile
from salt.models.supervision import Multiscale, Nonempty, reduce_masks, tile_losses


@pytest.mark.parametrize("compare", ["logits", "masks"])
def test_multiscale_loss_by_hand(compare):
    supervision, window = Multiscale(9, [3, 2], 2, [0.5, 0.25], compare), Pad(104, "reflect", (101, 101))
    masks = torch.zeros(2, 1, 101, 101)
    masks[0, :, 50:] = 1
    logits = supervision([maps(3, 13), maps(2, 52)], maps(2, 52), None)
    loss = BCE()
    expected = 0.0
    for weight, stage in zip([0.5, 0.25], logits, strict=True):
        if compare == "logits":
            full = F.interpolate(stage, size=(104, 104), mode="bilinear", align_corners=False)
            expected = expected + weight * loss(full[..., 1:102, 1:102], masks)
        else:
            cell = 104 // stage.shape[-1]
            share = F.avg_pool2d(F.pad(masks, (1, 2, 1, 2), mode="reflect"), cell)
            expected = expected + weight * loss(stage, (share >= 0.5).float())
    torch.testing.assert_close(supervision.loss(logits, masks, loss, window), expected)


@pytest.mark.parametrize("n_heads", [1, 2])
@pytest.mark.parametrize("salty", [[True, False, True], [False, False, False]])
def test_nonempty_loss_by_hand(n_heads, salty):
    window, loss = Pad(104, "reflect", (101, 101)), BCE()
    supervision = Nonempty(9, [3, 2], 2, heads=n_heads, weight=0.5, image_weight=0.05, gate=False)
    masks = torch.zeros(3, 1, 101, 101)
    masks[torch.tensor(salty), :, 50:] = 1
    deepest, stages, columns = maps(9, 4, n=3), [maps(3, 52, n=3), maps(2, 104, n=3)], maps(2, 104, n=3, seed=5)
    z = supervision.context(deepest)
    squeezed = deepest.mean((2, 3)) @ supervision.squeeze.weight[:, :, 0, 0].T + supervision.squeeze.bias
    torch.testing.assert_close(z, squeezed[:, :, None, None])
    extra = supervision(stages, columns, z)
    image = squeezed @ supervision.image_head.weight.T + supervision.image_head.bias
    expected = 0.05 * loss(image[:, 0], torch.tensor(salty).float())
    for head, x in zip(supervision.heads, stages if n_heads == 2 else [columns], strict=True):
        logits = (x * head.weight[0][None]).sum(1, keepdim=True) + head.bias
        full = F.interpolate(logits, size=(104, 104), mode="bilinear", align_corners=False)[..., 1:102, 1:102]
        if any(salty):  # the mean over tiles with salt alone
            parts = [loss(full[i], masks[i]) for i in range(3) if salty[i]]
            expected = expected + 0.5 * sum(parts) / len(parts)
    value = supervision.loss(extra, masks, loss, window)
    torch.testing.assert_close(value, expected)
    value.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in supervision.parameters())


@pytest.mark.parametrize("n_heads", [1, 2])
@torch.no_grad()
def test_a_nonempty_head_may_have_a_hidden_layer(n_heads):
    supervision = Nonempty(9, [3, 2], 2, heads=n_heads, weight=0.5, image_weight=0.05, gate=False, hidden=6)
    stages, columns = [maps(3, 13), maps(2, 26)], maps(2, 26, seed=5)
    extra = supervision(stages, columns, torch.zeros(2, 64, 1, 1))
    for logits, head, x in zip(extra[1:], supervision.heads, stages if n_heads == 2 else [columns], strict=True):
        (first, _), last = head
        assert first.weight.shape == (6, x.shape[1], 3, 3) and last.weight.shape == (1, 6, 1, 1)
        hidden = F.relu(F.conv2d(x, first.weight, first.bias, padding=1))
        torch.testing.assert_close(logits, F.conv2d(hidden, last.weight, last.bias))


def nonempty(n_heads):
    return Nonempty(9, [3, 2], 2, heads=n_heads, weight=0.5, image_weight=0.05, gate=False)


@functools.cache
def run_loss(option):
    loss = build_part("loss", raw_config(f"loss={option}")["loss"])
    set_progress(loss, 0.5)
    return loss


@pytest.mark.parametrize("n_heads", [1, 2])
@pytest.mark.parametrize("option", options("loss"))
def test_nonempty_takes_tiles_with_salt_alone(option, n_heads):
    supervision, loss, window = nonempty(n_heads), run_loss(option), Pad(104, "reflect", (101, 101))
    masks = torch.zeros(4, 1, 101, 101)
    masks[1, :, 50:], masks[3, :, :20, 30:] = 1, 1
    extra = supervision([maps(3, 52, n=4), maps(2, 104, n=4)], maps(2, 104, n=4, seed=5), 3 * maps(64, 1, n=4))
    expected = 0.05 * F.binary_cross_entropy_with_logits(extra[0][:, 0], torch.tensor([0.0, 1, 0, 1]))
    for logits in extra[1:]:
        full, chosen = at_tile(logits, window), [1, 3]
        if option == "ohem":  # each tile's own hard pixels
            expected = expected + 0.5 * sum(loss(full[[i]], masks[[i]]) for i in chosen) / len(chosen)
        else:  # means over tiles
            expected = expected + 0.5 * loss(full[chosen], masks[chosen])
    value = supervision.loss(extra, masks, loss, window)
    torch.testing.assert_close(value, expected)
    weights = [head.weight for head in supervision.heads]
    gradients = [torch.autograd.grad(total, weights, retain_graph=True) for total in (value, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("n_heads", [1, 2])
@pytest.mark.parametrize("option", options("loss"))
def test_nonempty_reads_nothing_back_from_the_device(option, n_heads, known):
    supervision, loss, window = nonempty(n_heads), run_loss(option), Pad(104, "reflect", (101, 101))
    calls = []

    def counted(logits, masks, known):
        calls.append(logits.shape)
        return loss(logits, masks, known=known)

    with FakeTensorMode():  # has no values that could be read
        extra = [torch.empty(4, 1, device="cuda"), *torch.empty(n_heads, 4, 1, 52, 52, device="cuda")]
        masks = torch.empty(4, 1, 101, 101, device="cuda")
        value = supervision.loss(extra, masks, counted, window, masks > 0 if known else None)
    assert value.device.type == "cuda" and value.shape == ()
    assert calls == n_heads * [(1, 1, 101, 101)]  # one call for all tiles


SUPERVISIONS = {
    "logits": lambda: Multiscale(9, [3, 2], 2, [0.5, 0.25], "logits"),
    "masks": lambda: Multiscale(9, [3, 2], 2, [0.5, 0.25], "masks"),
    "nonempty": lambda: nonempty(1),
    "nonempty5": lambda: nonempty(2),
}


def supervised(name, option, masks, known):
    """Loss of the extra heads, and its gradient for each of their logits."""
    torch.manual_seed(0)
    supervision, loss, window = SUPERVISIONS[name](), run_loss(option), Pad(104, "reflect", (101, 101))
    n = len(masks)
    extra = supervision([maps(3, 26, n=n), maps(2, 104, n=n)], maps(2, 104, n=n, seed=5), 3 * maps(64, 1, n=n))
    value = supervision.loss(extra, masks, loss, window, known)
    return value, torch.autograd.grad(value, extra)


def three_masks():
    masks = torch.zeros(3, 1, 101, 101)
    masks[0, :, 50:], masks[1, :, :20, 30:] = 1, 1
    return masks


@pytest.mark.parametrize("option", options("loss"))
@pytest.mark.parametrize("name", SUPERVISIONS)
def test_the_extra_heads_learn_from_known_pixels_alone(name, option):
    masks, known = three_masks(), torch.ones(3, 1, 101, 101)
    torch.testing.assert_close(supervised(name, option, masks, known), supervised(name, option, masks, None))
    known[..., 60:] = 0
    (value, gradients), (full, _) = (supervised(name, option, masks, k) for k in (known, None))
    assert not torch.isclose(value, full)
    other = torch.where(known > 0, masks, torch.rand_like(masks).round())
    torch.testing.assert_close(supervised(name, option, other, known), (value, gradients), rtol=0, atol=0)
    for gradient in gradients:
        if gradient.ndim == 4:  # a cell that is partly known has a share; a pixel of the border one of its neighbour's
            n_known = 62 * gradient.shape[-1] // 104
            assert gradient[..., : n_known - 1].any() and not gradient[..., n_known + 1 :].any()
    value, gradients = supervised(name, option, masks, torch.zeros_like(known))
    assert value == 0 and not any(gradient.any() for gradient in gradients)


def test_the_whole_loss_leaves_out_unknown_pixels():
    _, model = built([*BASE, SMALL_UNET, "deep-supervision=multiscale"])
    images, depths, masks = batch(model)
    output, known = model.train()(images, depths), torch.ones_like(masks)
    known[..., 60:] = 0
    value, other = (model.loss(output, m, BCE(), known) for m in (masks, torch.where(known > 0, masks, 1 - masks)))
    assert value == other != model.loss(output, masks, BCE())


def test_a_tile_without_known_salt_trains_the_image_head_only_if_it_is_known_as_a_whole():
    masks, known = three_masks(), torch.ones(3, 1, 101, 101)
    known[1, :, 40:], known[2, :, 40:] = 0, 0  # the second tile has known salt, the third none
    _, (gradient, *_) = supervised("nonempty", "bce", masks, known)
    assert gradient.flatten().ne(0).tolist() == [True, True, False]
    known[2] = 1
    _, (gradient, *_) = supervised("nonempty", "bce", masks, known)
    assert gradient.all()


def test_a_cell_of_a_reduced_mask_is_salt_if_half_of_its_known_area_is():
    masks, known, window = torch.zeros(1, 1, 64, 64), torch.ones(1, 1, 64, 64), Pad(64, "reflect", (64, 64))
    known[..., :5], masks[..., 5:7], masks[..., 16:] = 0, 1, 1  # of each row's first 8 pixels 3 are known, 2 salt
    known[..., 8:12], masks[..., 12:14] = 0, 1  # of the next 8 pixels 4, of which 2 are salt
    small, seen = reduce_masks(masks, known, window, (8, 8))
    assert seen[0, 0, 0].tolist() == [False] + 7 * [True]
    assert small[0, 0, 0].tolist()[1:] == 7 * [1]
    masks[..., 13] = 0
    small, _ = reduce_masks(masks, known, window, (8, 8))
    assert small[0, 0, 0].tolist()[1:3] == [0, 1]


def by_chosen_pixels(logits, masks, known=None):
    """A loss that vmap refuses: how many pixels it takes depends on the mask."""
    return F.softplus(-logits[masks > 0]).mean() + F.softplus(logits).mean()


def by_a_branch(logits, masks, known=None):
    """A loss that reads a value back."""
    return F.softplus(logits).mean() if masks.mean() < 0.3 else F.softplus(-logits).mean()


def divided_by_the_salt(logits, masks, known=None):
    """A loss that is no number on an empty mask."""
    return (F.softplus(-logits) * masks).sum() / masks.sum()


@pytest.mark.parametrize("loss", [by_chosen_pixels, by_a_branch, divided_by_the_salt])
@pytest.mark.parametrize("salty", [[False, True, True], [False, False, False]])
def test_nonempty_takes_any_loss_of_logits_and_masks(loss, salty):
    supervision, window = nonempty(1), Pad(104, "reflect", (101, 101))
    masks = torch.zeros(3, 1, 101, 101)
    masks[1, :, 50:], masks[2, :, :20] = float(salty[1]), float(salty[2])
    extra = supervision([], maps(2, 104, n=3), maps(64, 1, n=3))
    expected = 0.05 * F.binary_cross_entropy_with_logits(extra[0][:, 0], torch.tensor(salty).float())
    if any(salty):
        full = at_tile(extra[1], window)
        expected = expected + 0.5 * (loss(full[1:2], masks[1:2]) + loss(full[2:], masks[2:])) / 2
    value = supervision.loss(extra, masks, loss, window)
    torch.testing.assert_close(value, expected)
    value.backward()
    assert torch.isfinite(supervision.heads[0].weight.grad).all()
    assert supervision.heads[0].weight.grad.any() == any(salty)


def test_a_mistake_in_a_loss_is_its_own_error():
    def broken(logits, masks, known=None):
        return (logits[..., :7] * masks).mean()

    masks, columns, z = torch.ones(2, 1, 101, 101), maps(2, 104), maps(64, 1)
    supervision = nonempty(1)
    with pytest.raises(RuntimeError, match=r"size of tensor a \(7\) must match"):
        supervision.loss(supervision([], columns, z), masks, broken, Pad(104, "reflect", (101, 101)))


def test_too_little_memory_is_not_taken_for_a_loss_that_needs_its_tiles_one_by_one():
    calls = []

    def large(logits, mask, known=None):
        calls.append(1)
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError):
        tile_losses(large, torch.zeros(3, 1, 4, 4), torch.zeros(3, 1, 4, 4))
    assert len(calls) == 1


HEADS = {
    "last": lambda: LastStage([4, 2], context=3),
    "hypercolumn": lambda: Hypercolumn([4, 2], width=5, dropout=0.1, context=3).eval(),
}


@pytest.mark.parametrize("name", HEADS)
def test_the_fused_logits_see_the_columns_and_the_tile(name):
    head, z = HEADS[name](), torch.randn(2, 3, 1, 1)
    columns = maps(head.width, 6)
    fuse, last = head.fuse[0], head.classifier if name == "last" else head.classifier[-1]
    assert fuse.weight.shape == (head.width, head.width + 3, 3, 3) and last.weight.shape == (1, head.width, 1, 1)
    joined = torch.cat([columns, z.expand(2, 3, 6, 6)], 1)
    hidden = F.relu(F.conv2d(joined, fuse.weight, fuse.bias, padding=1))
    torch.testing.assert_close(head(columns, z), F.conv2d(hidden, last.weight, last.bias))


@pytest.mark.parametrize("name", HEADS)
def test_the_tile_changes_each_pixel_differently(name):
    torch.manual_seed(0)
    head = HEADS[name]().double()
    columns, z = maps(head.width, 12, n=1).double().expand(2, -1, -1, -1), torch.randn(2, 3, 1, 1).double()
    one, other = head(columns, z)
    inside = (one - other)[:, 1:-1, 1:-1]  # at the border the padding alone would make a difference
    assert inside.std() > 0.05 * one.std() > 0


def test_a_head_without_a_tile_s_vector_is_as_it_was():
    assert [n for n, _ in LastStage([4, 2]).named_parameters()] == ["classifier.weight", "classifier.bias"]
    names = [n for n, _ in Hypercolumn([4, 2], 5, 0.1).named_parameters()]
    expected = ["features.0.weight", "features.1.weight", "features.1.bias", "classifier.1.weight", "classifier.1.bias"]
    assert names == expected
