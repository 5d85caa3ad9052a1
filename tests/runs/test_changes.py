"""What differs between two runs' settings, in few words."""

import copy

import pytest
from conftest import options, raw_config

from salt.overrides import NONE, describe_changes, flatten
from salt.runs.rundir import differences


def settings(*words):
    return raw_config("data=synthetic", *words)


@pytest.mark.slow
@pytest.mark.parametrize("group", ["augment", "loss", "deep-supervision", "decoder", "optimizer", "encoder", "center"])
def test_another_option_is_one_line_that_names_both(group):
    first, *others = [option for option in options(group) if option not in ("any", "none", "tiramisu")]
    for other in others:
        new = settings(f"{group}={other}")
        old = settings(f"{group}={first}")
        if group == "encoder":  # with the weights that their YAML names
            old, new = ({**raw, "encoder": raw["encoder"] | {"weights": "imagenet"}} for raw in (old, new))
        assert differences(old, new) == [f"{group}: {first} -> {other}"]


def test_of_settings_that_are_no_option_what_differs_is_named_alone():
    old = settings("augment=medium")
    new = copy.deepcopy(old)
    new["augment"]["transforms"][1]["p"] = 0.2
    new["augment"]["transforms"][1]["scale"] = [0.5, 1.5]
    new["loss"]["weights"] = [1.0, 0.5]
    new["trainer"]["clip"] = 1.0
    assert differences(old, new) == [
        "loss.weights: [1.0, 1.0] -> [1.0, 0.5]",
        "augment.transforms.1.scale: [0.8, 1.2] -> [0.5, 1.5]",
        "augment.transforms.1.p: 0.7 -> 0.2",
        "trainer.clip: null -> 1.0",
    ]
    del new["augment"]["transforms"][2:]
    classes = ["HorizontalFlip", "Affine", "RandomBrightnessContrast", "RandomGamma"]
    names = [f"[{', '.join(part)}]" for part in (classes, classes[:2])]
    assert differences(old, new)[1] == f"augment.transforms: {' -> '.join(names)}"


def test_a_long_value_is_cut_and_one_that_is_not_there_is_said():
    lines = describe_changes(
        {"own.x": "a" * 200, "own.list": list(range(100))}, {"own.y": True}, ["own.x", "own.list", "own.y"]
    )
    assert [line.split(": ")[0] for line in lines] == ["own.x", "own.list", "own.y"]
    assert all(len(line) < 110 for line in lines) and lines[2] == f"own.y: {NONE} -> true"
    assert all(line.isascii() for line in lines)  # for a terminal of any encoding


def test_flatten_keeps_lists():
    assert flatten({"a": {"b": [{"c": 1}], "d": 2}}) == {"a.b": [{"c": 1}], "a.d": 2}
