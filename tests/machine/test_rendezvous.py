"""Processes that wait for each other: they say for whom, and a signal ends them."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from salt.machine import rendezvous
from salt.machine.rendezvous import meet

WAITS = """
import sys
from salt.machine import distributed, interrupt, rendezvous
rendezvous.SOON = float(sys.argv[1])
distributed.take_part()
with interrupt.handled():
    distributed.join(False)
    print(sum(distributed.all_gather(distributed.rank() + 1)))
    distributed.leave()
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def start(rank: int, size: int, port: int, soon: float) -> subprocess.Popen[str]:
    given = {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return subprocess.Popen(
        [sys.executable, "-u", "-c", WAITS, str(soon)],
        env=os.environ | given,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


@pytest.mark.slow
def test_processes_say_who_is_missing_end_at_a_signal_and_meet_when_all_are_there():
    port = free_port()
    host, stopped = start(0, 3, port, soon=2.0), start(2, 3, free_port(), soon=2.0)
    assert f"waiting for 2 of 3 processes at 127.0.0.1:{port} (rank 1, 2); " in said(host)
    line = said(stopped)
    assert line.startswith("waiting for the other 2 of 3 processes: 127.0.0.1:") and "Connection refused" in line
    assert "if no torchrun started this, these variables are left over: unset RANK WORLD_SIZE" in line
    began = time.monotonic()
    stopped.send_signal(signal.SIGTERM)
    stopped.wait(30)
    assert time.monotonic() - began < 10 and "stopped by SIGTERM" in stopped.stderr.read()
    others = [start(rank, 3, port, soon=3600.0) for rank in (1, 2)]
    for process in (host, *others):
        out, errors = process.communicate(timeout=120)
        assert (process.returncode, out, errors) == (0, "6\n", "")


def said(process: subprocess.Popen[str]) -> str:
    """The next line on a process's standard error."""
    assert process.stderr is not None
    return process.stderr.readline()


def test_whoever_waits_too_long_ends_with_one_line(monkeypatch, capsys):
    monkeypatch.setattr(rendezvous, "SOON", 0.0)
    monkeypatch.setattr(rendezvous, "LONGEST", 0.3)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    with pytest.raises(ValueError, match=r"^after 0 minutes: waiting for 1 of 2 processes at .* \(rank 1\); unset X$"):
        meet(0, 2, "unset X")
    assert capsys.readouterr().err.count("\n") == 1


def test_another_program_at_the_address_is_no_meeting_place(monkeypatch):
    monkeypatch.setattr(rendezvous, "LONGEST", 0.3)
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:  # says nothing
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", str(listener.getsockname()[1]))
        with pytest.raises(ValueError, match=r"^the processes cannot meet at 127\.0\.0\.1:\d+: .*; unset X$"):
            meet(0, 2, "unset X")  # which is to open the port
        with pytest.raises(ValueError, match=r"waiting for the other 1 of 2 .* does not answer \(so far\); unset X$"):
            meet(1, 2, "unset X")  # torch waits for it without end, in its thread
