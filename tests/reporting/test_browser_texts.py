"""What Chromium makes of names and of addresses: where lines break, and what an address that leads nowhere shows."""

import json
import shutil

import pytest
import yaml
from test_browser import browser, ids, page_file, pytestmark, visit  # noqa: F401

from salt.reporting import gallery
from salt.reporting.page import write_report_page

# Letters or digits of one text that stand in different lines: a break within a word. A <wbr> parts texts.
BROKEN = """() => {
  const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  const line = (node, i) => { range.setStart(node, i); range.setEnd(node, i + 1); return range.getClientRects()[0]; };
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    if (node.parentElement.closest("script, style, svg, dialog, details:not([open])")) continue;
    for (const word of node.textContent.matchAll(/[\\p{L}\\p{N}]{2,}/gu)) {
      const first = line(node, word.index), last = line(node, word.index + word[0].length - 1);
      if (first && last && Math.abs(first.top - last.top) > 4) found.push(node.textContent.trim());
    }
  }
  return found;
}"""
WIDTHS = {"wide": (1300, "screen"), "phone": (400, "screen"), "paper": (794, "print")}  # A4 has 794 pixels


@pytest.fixture(scope="module")
def long_names(finished, synthetic_root, tmp_path_factory):
    """The page of a run with long names everywhere."""
    run = tmp_path_factory.mktemp("long") / "encoder.weights=null,semi_supervised.least=0.25,loss=bce_then_lovasz"
    shutil.copytree(finished / "runs/a", run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"]["mosaic"] = "a_folder/with_several/sub_folders_of_sections/and_a_table_of_neighbours.csv"
    config["trainer"]["predict_batch_size"] = 11
    config["loss"]["own_parameter_of_a_class_with_a_long_name"] = ["one_value", "another_value"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    (run / "environment.json").write_text(
        json.dumps(
            json.loads((run / "environment.json").read_text())
            | {"cpu": "Intel(R) Xeon(R) Platinum 8488C Processor", "changes": ["trainer.predict_batch_size: 8 -> 11"]}
            | {"command": ["salt-train", "semi-supervised=pseudo", "semi_supervised.least=0.25"]}
        )
    )
    write_report_page(run, str(synthetic_root))
    return run / "report.html"


@pytest.mark.parametrize(("width", "media"), WIDTHS.values(), ids=WIDTHS.keys())
def test_no_line_breaks_within_a_word(visit, long_names, width, media):  # noqa: F811
    page = visit(file=long_names, viewport={"width": width, "height": 900})
    page.emulate_media(media=media)
    for details in page.locator("details").all():
        details.evaluate("element => element.open = true")
    assert page.evaluate(BROKEN) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_detector_of_breaks_finds_one(visit, long_names):  # noqa: F811
    page = visit(file=long_names, viewport={"width": 400, "height": 900})
    page.add_style_tag(content="td { word-break: break-all; }")
    assert len(page.evaluate(BROKEN)) > 5


def test_an_address_of_a_tile_that_is_not_there_says_so(visit, finished, synthetic_root, tmp_path, monkeypatch):  # noqa: F811
    page = visit("#tile=no-such-tile")
    assert page.text_content("#absent") == "Tile no-such-tile is not in this page." and page.is_visible("#absent")
    assert len(ids(page)) == 24 and not page.is_visible("#viewer")
    page.evaluate(f"location.hash = 'tile={ids(page)[0]}'")
    page.wait_for_selector("#viewer[open]")
    assert not page.is_visible("#absent")

    monkeypatch.setattr(gallery, "MOST_HELD_OUT", 5)
    run = shutil.copytree(finished / "runs/a", tmp_path / "a")
    left_out = ids(page)
    write_report_page(run, str(synthetic_root))
    page = visit(file=run / "report.html")
    shown = ids(page)
    tile = next(i for i in left_out if i not in shown)
    page = visit(f"#tile={tile}", file=run / "report.html")
    assert page.text_content("#absent") == f"Tile {tile} is not in this page, which holds 5 of 24 tiles."


def test_an_address_of_a_test_tile_needs_no_set(visit):  # noqa: F811
    page = visit()
    page.select_option("select[name=set]", "test")
    tile = ids(page)[0]
    assert visit(f"#tile={tile}").text_content("#viewer-title") == f"Tile {tile}"


def test_an_address_of_an_unknown_part_says_so(visit):  # noqa: F811
    page = visit("#tile-000e1")
    assert page.text_content("#absent") == "This page has no part “tile-000e1”."
    page.evaluate("location.hash = 'how'")
    page.wait_for_function("document.getElementById('absent').hidden")


def test_without_tiles_an_address_leads_to_the_reason(visit, finished, tmp_path):  # noqa: F811
    run = shutil.copytree(finished / "runs/a", tmp_path / "a")
    write_report_page(run, "nowhere")
    page = visit("#tile=x", file=run / "report.html")
    top = page.evaluate("document.getElementById('tiles').getBoundingClientRect().top")
    assert top < 900 and "could not be read" in page.text_content("#tiles")
