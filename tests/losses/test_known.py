"""Unknown pixels: each loss is that of the known ones, whatever the others hold."""

import pytest
import torch
from conftest import options
from test_losses import PROGRESS, example, node
from torch import nn

from salt.components import build_part
from salt.losses.combine import StepChange, WeightedSum, set_progress, simple_losses
from salt.losses.known import taking_known
from salt.losses.lovasz import LovaszHinge, LovaszSymmetric
from salt.losses.pixel import BCE, OHEM, BootstrappedCE, Focal
from salt.losses.region import Dice


@pytest.fixture(params=[(o, p) for o in options("loss") for p in PROGRESS], ids=str)
def loss(request):
    option, progress = request.param
    loss = build_part("loss", node(option))
    set_progress(loss, progress)
    return loss


def result(loss, logits, masks, known):
    """Value and gradient."""
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, masks, known=known)
    value.backward()
    return value.detach(), logits.grad


def some_known(n=3, size=12, seed=3):
    """Half of the pixels of each image, another number in each, and none of the last image."""
    generator = torch.Generator().manual_seed(seed)
    known = torch.rand(n, 1, size, size, generator=generator) < torch.linspace(0.3, 0.8, n).view(n, 1, 1, 1)
    known[-1] = False
    return known


def test_all_known_is_the_same_as_none_given(loss):
    logits, masks = example(n=3, size=12)
    torch.testing.assert_close(result(loss, logits, masks, torch.ones_like(masks)), result(loss, logits, masks, None))


def test_known_columns_are_the_loss_of_the_cropped_tiles(loss):
    logits, masks = example(n=3, size=12)
    logits, known = 3 * logits, torch.zeros_like(masks)
    known[..., 2:9] = 1
    value, gradient = result(loss, logits, masks, known)
    expected, inside = result(loss, logits[..., 2:9], masks[..., 2:9], None)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient[..., 2:9], inside)
    assert not gradient[..., :2].any() and not gradient[..., 9:].any()


@pytest.mark.parametrize("kind", [torch.bool, torch.uint8, torch.float32])
def test_unknown_pixels_change_nothing(loss, kind):
    (logits, masks), known = example(n=3, size=12), some_known()
    before = result(loss, logits, masks, known.to(kind))
    assert before[0] > 0 and before[1][:2].any()
    for scale in (1, 1e4):
        noise = scale * torch.randn(logits.shape, generator=torch.Generator().manual_seed(9))
        other = [torch.where(known, x, noise.roll(i, -1)) for i, x in enumerate((logits, masks))]
        after = result(loss, *other, known.to(kind))
        assert all(map(torch.equal, before, after)) and not after[1][~known].any()


def test_without_a_known_pixel_value_and_gradient_are_zero(loss):
    logits, masks = example(n=3, size=12)
    value, gradient = result(loss, 100 * logits, masks, torch.zeros_like(masks))
    assert value == 0 and not gradient.any()


@pytest.mark.battery
def test_half_precision_and_the_compiler(loss):
    (logits, masks), known = example(n=3, size=12), some_known()
    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(result(compiled, logits, masks, known), result(loss, logits, masks, known))
    half = logits.detach().half()
    torch.testing.assert_close(loss(half, masks.bool(), known=known), loss(half.float(), masks, known=known))


OF_THE_BATCH = [
    *(BCE(), Focal(), Focal(0.5, None), OHEM(), OHEM(0.1, 0.5), OHEM(0, 0)),
    *(Dice(per_image=False), LovaszHinge(per_image=False), LovaszSymmetric("relu", per_image=False)),
]
OF_EACH_IMAGE = [
    *(BootstrappedCE(), BootstrappedCE(0.001), BootstrappedCE(1.0), Dice(), Dice(smooth=5.0)),
    *(LovaszHinge(), LovaszHinge("relu"), LovaszSymmetric()),
]


@pytest.mark.parametrize("loss", OF_THE_BATCH, ids=str)
def test_a_loss_of_the_batch_is_that_of_all_known_pixels(loss):
    (logits, masks), known = example(n=4, size=9), some_known(n=4, size=9)
    rows = [x[known].view(1, 1, 1, -1) for x in (logits, masks)]
    assert_result(result(loss, logits, masks, known), *result(loss, *rows, None), known)


@pytest.mark.parametrize("loss", OF_EACH_IMAGE, ids=str)
def test_a_loss_of_each_image_is_the_mean_of_their_known_pixels_losses(loss):
    (logits, masks), known = example(n=4, size=9), some_known(n=4, size=9)
    parts = [result(loss, *(x[i][known[i]].view(1, 1, 1, -1) for x in (logits, masks)), None) for i in range(3)]
    gradient = torch.cat([part[1].flatten() for part in parts]) / 4  # the fourth image has none, and adds 0
    assert_result(result(loss, logits, masks, known), sum(part[0] for part in parts) / 4, gradient, known)


def assert_result(found, value, gradient, known):
    torch.testing.assert_close(found[0], value)
    torch.testing.assert_close(found[1][known], gradient.flatten())


class Plain(nn.Module):
    """A user's loss, which knows nothing of unknown pixels."""

    def forward(self, logits, masks):
        return (logits - masks).square().mean()


class Weighted(nn.Module):
    """A user's loss with an argument of its own before `known`."""

    def forward(self, logits, masks, weights=None, known=None):
        assert weights is None
        return (logits - masks)[known > 0].square().mean()


@pytest.mark.parametrize("wrap", [taking_known, lambda loss: WeightedSum([StepChange(loss, BCE(), 0.5)], [1.0])])
def test_a_loss_of_two_arguments_is_refused_only_if_pixels_are_unknown(wrap):
    logits, masks = example()
    loss = wrap(Plain())
    assert loss(logits, masks, known=None) == Plain()(logits, masks) == loss(logits, masks)
    with pytest.raises(ValueError, match="Plain"):
        loss(logits, masks, known=torch.ones_like(masks))
    assert any(isinstance(part, Plain) for part in simple_losses(loss))


def test_a_loss_gets_known_by_its_name():
    (logits, masks), known = example(), torch.ones(2, 1, 6, 6)
    known[..., :3] = 0
    loss = taking_known(Weighted())
    assert isinstance(loss, Weighted)
    expected = Plain()(logits[..., 3:], masks[..., 3:])
    torch.testing.assert_close(WeightedSum([loss], [1.0])(logits, masks, known=known), expected)
