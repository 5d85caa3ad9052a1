"""Signals as a terminal or a cluster sends them: to all processes of a group."""

import os
import signal
import sys

import pytest
from conftest import TINY
from test_faults import Started


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_the_group_is_answered_once_and_loader_workers_do_not_stop_the_step(
    synthetic_root, tmp_path, number, code
):
    overrides = [o for o in TINY if not o.startswith(("trainer.epochs", "trainer.workers"))]
    command = [sys.executable, "-m", "salt.train", *overrides, f"data.root={synthetic_root}", "name=a", "folds=[0]"]
    command += ["trainer.workers=2", "trainer.epochs=300"]
    started = Started(command, tmp_path, start_new_session=True)
    started.wait_for("epoch 2,")
    os.killpg(started.process.pid, number)
    found, out, errors = started.end()
    assert (found, errors.count("stopping as soon as")) == (code, 1), errors
    assert errors.count("the same command goes on") == 1 and "Traceback" not in errors
    log = (tmp_path / "runs/a/train.log").read_text()
    assert "saved after step" in log or out.rstrip().endswith("images/s")  # within an epoch, or at its end
    assert (tmp_path / "runs/a/fold_0/last.pt").exists()
