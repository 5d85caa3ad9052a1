"""Every text that a page can produce reads as sentences: no word glued to another, no rounding that says nothing."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from salt.comparing.tables import compare
from salt.reporting import figures, gallery
from salt.reporting import page as pages
from salt.reporting.facts import Facts, Predicted, read_facts
from salt.reporting.page import page_content, render

INLINE = {"a", "strong", "span", "em", "small", "wbr", "code", "button", "label", "output"}
SILENT = {"script", "style", "title", "svg", "pre", "option"}  # not sentences, or not ours
NAMES = r"\b(loss\.at|docs/\w+\.md)\b"  # with a sign that no space follows
WRONG = {
    "glued words": r"[a-z)%0-9][.;:!?](?=[A-Za-z“(])|,(?=[A-Za-z])|[)”](?=\w)|[a-z](?=[(“])",
    "space before a sign": r"\s[.,;:!?)](?!\.)",
    "doubled sign": r"(?<!\.)\.\.(?!\.)|,,|;;|\.,|:\.",
    "plural of one": r"(?<![\d.,])1 (tiles|folds|epochs|runs|seeds|settings|pixels)\b|folds \d+ (is|are)",
    "brackets of a program": r"\[\]|\{|\}",
}
WRONG_IN_CELLS = {
    "nothing said": r"\bNone\b|\bnan\b|undefined",
    "from a to a": r"(\d\S*) (?:to|and|or) \1(?![\d.]*\d)",
    "negative zero": r"-0\.0+\b(?!\d)",
}


class Blocks(HTMLParser):
    """The texts of a page: what stands in one block is one text. A place to break within a name is the sign |."""

    def __init__(self):
        super().__init__()
        self.texts, self.silent = [("", "")], 0

    def handle_starttag(self, tag, attrs):
        self.silent += tag in SILENT
        if tag == "wbr":
            self.handle_data("|")
        elif tag not in INLINE:
            self.texts.append((tag, ""))

    def handle_endtag(self, tag):
        self.silent -= tag in SILENT
        if tag not in INLINE:
            self.texts.append(("", ""))

    def handle_data(self, data):
        if not self.silent:
            tag, text = self.texts[-1]
            self.texts[-1] = tag, text + data


def texts(page):
    """The texts of a page, each with the tag it stands in, and with white space as a browser shows it."""
    blocks = Blocks()
    blocks.feed(page)
    found = ((tag, " ".join(text.split())) for tag, text in blocks.texts)
    return [(tag, text) for tag, text in found if re.search(r"\s", text)]  # not numbers and names alone


def check(page):
    """Complain of what no sentence has, and of links within the page that lead nowhere."""
    complaints = [
        f"{what}: {text}"
        for tag, text in texts(page)
        for what, pattern in (WRONG_IN_CELLS | (WRONG if tag != "td" else {})).items()
        if re.search(pattern, re.sub(NAMES, "name", text))
    ]
    ids = set(re.findall(r'\bid="([^"]+)"', page))
    complaints += [part for part in re.findall(r'<a [^>]*href="#([^"=]+)"', page) if part not in ids]
    assert complaints == []


def paragraphs(page):
    return [
        " ".join(re.sub("<[^>]+>", "", text).split()) for text in re.findall(r"<p\b[^>]*>(.*?)</p>", page, re.DOTALL)
    ]


@pytest.fixture(scope="module")
def facts(finished, synthetic_root):
    return read_facts(finished / "runs/a", str(synthetic_root))


def test_blocks_of_a_template_keep_the_space_between_them(tmp_path, monkeypatch):
    lines = [
        "{% if yes %}One.{% endif %}",
        "    {% if yes %}Two.{% endif %}",
        "{% for i in (3, 4) %}",
        "{{ i }}.",
        "{% endfor %}",
    ]
    (tmp_path / "x.j2").write_text("<p>" + "\n".join(lines) + "</p>")
    monkeypatch.setattr(pages, "TEMPLATES", tmp_path)
    assert texts(render("x.j2", yes=True)) == [("p", "One. Two. 3. 4.")]


def gain(value, low, high, used):
    return {"gains": {"threshold": {"gain": value, "interval": [low, high], "used": used}}}


SCORES = {
    "as it is": {},
    "sections": {"interval_over": "sections", "fold_spread": 0.0123},
    "sections, one fold": {"interval_over": "sections", "fold_spread": None},
    "tiles, several folds": {"interval_over": "tiles", "fold_spread": 0.0123},
    "no gain": gain(0.0, 0.0, 0.0, False),
    "a gain of nearly nothing": gain(-1e-6, -2e-5, 1e-6, False),
    "a gain": gain(0.01, 0.005, 0.02, True),
    "one fold missing": {"partial": True, "missing_folds": [1]},
    "folds missing": {"partial": True, "missing_folds": [1, 2, 4]},
    "perfect": {"map": 1.0},
    "without salt": {"map_all_empty": 1.0, "iou": None},
    "no better": {"map": 0.1, "map_all_empty": 0.5},
}


@pytest.mark.parametrize("changes", SCORES.values(), ids=SCORES.keys())
def test_the_page_of_any_score(facts, changes, monkeypatch):
    monkeypatch.setattr(figures, "svg", lambda *_: "")  # a second a page
    page = render("report.html.j2", **page_content(replace(facts, score=facts.score | changes)))
    check(page)
    for text in paragraphs(page):
        assert text == "" or text[-1] in ".…" or "button" in text or len(text) < 100, text


def cut(facts: Facts, keep: np.ndarray, **columns) -> Facts:
    """The facts of some of the tiles, with other columns."""
    index = np.flatnonzero(keep)
    table = facts.table.iloc[index].reset_index(drop=True).assign(**columns)
    held_out = facts.held_out
    assert held_out is not None
    of_few = Predicted(
        held_out.tiles, held_out.positions[index], held_out.probabilities[index], [held_out.salt[i] for i in index]
    )
    folds = [row for row in facts.score["folds"] if row["fold"] in set(table["fold"])]
    score = facts.score | {"n": len(table), "folds": [row | {"n": 1} for row in folds]}
    return replace(facts, table=table, held_out=of_few, score=score)


def test_the_page_of_one_tile_and_of_one_fold(facts):
    one = np.arange(len(facts.table)) == 0
    facts_of_one = cut(facts, one)
    facts_of_one.score["interval"] = [0.5, 0.5]
    page = render("report.html.j2", **page_content(facts_of_one))
    check(page)
    assert "of 1 tile;" in page and "0.5000, without spread" in page and "The only scored tile is in this page" in page
    check(render("report.html.j2", **page_content(cut(facts, facts.table["fold"].to_numpy() == 1))))
    check(render("report.html.j2", **page_content(cut(facts, facts.table["coverage"].to_numpy() == 0, score=1.0))))


def test_the_page_without_what_it_shows(facts):
    bare = replace(
        facts, curves={}, environment={}, settings=[], held_out=None, test=None, problems=["runs/a/oof.npz is damaged"]
    )
    page = render("report.html.j2", **page_content(bare))
    check(page)
    assert not re.search(r'href="#[^"]*=', page)  # there are no tiles to lead to
    assert 'href="#threshold"' not in page and 'href="#learning"' not in page


def test_the_page_of_a_sample_of_the_tiles(facts, monkeypatch):
    monkeypatch.setattr(gallery, "MOST_HELD_OUT", 2)
    page = render("report.html.j2", **page_content(facts))
    check(page)
    assert "of the 2 in this page" in page


@pytest.mark.parametrize(
    ("epochs", "validated"), [(3, [3]), (3, [1, 2, 3]), (1, [1]), (39, [*range(5, 36, 5), 39]), (3, [])]
)
def test_curves_of_any_validated_epochs_have_whole_numbers_at_their_axis(facts, epochs, validated):
    epoch = np.arange(1, epochs + 1)
    score = np.where(np.isin(epoch, validated), 0.5, np.nan)
    curve = pd.DataFrame({"epoch": epoch, "lr": 0.1, "loss": 1.0, "map_at_0.5": score, "iou": score, "empty": score})
    page = render("report.html.j2", **page_content(replace(facts, curves={0: curve, 1: curve})))
    check(page)
    for ticks in re.findall(r"<figure>(<svg.*?</svg>)</figure>", page, re.DOTALL)[-3:]:
        numbers = re.findall(r'<g id="[^"]*-xtick_\d+">.*?<text[^>]*>([^<]*)</text>', ticks, re.DOTALL)
        assert numbers and all(re.fullmatch(r"\d+", number) for number in numbers)


@pytest.fixture
def runs(finished, tmp_path):
    def make(name, **changes):
        path = shutil.copytree(finished / "runs/a", tmp_path / name)
        config = (path / "config.yaml").read_text()
        for old, new in changes.items():
            config = re.sub(rf"^(\s*){old}: .*$", rf"\g<1>{old}: {new}", config, count=1, flags=re.MULTILINE)
        (path / "config.yaml").write_text(config)
        return path

    return make


@pytest.mark.parametrize("case", ["one", "two", "seeds", "mixed", "failed", "no times"])
def test_the_page_of_any_comparison(runs, synthetic_root, tmp_path, case):
    paths = [runs("first")]
    if case != "one":
        paths.append(runs("second", epochs=3))
    if case in ("seeds", "mixed"):
        paths.append(runs("first1", seed=1))
    if case == "seeds":
        paths.append(runs("second1", epochs=3, seed=1))
    if case == "no times":
        for path in paths:
            score = json.loads((path / "score.json").read_text())
            score["folds"] = [{"fold": row["fold"]} for row in score["folds"]]
            (path / "score.json").write_text(json.dumps(score))
    if case == "failed":
        for name in ("third", "fourth"):
            path = runs(name, epochs=4)
            (path / "score.json").unlink()
            (path / "error.txt").write_text("Traceback (most recent call last):\nValueError: loss is not finite\n")
        paths = [tmp_path]
    text = compare(paths, None, tmp_path / "out", str(synthetic_root))
    page = (tmp_path / "out/compare.html").read_text()
    check(page)
    for block in text.split("\n\n"):
        if "|" not in block and "written in" not in block and "no score" not in block:
            check(f"<p>{re.sub(r'(?<=[a-z])([._/,=])(?=[a-z])', r'<wbr>', block)}</p>")
    covered = {
        "seeds": "and how training varies from seed to seed",
        "mixed": "only",
        "failed": "not how training varies",
    }
    assert covered.get(case, "") in " ".join(text.split())


def test_compare_names_the_seeds_it_covers(runs, tmp_path):
    paths = [runs("a"), runs("b", epochs=3), runs("a1", seed=1), runs("b1", epochs=3, seed=1), runs("c", epochs=4)]
    said = " ".join(compare(paths, None, tmp_path / "out", "nowhere").split())
    assert "if both rows have several seeds" in said and '"tiles only"' in said
