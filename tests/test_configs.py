"""What the option files promise."""

import re
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from conftest import CONFIGS, flat, options, raw_config

from salt.training.setup import build_optimizer

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from option_files import read_groups

OPTIONS = [option for group in read_groups(CONFIGS) if group.has_papers for option in group.options]


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: f"{option.group}-{option.name}")
def test_every_header_has_a_sentence_a_paper_and_what_to_expect(option):
    header = option.header()
    assert re.match(r"[A-Z].*[.:]", header[""]) and header["Expect"].endswith(".")
    assert re.search(r"none|that of|(19|20)\d\d", header["Paper"])


@pytest.mark.parametrize("name", options("ablation"))
def test_every_ablation_composes_at_each_of_its_points(name):
    hydra_node = (CONFIGS / "ablation" / f"{name}.yaml").read_text()
    assert f"name: ablation_{name}" in hydra_node and "mode: MULTIRUN" in hydra_node
    params = re.findall(r'([\w.-]+): "(.*)"', hydra_node.split("params:")[1].split("callbacks:")[0])
    assert params
    baseline = re.search(r'baseline: "(.*)"', hydra_node)[1]
    for key, values in params:
        parts = re.findall(r"\[[^\]]*\]|[^,]+", values)
        assert any(f"{key}={part}" in baseline for part in parts)
        for part in parts:
            raw_config(f"ablation={name}", f"{key}={part}")


SETTINGS = [
    (option, key, value)
    for option in options("optimizer")
    for key, value in flat(raw_config(f"optimizer={option}")["optimizer"]).items()
    if key != "_target_"
]


@pytest.mark.parametrize(("option", "key", "value"), SETTINGS, ids=str)
def test_every_setting_of_an_optimizer_changes_something(option, key, value, tiny):
    def weights(*extra):
        torch.manual_seed(0)
        parts = {"encoder": torch.nn.Linear(3, 3), "decoder": torch.nn.Linear(3, 2)}
        model = torch.nn.Sequential(OrderedDict(parts))
        optimizer = build_optimizer(tiny(f"optimizer={option}", *extra), model)
        for _ in range(5):
            optimizer.zero_grad()
            (model(torch.randn(1, 3)) ** 2).sum().backward()
            optimizer.step()
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    halves = [v / 2 for v in value] if isinstance(value, list) else value / 2
    changed = str(not value).lower() if isinstance(value, bool) else halves
    assert not torch.equal(weights(), weights(f"optimizer.{key}={changed}"))
