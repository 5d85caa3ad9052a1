"""Context blocks against their formulas, written out as slow loops."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import CONFIGS, options, raw_config
from helpers.centers import ACTIVATIONS, maps, shake, unit

from salt.components import build_part
from salt.models.center import ASPP, FPA, DBlock
from salt.models.ocnet import AspOC, BaseOC, PyramidOC, SelfAttention, same_cell

SIZES = [(4, 4), (7, 7), (8, 8), (3, 5), (16, 16)]


@pytest.fixture(params=options("center"))
def make(request):
    node = raw_config(f"center={request.param}")["center"]
    if "width" in node:
        node["width"] = 16  # as narrow as the maps below
    return lambda channels: build_part("center", node, channels=channels)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_option_keeps_the_shape_of_uneven_maps(make, size):
    torch.manual_seed(0)
    center, x = make(8), maps(8, *size, dtype=torch.float32)
    center.train()(x)
    center.eval()
    with torch.no_grad():
        assert center(x).shape == x.shape
        torch.testing.assert_close(center(x[:1]), center(x)[:1], rtol=1e-4, atol=1e-5)
        for dtype in (torch.bfloat16, torch.float16):
            with torch.autocast("cpu", dtype=dtype):
                assert torch.isfinite(center(x)).all()


@pytest.mark.slow
def test_every_option_compiles(make):
    center, x = shake(make(8)), maps(8, 7, 7)
    torch.compiler.reset()
    compiled = torch.compile(center, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), center(x))


by_activation = pytest.mark.parametrize("activation", ACTIVATIONS)


def through_layers(vector, layers, activation):
    """One position's vector through layers of 1x1 convolution, batch norm and activation."""
    for convolution, norm, _ in layers:
        vector = convolution.weight[:, :, 0, 0] @ vector
        vector = (vector - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
        vector = ACTIVATIONS[activation](vector)
    return vector


def attention_by_loops(attention, x, cell_of, activation="relu", shared=True):
    """The context at every position, from the softmax over the positions of its own cell."""
    key_layers, query_layers = ([attention.key],) * 2 if shared else (attention.key, attention.query)
    n, _, height, width = x.shape
    result = torch.zeros_like(x)
    for b in range(n):
        keys, queries, values = {}, {}, {}
        for i in range(height):
            for j in range(width):
                keys[i, j] = through_layers(x[b, :, i, j], key_layers, activation)
                queries[i, j] = through_layers(x[b, :, i, j], query_layers, activation)
                values[i, j] = attention.value.weight[:, :, 0, 0] @ x[b, :, i, j] + attention.value.bias
        for p, query in queries.items():
            others = [q for q in keys if cell_of(q) == cell_of(p)]
            scores = [float(query @ keys[q]) / math.sqrt(len(query)) for q in others]
            top = max(scores)
            weights = [math.exp(s - top) for s in scores]
            context = sum(w * values[q] for w, q in zip(weights, others, strict=True)) / sum(weights)
            result[b, :, p[0], p[1]] = attention.output.weight[:, :, 0, 0] @ context + attention.output.bias
    return result


def cells(height, width, size):
    return lambda p: (p[0] * size // height, p[1] * size // width)


@by_activation
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("height", "width", "size"), [(4, 5, 1), (4, 4, 6), (8, 8, 3), (5, 7, 2), (8, 8, 6)])
@torch.no_grad()
def test_attention_by_loops(height, width, size, shared, activation):
    attention, x = shake(SelfAttention(6, 3, 5, activation, n_cells=size, shared=shared)), maps(6, height, width, n=1)
    key = attention.key if shared else attention.key[0]
    assert key[0].weight.shape[0] == 3 and attention.value.weight.shape[0] == 5
    expected = attention_by_loops(attention, x, cells(height, width, size), activation, shared)
    torch.testing.assert_close(attention(x), expected)


@pytest.mark.parametrize("option", ["base_oc", "pyramid_oc", "asp_oc"])
def test_every_attention_of_a_block_has_the_queries_that_are_chosen(option):
    def attentions(shared):
        node = raw_config(f"center={option}")["center"] | {"width": 16, "shared": shared}
        return [m for m in build_part("center", node, channels=8).modules() if isinstance(m, SelfAttention)]

    assert all(attention.query is None for attention in attentions(True))
    for attention in attentions(False):
        key, query = (list(part.parameters()) for part in (attention.key, attention.query))
        assert len(key) == len(query) == 6 and not {id(p) for p in key} & {id(p) for p in query}


@pytest.mark.parametrize(("side", "size"), [(8, 3), (8, 6), (4, 6), (7, 2)])
@torch.no_grad()
def test_a_pixel_changes_the_context_of_its_own_cell_only(side, size):
    attention, x = shake(SelfAttention(6, 3, 6, "relu", n_cells=size)), maps(6, side, side, n=1)
    cell_of = cells(side, side, size)
    before = attention(x)
    for pixel in [(0, 0), (side // 2, side - 1), (side - 1, 1)]:
        changed = x.clone()
        changed[0, :, pixel[0], pixel[1]] += 1
        difference = (attention(changed) - before).abs().sum(1)[0] > 1e-6
        inside = {p for p in ((i, j) for i in range(side) for j in range(side)) if cell_of(p) == cell_of(pixel)}
        assert {tuple(p) for p in difference.nonzero().tolist()} == inside


def test_uneven_cells():
    def sizes(height, n_cells):
        return torch.unique_consecutive(same_cell(height, 1, n_cells, torch.device("cpu")), dim=0).sum(1).tolist()

    assert sizes(4, 3) == [2, 1, 1] and sizes(8, 3) == [3, 3, 2] and sizes(4, 6) == [1, 1, 1, 1]


def test_cells_share_the_map_without_gap_or_overlap():
    together = same_cell(8, 8, 3, torch.device("cpu"))
    assert torch.equal(together, together.T) and together.diagonal().all()
    sizes = torch.unique(together.sum(1))
    assert sizes.tolist() == [4, 6, 9] and len(torch.unique(together, dim=0)) == 9


@torch.no_grad()
def test_the_context_begins_at_zero():
    x = maps()
    assert not SelfAttention(8, 4, 8, "relu").double()(x).any()
    block = BaseOC(8, width=6, reduction=2, activation="relu", dropout=0.0).double().eval()
    lifted = unit(x, block.lift, padding=1)
    expected = unit(torch.cat([torch.zeros_like(lifted), lifted], 1), block.fuse)
    torch.testing.assert_close(block(x), expected)


@by_activation
@torch.no_grad()
def test_base_oc_is_the_context_beside_the_map(activation):
    block, x = shake(BaseOC(8, width=6, reduction=2, activation=activation, dropout=0.05)), maps()
    assert block.context.key[0].weight.shape[0] == block.context.value.weight.shape[0] == 3
    assert block.fuse[3].p == 0.05
    y = unit(x, block.lift, activation, padding=1)
    joined = torch.cat([attention_by_loops(block.context, y, lambda p: 0, activation), y], 1)
    torch.testing.assert_close(block(x), unit(joined, block.fuse, activation))


@by_activation
@torch.no_grad()
def test_pyramid_oc_has_a_context_for_each_grid(activation):
    sizes = [1, 2, 3]
    block, x = shake(PyramidOC(5, sizes, width=4, reduction=2, activation=activation, dropout=0.05)), maps(5)
    y = unit(x, block.lift, activation, padding=1)
    contexts = []
    for attention, size in zip(block.contexts, sizes, strict=True):
        assert attention.key[0].weight.shape[0] == 2 and attention.value.weight.shape[0] == 4
        contexts.append(attention_by_loops(attention, y, cells(5, 6, size), activation))
    joined = torch.cat([unit(y, block.widen, activation), *contexts], 1)
    assert joined.shape[1] == 2 * 3 * 4 and block.fuse[3].p == 0.05
    torch.testing.assert_close(block(x), unit(joined, block.fuse, activation))


@by_activation
@torch.no_grad()
def test_asp_oc_has_five_branches(activation):
    dilations = [2, 4, 8]
    block, x = shake(AspOC(8, dilations, width=6, reduction=2, activation=activation, dropout=0.1)), maps()
    y = unit(x, block.lift, activation, padding=1)
    context = F.max_pool2d(unit(y, block.before, activation, padding=1), 2, ceil_mode=True)
    assert context.shape == (2, 3, 3, 3) and block.attention.key[0].weight.shape[0] == 1
    context = attention_by_loops(block.attention, context, lambda p: 0, activation)
    context = F.interpolate(context, size=(5, 6), mode="bilinear", align_corners=True)
    dilated = [unit(y, b, activation, padding=d, dilation=d) for b, d in zip(block.dilated, dilations, strict=True)]
    branches = [unit(context, block.after, activation), unit(y, block.point, activation), *dilated]
    joined = torch.cat(branches, 1)
    assert joined.shape[1] == 5 * 3 and block.fuse[3].p == 0.1
    torch.testing.assert_close(block(x), unit(joined, block.fuse, activation))


def published(state, x, activation):
    """BaseOC as the authors compute it, with matrix products: copied weights, key and value of width/2."""
    weights = {name: value for name, value in state.items() if "num_batches" not in name}

    def norm(x, name):
        mean, var, scale, shift = (weights[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return ACTIVATIONS[activation](F.batch_norm(x, mean, var, scale, shift, eps=1e-5))

    y = norm(F.conv2d(x, weights["lift.0.weight"], padding=1), "lift.1")
    n, c, h, w = y.shape
    key = norm(F.conv2d(y, weights["context.key.0.weight"]), "context.key.1").view(n, c // 2, h * w)
    value = F.conv2d(y, weights["context.value.weight"], weights["context.value.bias"]).view(n, c // 2, h * w)
    similarity = torch.softmax((c // 2) ** -0.5 * key.transpose(1, 2) @ key, dim=-1)
    context = (similarity @ value.transpose(1, 2)).transpose(1, 2).reshape(n, c // 2, h, w)
    context = F.conv2d(context, weights["context.output.weight"], weights["context.output.bias"])
    return norm(F.conv2d(torch.cat([context, y], 1), weights["fuse.0.weight"]), "fuse.1")


@pytest.mark.parametrize("option", ["base_oc", "pyramid_oc", "asp_oc"])
def test_the_header_says_what_a_narrow_width_saves(option):
    node, header = raw_config(f"center={option}")["center"], (CONFIGS / f"center/{option}.yaml").read_text()
    for width, text in (
        (512, "{} M parameters after ResNet18"),
        (256, "{} M with width=256"),
        (128, "{} M with width=128"),
    ):
        n = sum(p.numel() for p in build_part("center", node | {"width": width}, channels=512).parameters())
        assert text.format(f"{n / 1e6:.1f}") in " ".join(header.replace("\n#", " ").split())


@by_activation
@torch.no_grad()
def test_base_oc_with_copied_weights_is_the_published_one(activation):
    block = shake(BaseOC(20, width=16, reduction=2, activation=activation, dropout=0.05))
    x = maps(20, 8, 8)
    torch.testing.assert_close(block(x), published(block.state_dict(), x, activation))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DBlock(8, dilations=[0]), r"dilations=\[0\], expected"),
        (lambda: BaseOC(4, 8, 9, "relu", 0.1), "reduction=9 leaves no channel of 8, expected"),
        (lambda: BaseOC(4, 0, 2, "relu", 0.1), "width=0, expected >= 1"),
        (lambda: BaseOC(4, 8, 2, "gelu", 0.1), "activation='gelu', expected relu or leaky_relu"),
        (lambda: BaseOC(4, 8, 2, "relu", 1.0), "dropout=1.0, expected"),
        (lambda: PyramidOC(4, [], 8, 2, "relu", 0.1), r"sizes=\[\], expected"),
        (lambda: AspOC(4, [], 8, 2, "relu", 0.1), "dilations.*expected"),
        (lambda: ASPP(8, dilations=[2], reduction=2, dropout=-1), "dropout=-1, expected"),
        (lambda: FPA(8, sizes=[4], reduction=2), r"sizes=\[4\], expected .* odd"),
    ],
)
def test_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
