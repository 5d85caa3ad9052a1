import re

import pytest

from salt.words import LONGEST, breakable, duration, numbered, percent, plural, signed, span


def parts(text):
    return str(breakable(text)).split("<wbr>")


def test_names_break_after_their_signs():
    assert parts("data.n_train.x") == ["data.", "n_", "train.", "x"]
    assert parts("loss=bce,encoder.weights=/a/b-c.pth") == [
        *("loss=", "bce,", "encoder.", "weights=/", "a/", "b-", "c.", "pth")
    ]


@pytest.mark.parametrize("text", ["[256, 128]", "1.5e-3", "resnet34", "2026-11-30", "0.50", "a b", "Überschiebung"])
def test_numbers_and_words_stay_whole(text):
    assert parts(text) == [text]


def test_only_what_is_longer_than_words_breaks_within():
    assert parts("x" * LONGEST) == ["x" * LONGEST]
    digest = "0123456789abcdef" * 4
    assert len(parts(digest)) == 4 and "".join(parts(digest)) == digest


def test_no_text_is_lost_and_all_of_it_is_escaped():
    evil = '<script>&"x"</script>.y_' + "z" * 90
    found = str(breakable(evil))
    assert "<script>" not in found
    assert re.sub("<wbr>", "", found) == evil.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace(
        '"', "&#34;"
    )


def test_numbers_in_words():
    assert [plural(n, "tile") for n in (0, 1, 2, 1234)] == ["0 tiles", "1 tile", "2 tiles", "1,234 tiles"]
    assert [numbered("fold", n) for n in ([1], [0, 2], [0, 2, 3])] == ["fold 1", "folds 0 and 2", "folds 0, 2 and 3"]
    assert [signed(x) for x in (-0.00001, 0.0, -0.1)] == ["+0.0000", "+0.0000", "-0.1000"]
    assert span(0.1, 0.2) == "0.1000 to 0.2000" and span(-0.1, 0.2, sign=True) == "-0.1000 to +0.2000"
    assert span(0.41001, 0.41002) == "0.4100, without spread"
    assert [duration(s) for s in (3, 89, 90, 7260)] == ["3 s", "89 s", "2 min", "2 h 1 min"] and percent(
        0.5
    ) == "50.0 %"
