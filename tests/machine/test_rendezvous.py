"""Processes that wait for each other: they say so, and a signal ends them."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from salt.machine import distributed

WAITS = """
import sys
from salt.machine import distributed, interrupt
distributed.SOON = float(sys.argv[1])
distributed.take_part()
with interrupt.handle_signals():
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
    assert f"127.0.0.1:{port} (rank 1, 2); " in host.stderr.readline()
    line = stopped.stderr.readline()
    assert "Connection refused" in line and "unset RANK WORLD_SIZE" in line
    began = time.monotonic()
    stopped.send_signal(signal.SIGTERM)
    stopped.wait(30)
    assert time.monotonic() - began < 10 and "stopped by SIGTERM" in stopped.stderr.read()
    others = [start(rank, 3, port, soon=3600.0) for rank in (1, 2)]
    for process in (host, *others):
        out, errors = process.communicate(timeout=120)
        assert (process.returncode, out, errors) == (0, "6\n", "")


def test_a_process_that_waits_too_long_ends_with_one_line(monkeypatch, capsys):
    monkeypatch.setattr(distributed, "_group", distributed.Group(0, 2))
    monkeypatch.setattr(distributed, "SOON", 0.0)
    monkeypatch.setattr(distributed, "LONGEST", 0.3)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    with pytest.raises(ValueError, match=r"^after 0 minutes: .*\(rank 1\); .*unset RANK WORLD_SIZE$"):
        distributed.meet()
    assert capsys.readouterr().err.count("\n") == 1


def test_a_port_of_another_program_is_refused(monkeypatch):
    monkeypatch.setattr(distributed, "_group", distributed.Group(0, 2))
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:  # says nothing
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", str(listener.getsockname()[1]))
        with pytest.raises(ValueError, match=r"^the processes cannot meet at 127\.0\.0\.1:\d+: "):
            distributed.meet()
