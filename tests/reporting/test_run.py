import pytest

from salt.commands import report


def score(**changes):
    folds = [{"fold": fold, "threshold": 0.4, "map": 0.7, "map_at_0.5": 0.6, "iou": 0.5, "n": 10} for fold in (0, 1)]
    whole = {"map": 0.7123, "map_at_0.5": 0.6, "map_all_empty": 0.39, "iou": 0.5, "n": 20, "partial": False}
    whole |= {"threshold": 0.5, "gains": {"threshold": {"used": False}}}
    return whole | {"folds": folds, "missing_folds": []} | changes


def test_the_table_ends_with_all_folds_and_with_all_tiles_empty(capsys):
    report.print_scores(score())
    lines = capsys.readouterr().out.splitlines()
    words = [line.split() for line in lines]
    assert words[0] == ["threshold", "map", "map_at_0.5", "iou", "n"] and words[1] == ["fold"]
    assert words[4] == ["together", "0.7123", "0.6", "0.5", "20"]
    assert words[5] == ["all", "empty", "0.39", "0.39", "0.0", "20"]
    assert "no better" not in " ".join(lines)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "threshold 0.5"),
        (
            {"threshold": 0.62, "gains": {"threshold": {"used": True}}},
            "threshold 0.62; each tile at one chosen on others",
        ),
    ],
)
def test_how_masks_are_made_is_told(capsys, changes, words):
    report.print_scores(score(**changes))
    assert f"over 20 tiles ({words})" in capsys.readouterr().out


@pytest.mark.parametrize("value", [0.39, 0.2])
def test_a_run_that_is_no_better_than_all_tiles_empty_is_told(capsys, value):
    report.print_scores(score(map=value))
    assert "no better than predicting every tile empty, which scores 0.3900" in capsys.readouterr().out
