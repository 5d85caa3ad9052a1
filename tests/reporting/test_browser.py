"""Report pages in a real browser, Chromium without a window; skipped where there is none."""

import re
import shutil
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from salt.comparing.tables import compare
from salt.data.tgs import read_dataset
from salt.reporting.page import write_report_page

playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def page_file(finished, synthetic_root):
    assert write_report_page(finished / "runs/a", str(synthetic_root)).problems == []
    return finished / "runs/a/report.html"


@pytest.fixture
def visit(browser, page_file):
    """Open the page at an address within it; nothing may be complained of or asked from elsewhere."""
    contexts, wrong = [], []

    def go(address="", file=page_file, **settings):
        context = browser.new_context(viewport=settings.pop("viewport", {"width": 1280, "height": 900}), **settings)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request", lambda request: wrong.append(request.url) if request.url[:5] not in ("data:", "file:") else None
        )
        page.goto(f"file://{file}{address}")
        return page

    yield go
    for context in contexts:
        context.close()
    assert wrong == []


def ids(page):
    return page.eval_on_selector_all(
        "#gallery a", "links => links.map(a => new URLSearchParams(a.hash.slice(1)).get('tile'))"
    )


def column(page, name):
    index = page.evaluate("JSON.parse(document.querySelector('.tiles-index').textContent)")
    return dict(zip(index["id"], index[name], strict=True))


def count(page):
    return int(page.text_content("#count").split()[0].replace(",", ""))


def test_it_opens_and_shows_all_tiles(visit):
    page = visit()
    assert count(page) == 24 == len(ids(page))
    page.locator("#gallery img").first.scroll_into_view_if_needed()
    size = page.evaluate(
        "async () => { const i = document.querySelector('#gallery img'); await i.decode();"
        " return [i.naturalWidth, i.naturalHeight]; }"
    )
    assert size == [101, 101]
    assert page.locator("figure svg[role=img]").count() == 6


def test_pixels_that_nobody_interpreted_are_hatched(visit, finished, synthetic_root, tmp_path):
    run = shutil.copytree(finished / "runs/a", tmp_path / "a")
    data = read_dataset(synthetic_root)
    known = np.ones(data.train.images.shape, np.bool_)
    known[:, 10:60, :30] = False
    known[:, :, 70] = False
    write_report_page(run, data=replace(data, train=replace(data.train, known=known)))
    page = visit(file=run / "report.html")
    inside = """([x, y]) => [...document.querySelectorAll('#gallery path.unknown')].map(
        path => path.isPointInFill(new DOMPoint(x, y)) && getComputedStyle(path).fill.includes('#hatch'))"""
    for place in ((15, 30), (0.5, 10.5), (15, 59.5), (70.5, 95), (15, 5), (15, 65), (50, 30)):
        unknown = not known[0, int(place[1]), int(place[0])]
        assert page.evaluate(inside, place) == [unknown] * 48  # in the image and in the probability of 24 tiles


@pytest.mark.parametrize("name", ["score", "iou", "coverage", "wrong", "fold", "id"])
def test_it_sorts_by_every_column(visit, name):
    page = visit()
    for order in ("up", "down"):
        page.select_option("select[name=sort]", name)
        page.select_option("select[name=order]", order)
        values = [column(page, name)[i] for i in ids(page)]
        assert len(values) == 24 and all(a <= b if order == "up" else a >= b for a, b in pairwise(values))


@pytest.mark.parametrize("part", ["how", "tiles", "by-fold"])
def test_an_address_of_a_part_shows_the_tiles_too(visit, part):
    page = visit(f"#{part}")
    assert count(page) == 24 == len(ids(page)) and page.input_value("select[name=sort]") == "score"
    page.click("nav a[href='#how']")
    page.wait_for_timeout(300)
    assert page.evaluate("document.getElementById('how').getBoundingClientRect().top") < 200


def test_it_filters_and_the_address_keeps_it(visit):
    page = visit()
    page.select_option("select[name=fold]", "1")
    fold = column(page, "fold")
    assert {fold[i] for i in ids(page)} == {1} and count(page) == 12
    page.select_option("select[name=truth]", "none")
    coverage = column(page, "coverage")
    shown = ids(page)
    assert shown and all(coverage[i] == 0 and fold[i] == 1 for i in shown)
    again = visit(page.evaluate("location.hash"))
    assert ids(again) == shown and again.input_value("select[name=truth]") == "none"
    again.click("button[type=reset]")
    assert count(again) == 24
    again.fill("input[name=id]", shown[0])
    assert ids(again) == [shown[0]]


