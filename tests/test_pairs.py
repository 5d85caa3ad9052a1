"""Every two options of different groups train together, or are refused with a message.

The pairs are packed into few runs: each run has one option of every group, and together the runs hold every pair.
"""

import itertools

import numpy as np
import pytest
import torch
from conftest import CONFIGS, options, raw_config
from helpers.jobs import make_job

from salt import build
from salt.config import check_config
from salt.data.loader import Batch
from salt.data.tiles import Dataset, Tiles
from salt.losses.combine import set_progress
from salt.training.schedule import after_epoch
from salt.training.setup import make_fold, make_state
from salt.training.step import train_step

# Not parts of a network or of its training, or of no concern to them.
APART = {"data", "trainer", "experiment", "ablation", "hydra", "semi-supervised"}
# Of the encoders one of each family: the others differ in depth alone; tests/models/test_any_encoder.py has them all.
FAMILIES = ["any", "efficientnet_b0", "none", "resnet18"]
GROUPS = {d.name: options(d.name) for d in sorted(CONFIGS.iterdir()) if d.is_dir() and d.name not in APART} | {
    "encoder": FAMILIES
}
ALWAYS = [
    "data=synthetic",
    "data.root=nowhere",
    "input.size=101",
    "trainer.epochs=2",
    "trainer.batch_size=2",
    "trainer.precision=fp32",
    "trainer.device=cpu",
]
# What some options cannot do without. `any` is shown with a small encoder that has no map at stride 2.
NEEDED = {
    ("input", "resize_pad_256"): ["input.resize=101"],
    ("decoder", "unet"): ["decoder.channels=[16,16,16,16,16]"],
    ("encoder", "any"): ["encoder.name=tu-convnext_atto"],
}

Choice = tuple[str, str]


def refused(a: Choice, b: Choice) -> bool:
    """Tiramisu works on the input itself, so it goes with no encoder and with nothing that sees an encoder's maps."""
    alone = [{("decoder", "tiramisu")}, {("encoder", "none")}]
    return any(
        x in first and not goes_without_an_encoder(y) for first in alone for x, y in ((a, b), (b, a)) if x in first
    )


def goes_without_an_encoder(choice: Choice) -> bool:
    group, option = choice
    only = {"encoder": ["none"], "decoder": ["tiramisu"], "attention": ["none"], "center": ["none"]}
    if group == "deep-supervision":
        return "nonempty" not in option
    return group not in only or option in only[group]


PAIRS = [((g, x), (h, y)) for g, h in itertools.combinations(GROUPS, 2) for x in GROUPS[g] for y in GROUPS[h]]
REFUSED = [pair for pair in PAIRS if refused(*pair)]


def runs() -> list[dict[str, str]]:
    """Few choices of one option of each group that hold every pair which is not refused."""
    open_pairs = {frozenset(pair) for pair in PAIRS if not refused(*pair)}
    result = []
    for pair in PAIRS:
        if frozenset(pair) not in open_pairs:
            continue
        row = dict(pair)
        for group in sorted(GROUPS, key=lambda g: -len(GROUPS[g])):
            if group in row:
                continue
            fitting = [o for o in GROUPS[group] if not any(refused((group, o), c) for c in row.items())]
            row[group] = max(fitting, key=lambda o: sum(frozenset([(group, o), c]) in open_pairs for c in row.items()))
        open_pairs -= {frozenset(p) for p in itertools.combinations(row.items(), 2)}
        result.append(row)
    assert not open_pairs
    return result


def config_of(row: dict[str, str]):
    overrides = [f"{group}={option}" for group, option in row.items()]
    needed = [o for choice, extra in NEEDED.items() if row.get(choice[0], "unet") == choice[1] for o in extra]
    return check_config(raw_config(*ALWAYS, *overrides, *needed))


@pytest.mark.parametrize("row", runs(), ids=lambda row: ",".join(row.values()))
@pytest.mark.slow
@pytest.mark.battery
def test_every_pair_trains(row, tmp_path):
    config = config_of(row)
    torch.manual_seed(0)
    nothing = np.empty(0, dtype=np.int64)
    tiles = Tiles([], nothing, nothing, nothing)
    job = make_job(config, tmp_path, Dataset(tiles, tiles), nothing)
    state, fold = make_state(job, 0, 10), make_fold(job, 0)
    augment, loss = build.build_augment(config), fold.loss
    images = torch.randint(0, 255, (2, 1, 101, 101), dtype=torch.uint8)
    masks = torch.zeros(2, 1, 101, 101, dtype=torch.uint8)
    masks[0, :, 40:] = 1
    pairs = [
        augment(image[0].numpy(), mask[0].numpy(), (i,))
        for i, (image, mask) in enumerate(zip(images, masks, strict=True))
    ]
    images, masks = (torch.stack([torch.from_numpy(pair[k])[None] for pair in pairs]) for k in (0, 1))
    before = [p.detach().clone() for p in state.model.parameters()]
    set_progress(loss, 0.5)
    state.model.train()
    outcome = train_step(fold, state, Batch(images, masks, torch.tensor([100.0, 900.0]), torch.arange(2)))
    state.average.after_epoch(0.5)
    after_epoch(state.schedule, outcome[0].item())
    after = state.model.state_dict()
    assert torch.isfinite(outcome).all()
    assert all(torch.isfinite(v).all() for v in after.values())
    assert any(not torch.equal(a, b) for a, b in zip(before, state.model.parameters(), strict=True))


@pytest.mark.parametrize("pair", REFUSED, ids=lambda pair: ",".join(o for _, o in pair))
@pytest.mark.battery
def test_the_other_pairs_are_refused_with_a_message(pair):
    row = dict(pair)
    decoder = [] if "decoder" in row else ["decoder=tiramisu"]  # so that the other choice is what is wrong
    encoder = [] if "encoder" in row or "decoder" in row else ["encoder=none"]
    overrides = [f"{group}={option}" for group, option in row.items()]
    config = check_config(
        raw_config(
            "encoder.weights=null",
            *decoder,
            *encoder,
            *overrides,
            *NEEDED.get(pair[0], []),
            *NEEDED.get(pair[1], []),
        )
    )
    with pytest.raises(ValueError, match=r"encoder") as error:
        build.build_model(config)
    assert "expected" in str(error.value) or "set attention.encoder=[]" in str(error.value)
