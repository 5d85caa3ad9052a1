"""Signals as a terminal, a service manager or a cluster sends them: to all processes."""

import os
import signal
import sys
from pathlib import Path

import pytest
from conftest import TINY
from test_faults import Started

from salt.machine import distributed, interrupt


@pytest.mark.parametrize("to", ["group", "each"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.slow
def test_a_signal_to_all_processes_is_answered_once_and_loader_workers_do_not_stop_the_step(
    synthetic_root, tmp_path, number, code, to
):
    overrides = [o for o in TINY if not o.startswith(("trainer.epochs", "trainer.workers"))]
    command = [sys.executable, "-m", "salt.train", *overrides, f"data.root={synthetic_root}", "name=a", "folds=[0]"]
    command += ["trainer.workers=2", "trainer.epochs=300"]
    started = Started(command, tmp_path, start_new_session=True)
    started.wait_for("epoch 2,")
    if to == "group":
        os.killpg(started.process.pid, number)
    else:  # as systemd, pkill and some batch systems do
        pid = started.process.pid
        workers = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()]
        assert len(workers) >= 2
        for process in (*workers, pid):
            os.kill(process, number)
    found, out, errors = started.end()
    assert (found, errors.count("stopping as soon as")) == (code, 1), errors
    assert errors.count("the same command resumes") == 1 and "Traceback" not in errors
    log = (tmp_path / "runs/a/train.log").read_text()
    assert "saved after step" in log or out.rstrip().endswith("images/s")  # within an epoch, or at its end
    assert (tmp_path / "runs/a/fold_0/last.pt").exists()


@pytest.mark.parametrize("torchrun", [False, True])
def test_a_second_signal_stops_at_once_but_not_under_torchrun_which_hands_it_on(monkeypatch, torchrun, capsys):
    if torchrun:
        monkeypatch.setattr(distributed, "_group", distributed.Group(0, 2))
    steps = []
    with pytest.raises(interrupt.Interrupted, match="SIGTERM"), interrupt.handle_signals(), interrupt.defer_signals():
        signal.raise_signal(signal.SIGTERM)
        steps.append("after the first")
        signal.raise_signal(signal.SIGTERM)
        steps.append("after the second")
    assert steps == ["after the first", "after the second"][: 1 + torchrun]
    assert ("again to stop at once" in capsys.readouterr().err) != torchrun


@pytest.mark.parametrize(("signalled", "raised"), [(True, interrupt.Interrupted), (False, RuntimeError)])
def test_an_error_after_a_signal_is_the_end_of_torch_s_compilers(signalled, raised):
    with pytest.raises(raised), interrupt.handle_signals(), interrupt.defer_signals():
        if signalled:
            signal.raise_signal(signal.SIGTERM)
        raise RuntimeError("SubprocPool closed")
    assert interrupt.pending() is None
