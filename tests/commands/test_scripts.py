"""What all commands share."""

import re
from importlib import import_module
from pathlib import Path

import pytest
from conftest import salt as run

import salt

ROOT = Path(__file__).parents[2]
SCRIPTS = dict(re.findall(r'^(salt-\w+) = "(.+):main"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE))


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_command_has_a_version_and_help(tmp_path, name):
    main = import_module(SCRIPTS[name]).main
    assert run(tmp_path, "--version", main=main) == (0, f"{name} {salt.__version__}\n", "")
    shown = run(tmp_path, "--help", main=main)
    assert shown.returncode == 0 and name in shown.stdout and not shown.stderr
