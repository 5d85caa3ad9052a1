"""Commands whose output is closed or full, or whose folder is gone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PRINTS = """
import errno, os, sys
from salt.commands.common import messages
with messages("salt-test"):
    file = open("work.bin", "wb")  # takes the lowest descriptor that is free
    print("result →")
    print("warning →", file=sys.stderr)
    try:
        os.write(2, b"of a library\\n")
    except OSError as error:
        assert error.errno == errno.ENOSPC
    file.write(b"work")
    file.close()
"""
FULL = "salt-test: standard output cannot be written: No space left on device; send it elsewhere\n"


def shell(folder: Path, redirections: str) -> subprocess.CompletedProcess[str]:
    (folder / "prints.py").write_text(PRINTS, encoding="utf-8")
    command = f'"{sys.executable}" prints.py {redirections}'
    given = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    return subprocess.run(
        ["sh", "-c", command], cwd=folder, env=given, capture_output=True, encoding="utf-8", check=False
    )


@pytest.mark.parametrize(
    ("redirections", "code", "out", "errors"),
    [
        ("", 0, "result →\n", "warning →\nof a library\n"),
        ("<&- >&-", 0, "", "warning →\nof a library\n"),
        ("2>&-", 0, "result →\n", ""),
        ("<&- >&- 2>&-", 0, "", ""),
        (">/dev/full", 1, "", f"warning →\nof a library\n{FULL}"),
        (">/dev/full 2>/dev/full", 1, "", ""),
    ],
)
def test_work_is_done_whatever_becomes_of_what_is_printed(tmp_path, redirections, code, out, errors):
    ended = shell(tmp_path, redirections)
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, out, errors)
    assert (tmp_path / "work.bin").read_bytes() == b"work"


def test_letters_that_the_output_lacks_are_spelled(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "iso8859-1")
    (tmp_path / "prints.py").write_text(PRINTS, encoding="utf-8")
    ended = subprocess.run([sys.executable, "prints.py"], cwd=tmp_path, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (
        0,
        b"result \\u2192\n",
        b"warning \\u2192\nof a library\n",
    )


@pytest.mark.parametrize("module", ["salt.train", "salt.commands.export"])
def test_a_folder_that_is_gone_is_named_in_one_line(tmp_path, module):
    command = f'mkdir gone && cd gone && rmdir ../gone && exec "{sys.executable}" -m {module} x'
    ended = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
    name = f"salt-{module.rpartition('.')[2]}"
    assert ended.returncode == 1
    assert ended.stderr == f"{name}: the current folder {tmp_path}/gone is gone: go to another one with cd\n"