@pytest.mark.parametrize(
    ("truth", "predicted"), [("none", "none"), ("none", "some"), ("some", "none"), ("some", "some")]
)
def test_the_counts_of_the_confusion_are_links(visit, truth, predicted):
    page = visit()
    link = page.locator(f".confusion a[href='#truth={truth}&predicted={predicted}']")
    number = int(link.text_content())
    link.click()
    assert count(page) == number == len(ids(page))
    found, says = column(page, "coverage"), column(page, "predicted")
    assert all((found[i] > 0) == (truth == "some") and says[i] == (predicted == "some") for i in ids(page))


def test_a_link_to_a_tile_opens_it(visit):
    page = visit()
    wanted = ids(page)[7]
    page = visit(f"#tile={wanted}")
    assert page.is_visible("#viewer") and page.text_content("#viewer-title") == f"Tile {wanted}"
    assert page.locator("#panels .picture").count() == 3
    page.keyboard.press("Escape")
    assert not page.is_visible("#viewer") and "tile=" not in page.evaluate("location.hash")
    page.evaluate(f"location.hash = 'tile={wanted}'")
    page.wait_for_selector("#viewer[open]")
    page.go_back()
    page.wait_for_selector("#viewer:not([open])", state="attached")


def test_the_keyboard_goes_through_the_tiles(visit):
    page = visit()
    order = ids(page)
    at = "new URLSearchParams(document.activeElement.hash.slice(1)).get('tile')"
    page.locator("#gallery a").first.focus()
    across = page.evaluate("getComputedStyle(document.getElementById('gallery')).gridTemplateColumns.split(' ').length")
    for key, to in (("ArrowRight", 1), ("ArrowDown", 1 + across), ("ArrowUp", 1), ("ArrowLeft", 0), ("ArrowLeft", 0)):
        page.keyboard.press(key)
        assert page.evaluate(at) == order[to]
    page.keyboard.press("Enter")
    page.wait_for_selector("#viewer[open]")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.text_content("#viewer-title") == f"Tile {order[2]}" and page.evaluate("location.hash").endswith(
        f"tile={order[2]}"
    )
    page.keyboard.press("o")
    assert page.get_attribute("#outlines", "aria-pressed") == "false"
    assert not page.locator("#panels path").first.is_visible()
    page.keyboard.press("Escape")
    page.locator(f"#gallery a[href$='tile={order[2]}']:focus").wait_for()  # which comes a moment later


def test_outlines_are_the_borders_of_the_masks(visit, synthetic_root):
    page = visit()
    data = read_dataset(synthetic_root).train
    for i in range(6):
        mask = data.masks[i]
        page.evaluate(f"location.hash = 'tile={data.ids[i]}'")
        page.wait_for_function(f"document.getElementById('viewer-title').textContent === 'Tile {data.ids[i]}'")
        path = page.locator("#panels path.truth").first.get_attribute("d") or ""
        length = page.evaluate(
            "d => { const p = document.createElementNS('http://www.w3.org/2000/svg', 'path');"
            " p.setAttribute('d', d); return p.getTotalLength(); }",
            path,
        )
        padded = [[0] * 103, *([0, *row, 0] for row in mask.tolist()), [0] * 103]
        edges = sum(a != b for row in padded for a, b in pairwise(row)) + sum(
            a != b for col in zip(*padded, strict=True) for a, b in pairwise(col)
        )
        assert length == pytest.approx(edges)
        upright = {(x, y) for y, row in enumerate(mask.tolist()) for x, a in enumerate([*row, 0]) if a != [0, *row][x]}
        drawn = {
            (int(x), y) for x, top, end in re.findall(r"M(\d+) (\d+)V(\d+)", path) for y in range(int(top), int(end))
        }
        assert drawn == upright


