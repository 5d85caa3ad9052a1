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


def test_the_readme_has_one_table_of_all_commands():
    section = (ROOT / "README.md").read_text("utf-8").partition("\n## Commands\n")[2].partition("\n## ")[0]
    assert re.search(r"^\| *command *\| *purpose *\|$", section, re.MULTILINE | re.IGNORECASE)
    assert sorted(re.findall(r"^\| *`(salt-\w+)` *\|", section, re.MULTILINE)) == sorted(SCRIPTS)
