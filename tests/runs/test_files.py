import errno
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from urllib.parse import unquote

import pytest
from filelock import FileLock

from salt.machine import distributed
from salt.runs.files import (
    check_free,
    folder_name,
    keep_first,
    locked,
    machine_id,
    sync_folder,
    write_atomic,
    write_json,
)


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    file = tmp_path / "a.json"
    write_json(file, {"x": 1})

    def fail(path):
        path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomic(file, fail)
    assert json.loads(file.read_text()) == {"x": 1}
    assert list(tmp_path.iterdir()) == [file]


def test_a_write_removes_what_killed_processes_left_of_the_same_file(tmp_path):
    code = """
import os, signal
from pathlib import Path
from salt.machine import distributed
from salt.runs.files import write_atomic
def die(path):
    path.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
write_atomic(Path("a[0].json"), die)
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    (half,) = tmp_path.iterdir()
    assert half.read_text() == "half"
    machine, number = half.name.rpartition("-")[::2]
    writing = tmp_path / f"{machine}-{os.getppid()}"  # a process that lives
    elsewhere = tmp_path / f".a[0].json.tmp-0123456789ab-{number}"  # no process of this machine has its number
    given_up = tmp_path / f".a[0].json.tmp-0123456789ab-{os.getppid()}"
    others = [tmp_path / f".b.json.{half.name.rpartition('.')[2]}", writing, elsewhere]
    for file in (*others, given_up):
        file.write_text("")
    for file, hours in ((elsewhere, 23), (given_up, 25), (writing, 25)):
        os.utime(file, (0, time.time() - 3600 * hours))
    write_json(tmp_path / "a[0].json", {"x": 1})
    assert set(tmp_path.iterdir()) == {*others, tmp_path / "a[0].json"}


def test_processes_of_one_number_on_two_machines_write_different_temporary_files(tmp_path, monkeypatch):
    names = set()
    for host in ("node-1", "node-2"):
        machine_id.cache_clear()
        monkeypatch.setattr(socket, "gethostname", lambda host=host: host)
        write_atomic(tmp_path / "a", lambda temporary: names.add(temporary.name) or temporary.touch())
    machine_id.cache_clear()
    assert len(names) == 2


@pytest.mark.parametrize("links", [True, False])
def test_of_two_writers_the_first_one_s_file_stays(tmp_path, monkeypatch, links):
    if not links:

        def fails(*_: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", fails)
    file = tmp_path / "a.json"
    for n in (1, 2):
        write_json(file, {"x": n}, keep_first)
    assert json.loads(file.read_text()) == {"x": 1} and list(tmp_path.iterdir()) == [file]


def test_a_lock_with_a_damaged_owner_is_given(tmp_path):
    for content in ("", "process x on y", "process 99999999999999999999999 on " + os.uname().nodename):
        (tmp_path / ".fold.owner").write_text(content)
        with locked(tmp_path, "fold"):
            assert (tmp_path / ".fold.owner").read_text().startswith(f"process {os.getpid()} on ")


def test_a_folder_is_named_by_any_text_and_no_two_texts_share_a_name():
    for name in ("loss=bce,seed=0", 'data.root="ä (1)"', "attention.encoder=[1,2]"):
        assert folder_name(name) == name
    texts = ["a/b", "a%2Fb", "a%252Fb", "a//b", "a/", "/a", "a%b", "a"]
    names = [folder_name(text) for text in texts]
    assert len(set(names)) == len(texts) and not any("/" in name for name in names)
    assert [unquote(name) for name in names] == texts


def test_ranks_of_torchrun_do_not_find_each_other_while_they_look_at_a_lock(tmp_path, monkeypatch):
    (tmp_path / ".fold.owner").write_text("process 4242 on another-node\n")
    monkeypatch.setattr(distributed, "_group", distributed.Group(1, 2))
    with FileLock(tmp_path / ".fold.lock"):  # as rank 0 holds it for a moment
        check_free(tmp_path, "fold")


def test_a_look_at_a_lock_takes_and_makes_nothing(tmp_path):
    check_free(tmp_path / "fold_0", "fold")
    assert not list(tmp_path.iterdir())
    (tmp_path / ".fold.lock").touch()
    (tmp_path / ".fold.owner").write_text(f"process {os.getppid()} on {os.uname().nodename}")  # a number used again
    check_free(tmp_path, "fold")
    assert {file.name for file in tmp_path.iterdir()} == {".fold.lock", ".fold.owner"}
    with locked(tmp_path, "fold"), pytest.raises(ValueError, match=f"is in use by process {os.getpid()} on "):
        check_free(tmp_path, "fold")


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def without_locks(request, monkeypatch):
    """The file system knows no locks."""

    def fails(*_: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", fails)


def test_without_locks_a_folder_is_held_by_a_file(tmp_path, without_locks):
    (tmp_path / ".fold.lock").touch()  # of a time when there were locks
    with locked(tmp_path, "fold"):
        held = re.escape(str(tmp_path / ".fold.held"))
        with pytest.raises(
            ValueError, match=f"by process {os.getpid()} on .*no locks: if it has ended, delete {held}$"
        ):
            check_free(tmp_path, "fold")
    assert [file.name for file in tmp_path.iterdir()] == [".fold.lock"]
    check_free(tmp_path, "fold")


def test_without_locks_a_killed_process_of_this_machine_is_succeeded_and_another_machine_s_is_not(
    tmp_path, without_locks
):
    pid = os.fork()
    if pid == 0:  # this process again, in which there are no locks either
        with locked(tmp_path, "fold"):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    held = tmp_path / ".fold.held"
    assert (tmp_path / ".fold.owner").exists()
    left = held.read_text(encoding="utf-8")
    with locked(tmp_path, "fold"):
        assert str(os.getpid()) in held.read_text(encoding="utf-8")
    lines = left.splitlines()
    held.write_text("\n".join([lines[0], "another-node", *lines[2:]]) + "\n", encoding="utf-8")
    with (
        pytest.raises(ValueError, match=r"another process.*delete .*\.fold\.held"),
        locked(tmp_path, "fold"),
    ):
        pass


@pytest.mark.parametrize(("number", "passes"), [(errno.EINVAL, True), (errno.EIO, False)])
def test_a_file_system_may_be_unable_to_sync_a_folder_but_not_fail_to(tmp_path, monkeypatch, number, passes):
    def fails(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fails)
    with nullcontext() if passes else pytest.raises(OSError):
        sync_folder(tmp_path)
