"""A sweep's points, checked before the first one starts: the recipes with the ablations, and the messages."""

import sys

import pytest
from conftest import TINY, options, salt

from salt.cli import sweep
from salt.cli.sweep import check_points

# What cannot be: everything else of each recipe with each ablation can.
STEM = {"encoder.stem=no_maxpool"}
OWN_ENCODER = {"decoder=tiramisu"}
REFUSED = {
    ("cpu", "stem"): STEM,
    ("cpu_5fold", "stem"): STEM,
    ("survey", "stem"): STEM,
    ("gpu", "encoder"): {"encoder=efficientnet_b0"},
    **{(recipe, "architecture"): OWN_ENCODER for recipe in options("experiment")},
}


@pytest.fixture
def checked(monkeypatch):
    """The messages about the points of a sweep, which ends when they are checked."""
    messages = []

    def only(*arguments):
        try:
            check_points(*arguments)
        except ValueError as error:
            messages.append(str(error))
        sys.exit()

    monkeypatch.setattr(sweep, "check_points", only)
    return messages


@pytest.mark.slow
@pytest.mark.battery
@pytest.mark.parametrize("ablation", options("ablation"))
@pytest.mark.parametrize("recipe", options("experiment"))
def test_every_recipe_with_every_ablation(tmp_path, checked, recipe, ablation):
    assert salt(tmp_path, f"experiment={recipe}", f"ablation={ablation}", "data.root=.").returncode == 0
    points = [line.split(": ")[0].strip() for text in checked for line in text.splitlines()[1:]]
    assert set(points) == REFUSED.get((recipe, ablation), set()), checked
    assert not list(tmp_path.iterdir())


def refused(folder, *words):
    result = salt(folder, *words)
    assert result.returncode == 1 and result.stdout == "" and not list(folder.iterdir())
    return result.stderr


def test_points_that_cannot_run_are_named_with_their_cause(tmp_path):
    lines = refused(tmp_path, "ablation=stem", "experiment=cpu", "data=folder", "data.root=nowhere").splitlines()
    assert lines[0].startswith("1 of the 3 points")
    assert lines[1].startswith("  encoder.stem=no_maxpool: encoder.stem=no_maxpool ")
    assert len(lines) == 2


def test_one_cause_of_all_points_is_said_once(tmp_path):
    words = ["-m", "loss=bce,dice", "trainer.epochs=0"]
    assert refused(tmp_path, *words).count("trainer.epochs: ") == 1


def test_a_point_is_named_by_the_settings_that_vary(tmp_path):
    message = refused(tmp_path, "-m", "deep-supervision=none,nonempty", "decoder=unet,tiramisu", "encoder.weights=null")
    assert message.startswith("1 of the 4 points") and "\n  deep-supervision=nonempty decoder=tiramisu: " in message


def test_a_setting_that_one_point_does_not_know_is_refused(tmp_path):
    message = refused(tmp_path, "-m", "experiment=cpu", "loss=bce_then_lovasz,dice", "loss.at=0.3")
    assert "  loss=dice: loss.at: unknown key; loss=dice has per_image, smooth\n" in message


def test_a_class_of_a_user_that_breaks_is_left_to_its_point(tmp_path, synthetic_root):
    (tmp_path / "breaking.py").write_text("raise MemoryError\n")
    words = [*TINY, f"data.root={synthetic_root}", "-m", "loss._target_=breaking.X,salt.losses.pixel.BCE", "name=s"]
    assert "loss._target_=breaking.X" in salt(tmp_path, *words, "loss=bce", "dry_run=true").stderr
