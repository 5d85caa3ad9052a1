"""The part of report.html that says how a run was made."""

import html
import shlex
import shutil

import pytest
from conftest import TINY

from salt.reporting.facts import read_facts
from salt.reporting.page import command as command_of
from salt.reporting.page import write_report_page
from salt.runs.files import read_json, write_json
from salt.runs.rundir import RunDir


@pytest.fixture
def copy(finished, tmp_path):
    return RunDir(shutil.copytree(finished / "runs/a", tmp_path / "runs/a"))


def read(run):
    return (run.path / "report.html").read_text(encoding="utf-8")


def test_the_command_makes_the_run_again(copy, synthetic_root):
    facts = read_facts(copy.path, str(synthetic_root))
    typed = shlex.join([*TINY, f"data.root={synthetic_root}", "name=a"])
    assert command_of(facts).endswith(f" salt-train {typed}")
    text = html.unescape((write_report_page(copy.path, str(synthetic_root)), read(copy))[1])
    assert f'<pre tabindex="0"><code>{command_of(facts)}</code></pre>' in text
    facts.score.update(partial=True, folds=[{"fold": 1}])
    assert command_of(facts).endswith("name=a 'folds=[1]'")
    (copy.path / "local.json").unlink()  # as someone else gets the run
    command = command_of(read_facts(copy.path, str(synthetic_root)))
    assert " data.root=... name=a" in command and str(synthetic_root) not in command
    record = read_json(copy.path / "environment.json")
    write_json(copy.path / "environment.json", record | {"command": None})  # started by Python code
    assert "is not recorded" in (write_report_page(copy.path, str(synthetic_root)), read(copy))[1]


def test_the_page_says_what_changed_while_a_run_was_interrupted(copy, synthetic_root):
    file = copy.path / "environment.json"
    entry = {"date": "2026-01-01", "folds": [1], "threads": 7}
    write_json(file, read_json(file) | {"resumed": [entry], "variables": {"MKL_CBWR": "AVX2"}})
    text = (write_report_page(copy.path, str(synthetic_root)), read(copy))[1]
    assert "does not give the same bytes" in text and "date: 2026-01-01, folds: [1], threads: 7" in text
    assert '<tr><th scope="row">MKL_CBWR</th><td>AVX2</td></tr>' in text.replace("<wbr>", "")
