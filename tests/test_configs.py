"""What the option files and the pages that list them promise."""

import re
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from conftest import CONFIGS, flat, options, raw_config

from salt.training.setup import build_optimizer

ROOT = Path(__file__).parents[1]
MECHANISMS = (
    *("input", "encoder", "attention", "center", "decoder", "hypercolumn", "deep-supervision"),
    *("loss", "augment", "optimizer", "schedule", "resolution", "averaging", "semi-supervised"),
)
OPTIONS = [(group, option) for group in MECHANISMS for option in options(group)]


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_header_has_a_sentence_a_paper_and_what_to_expect(group, option):
    lines = [line for line in (CONFIGS / group / f"{option}.yaml").read_text().splitlines() if line.startswith("#")]
    lines = [line.removeprefix("# ") for line in lines if not line.startswith("# @package")]
    assert re.match(r"[A-Za-z].*[.:]", lines[0]) and not lines[0].startswith(("Paper", "Expect"))
    paper = next(line for line in lines if line.startswith("Paper: "))
    assert re.search(r"none|that of|(19|20)\d\d", paper)
    assert any(line.startswith("Expect: ") for line in lines)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_the_pages_list_every_option(group, option):
    section = (ROOT / "docs" / "mechanisms.md").read_text().split(f"## {group}\n")[1].split("\n## ")[0]
    assert f"| `{option}` |" in section, "run `make docs`"


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_the_readme_lists_every_option(group, option):
    row = next(line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith(f"| `{group}` |"))
    assert f"`{option}`" in row


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