def test_the_test_set_is_ordered_by_how_unsure(visit):
    page = visit()
    page.select_option("select[name=set]", "test")
    unsure = page.evaluate("JSON.parse(document.querySelector('.tiles-index[data-set=test]').textContent)")
    values = dict(zip(unsure["id"], unsure["unsure"], strict=True))
    shown = [values[i] for i in ids(page)]
    assert len(shown) == 6 and all(a >= b for a, b in pairwise(shown))
    assert not page.is_visible("select[name=error]")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_dark_and_light_differ_and_nothing_is_wider_than_a_phone(visit, scheme):
    page = visit(color_scheme=scheme, viewport={"width": 400, "height": 800})
    background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 22, 28)"}[scheme]
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.locator("#gallery a").first.click()
    page.wait_for_selector("#viewer[open]")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_it_prints(visit):
    pdf = visit().pdf(format="A4")
    assert (
        pdf[:4] == b"%PDF"
        and pdf.count(b"/Type /Page\n") + pdf.count(b"/Type/Page\n") + pdf.count(b"/Type /Page ") >= 2
    )


@pytest.mark.parametrize(
    "settings",
    [{}, {"color_scheme": "dark"}, {"viewport": {"width": 400, "height": 800}}],
    ids=["light", "dark", "phone"],
)
@pytest.mark.parametrize("opened", [False, True])
def test_a_checker_of_accessibility_finds_nothing_serious(visit, settings, opened):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = visit(**settings)
    if opened:
        page.locator("#gallery a").first.click()
        page.wait_for_selector("#viewer[open]")
    page.evaluate("document.querySelector('meta[http-equiv]').remove()")
    found = axe.Axe().run(page).response["violations"]
    serious = [
        (rule["id"], node["html"][:200], node["failureSummary"])
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]
    assert serious == []


def test_neighbours_of_a_section_are_beside_a_tile(visit, finished, synthetic_root, tmp_path):
    data = shutil.copytree(synthetic_root, tmp_path / "data")
    train, test = (part.ids for part in (read_dataset(data).train, read_dataset(data).test))
    places = {train[0]: "0,0", train[1]: "0,1", test[0]: "1,0", train[3]: "5,5"}
    (data / "mosaic.csv").write_text("id,mosaic,row,column\n" + "".join(f"{i},s1,{at}\n" for i, at in places.items()))
    run = shutil.copytree(finished / "runs/a", tmp_path / "a")
    write_report_page(run, str(data))
    page = visit(f"#tile={train[0]}", file=run / "report.html")
    shown = page.eval_on_selector_all("#neighbours a", "all => all.map(a => a.getAttribute('aria-label'))")
    assert shown == [f"tile {train[0]}", f"tile {train[1]}", f"tile {test[0]}"]
    page.locator("#neighbours a").nth(2).click()
    page.wait_for_function(f"document.getElementById('viewer-title').textContent === 'Tile {test[0]}'")
    page.evaluate(f"location.hash = 'tile={train[5]}'")
    page.wait_for_function(f"document.getElementById('viewer-title').textContent === 'Tile {train[5]}'")
    assert not page.is_visible("#neighbours")


def test_a_comparison_of_two_runs(visit, finished, synthetic_root, tmp_path):
    for name in "xy":
        shutil.copytree(finished / "runs/a", tmp_path / name)
    settings = (tmp_path / "y/config.yaml").read_text()
    (tmp_path / "y/config.yaml").write_text(settings.replace("epochs: 2", "epochs: 3"))
    compare([tmp_path / "x", tmp_path / "y"], None, tmp_path, str(synthetic_root))
    page = visit(file=tmp_path / "compare.html")
    assert count(page) == 24 and not page.is_visible("select[name=error]")
    page.locator("#gallery a").first.click()
    page.wait_for_selector("#viewer[open]")
    captions = page.locator("#panels figcaption").all_text_contents()
    assert len(captions) == 4 and captions[0].startswith("x: with truth") and captions[2].startswith("y: with truth")
    page.evaluate("document.querySelector('meta[http-equiv]').remove()")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    found = axe.Axe().run(page).response["violations"]
    assert not [rule["id"] for rule in found if rule["impact"] in ("serious", "critical")]


def test_without_scripts_it_says_so(visit):
    page = visit(java_script_enabled=False)
    assert page.is_visible("noscript p") and page.is_visible("#by-fold")
