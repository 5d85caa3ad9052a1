"""The pages that scripts/pages.py writes: complete, up to date, and open to options of a user's own."""

import re
import shutil
import sys
from pathlib import Path

import pytest
from conftest import CONFIGS, flat, options, raw_config

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import pages
from option_files import BASELINE, Option, read_costs, read_groups
from settings_page import settings_page, unexplained

ROOT = Path(__file__).parents[1]
GROUPS = read_groups(CONFIGS)


@pytest.fixture
def configs(tmp_path):
    """A copy of the option files that a test may change."""
    return shutil.copytree(CONFIGS, tmp_path / "configs")


def row_of(page, group, option):
    """The cells of an option's row in its group's table."""
    section = page.split(f"\n## {group}\n")[1].split("\n## ")[0]
    lines = {cells[0]: cells for line in section.splitlines() if (cells := re.split(r" *(?<!\\)\| *", line)[1:-1])}
    return dict(zip(lines["option"], lines[f"`{option}`"], strict=True))


@pytest.mark.parametrize("file", ["README.md", "docs/mechanisms.md", "docs/settings.md"])
def test_page_is_up_to_date(file):
    assert (ROOT / file).read_text(encoding="utf-8") == pages.pages()[ROOT / file], "run `make docs`"


def test_every_setting_is_explained():
    assert unexplained(CONFIGS) == []


def test_a_key_without_explanation_is_named(configs):
    (configs / "loss" / "mine.yaml").write_text("# Mine.\n_target_: mine.Loss\nsharpness: 2\nfocus: 1  # pixels\n")
    assert unexplained(configs) == ["loss.sharpness (loss/mine.yaml)"]


@pytest.mark.parametrize("group", [group.name for group in GROUPS])
@pytest.mark.battery
def test_settings_page_has_every_key_of_every_option(group):
    known = set(
        re.findall(r"^\| `([\w.]+)` \|", (ROOT / "docs" / "settings.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    for option in options(group):
        if group == "ablation":  # it changes other keys alone
            continue
        found = set(flat(raw_config(f"{group}={option}")))
        assert {key for key in found if not key.endswith("_target_")} <= known


def test_defaults_and_ranges_of_the_settings_page(configs):
    (configs / "loss" / "mine.yaml").write_text("# Mine.\n_target_: mine.Loss\ngamma: 7  # a | b, 0 to 1\n")
    page = settings_page(configs)
    assert "| `loss.gamma` | `7` (mine) | a \\| b, 0 to 1 |" in page
    assert "| `trainer.batch_size` | `32` | tiles of a training step; batch norm needs two (integer ≥ 2) |" in page
    assert "| `attention.combine` | `sum` (scse) |" in page
    assert "| `center.width` | `512` (asp_oc, base_oc, pyramid_oc) |" not in page  # its meaning differs
    assert (
        "| `augment.transforms.1.scale` | `[0.9, 1.1]` (light, cutmix, mixup), `[0.8, 1.2]` (heavy, medium) |" in page
    )


def test_an_option_without_cost_has_empty_cells(configs):
    header = "# A loss of mine.\n# Paper: Me 2020, arXiv:2001.00001\n# Expect: Little.\n# Differs: Much.\n"
    (configs / "loss" / "mine.yaml").write_text(f"{header}_target_: mine.Loss\n")
    made = pages.pages(configs)
    assert "[mine](../configs/loss/mine.yaml)" in made[ROOT / "docs" / "mechanisms.md"]
    row = row_of(made[ROOT / "docs" / "mechanisms.md"], "loss", "mine")
    assert row["what it is"] == "A loss of mine" and row["paper"] == "[Me 2020](https://arxiv.org/abs/2001.00001)"
    assert (row["parameters"], row["multiply-adds"], row["step"]) == ("", "", "")
    assert " `mine`" in next(line for line in made[ROOT / "README.md"].splitlines() if line.startswith("| [`loss`]"))
    assert "| `mine`" not in made[ROOT / "docs" / "settings.md"]


def test_measured_costs_stand_in_the_option_s_row():
    costs = read_costs()
    usual = costs[BASELINE].machine
    page = (ROOT / "docs" / "mechanisms.md").read_text(encoding="utf-8")
    for (group, option), cost in costs.items():
        if group not in ("baseline", "settings"):
            assert row_of(page, group, option)["step"] == cost.step + ("" if cost.machine == usual else "*")


def test_a_sentence_of_several_options_stands_once(tmp_path):
    files = {"a": "Both. Only a.", "b": "Both. Only b. 2nd.", "c": "The baseline."}
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(f"# Expect: {text}\n")
    options = [Option("loss", tmp_path / f"{name}.yaml") for name in files]
    lines = pages.expectations(options).split(":\n\n")[1]
    assert lines == "- `a`, `b`: Both.\n- `a`: Only a.\n- `b`: Only b. 2nd.\n"


def test_header_lines_go_on_below_and_end_at_an_empty_line(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("# @package x\n# First\n#   sentence.\n# Paper: none\n# Expect: a: b\n#   c\n#\n# Formula: no\n")
    assert Option("loss", file).header() == {"": "First sentence.", "Paper": "none", "Expect": "a: b c"}


@pytest.mark.parametrize(
    ("papers", "shown"),
    [
        ("Tan, Le 2019, arXiv:1905.11946", "[Tan, Le 2019](https://arxiv.org/abs/1905.11946)"),
        ("none; Ö, Ra Tri, Lo-Paz 2018, arXiv:1.2 (b)", "none; [Ö et al. 2018](https://arxiv.org/abs/1.2) (b)"),
        ("Polyak, Juditsky 1992; none", "Polyak, Juditsky 1992; none"),
    ],
)
def test_papers_have_links_and_short_names(papers, shown):
    assert pages.linked(papers) == shown
