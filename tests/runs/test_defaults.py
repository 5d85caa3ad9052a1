"""A run of an earlier version goes on although its config.yaml lacks a setting that its class has by now."""

import pytest
from conftest import flat, options, raw_config

from salt.runs.defaults import class_defaults
from salt.runs.rundir import Digests, RunDir

GROUPS = ("attention", "center", "decoder", "hypercolumn", "deep-supervision")
EARLIER = {
    "deep_supervision": {"_target_": "salt.models.supervision.Nonempty", "heads": 1},
    "data": {"root": "a"},
    "accept": [],
}


def test_a_setting_that_is_missing_has_its_class_s_default(tmp_path):
    RunDir(tmp_path).claim(EARLIER, Digests("digest"))
    now = EARLIER["deep_supervision"] | {"hidden": 0}
    RunDir(tmp_path).claim(EARLIER | {"deep_supervision": now}, Digests("digest"))
    with pytest.raises(ValueError, match=r"deep_supervision\.hidden"):
        RunDir(tmp_path).claim(EARLIER | {"deep_supervision": now | {"hidden": 8}}, Digests("digest"))


@pytest.mark.parametrize("target", ["no.such.Class", "salt.no_such_module.Class", "salt.models", 3])
def test_a_class_that_is_not_there_has_no_defaults(target):
    assert class_defaults({"center._target_": target}) == {}


@pytest.mark.parametrize("option", [(group, option) for group in GROUPS for option in options(group)], ids="=".join)
def test_a_default_of_a_class_is_that_of_its_yaml(option):
    group, name = option
    section = group.replace("-", "_")
    settings = flat({section: raw_config(f"{group}={name}")[section]})
    differing = {k: v for k, v in class_defaults(settings).items() if k in settings and settings[k] != v}
    listed = {k for k, v in differing.items() if not isinstance(v, tuple) or list(v) != settings[k]}
    assert not listed
