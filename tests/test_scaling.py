"""Folds side by side, as jobs, and one fold over several processes: the run directory is the same."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY
from hydra.types import RunMode
from omegaconf import OmegaConf
from test_faults import ENVIRONMENT, Started, run

from salt.cli import process as own_process
from salt.cli import sweep
from salt.cli.process import free_device
from salt.data.loader import Draws, EpochBatches
from salt.machine import distributed
from salt.machine.distributed import Group

RESULTS = [f"fold_{fold}/{name}" for fold in (0, 1) for name in ("model.safetensors", "metrics.csv", "oof.npz")]
RESULTS += ["oof.csv", "oof.npz", "submission.csv", "folds.csv"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "salt.train"]


@pytest.fixture(scope="module")
def overrides(synthetic_root):
    return [*TINY, f"data.root={synthetic_root}", "name=a"]


@pytest.fixture(scope="module")
def sequential(overrides, tmp_path_factory):
    path = tmp_path_factory.mktemp("sequential")
    assert run([sys.executable, "-m", "salt.train", *overrides], path).returncode == 0
    return {name: (path / "runs/a" / name).read_bytes() for name in RESULTS}


@pytest.mark.parametrize(
    "launcher",
    [["joblib"], ["joblib", "hydra.launcher.n_jobs=2", "trainer.workers=1"], ["submitit_local"]],
    ids=",".join,
)
@pytest.mark.slow
def test_folds_side_by_side_give_the_same_bytes(overrides, sequential, tmp_path, launcher):
    words = [f"hydra/launcher={launcher[0]}", *launcher[1:], "folds=[0],[1]"]
    sweep = [sys.executable, "-m", "salt.train", "-m", *overrides, *words]
    result = run(sweep, tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert {name: (tmp_path / "runs/a" / name).read_bytes() for name in RESULTS} == sequential
    assert "partial" not in (tmp_path / "runs/a/score.json").read_text().replace('"partial": false', "")


@pytest.fixture(scope="module")
def together(overrides, tmp_path_factory):
    path = tmp_path_factory.mktemp("together")
    result = run([*TORCHRUN, *overrides], path)
    assert result.returncode == 0, result.stderr
    return path / "runs/a", result.stdout


@pytest.mark.slow
def test_two_processes_train_one_fold(together, sequential, synthetic_root):
    path, said = together
    assert sorted(str(f.relative_to(path)) for f in path.rglob("*") if f.is_file() and f.suffix != ".lock") == sorted(
        [
            *RESULTS,
            "config.yaml",
            "data.json",
            "environment.json",
            "local.json",
            "score.json",
            "submission.json",
            "test.npz",
        ]
        + [f"fold_{fold}/{name}" for fold in (0, 1) for name in ("done", "metrics.png", "timing.json")]
        + ["train.log"]
    )
    assert said.count("out-of-fold map") == 1  # the first process alone speaks and writes
    oof = pd.read_csv(path / "oof.csv", dtype={"id": str})
    assert sorted(oof["id"]) == sorted(pd.read_csv(synthetic_root / "train.csv", dtype=str)["id"])
    assert (path / "folds.csv").read_bytes() == sequential["folds.csv"]
    # the same batches; only batch norm, which sees half of each, makes a difference
    rows = [
        list(csv.DictReader(text.splitlines()))
        for text in ((path / "fold_0/metrics.csv").read_text(), sequential["fold_0/metrics.csv"].decode())
    ]
    assert [r["lr"] for r in rows[0]] == [r["lr"] for r in rows[1]]
    losses = np.array([[float(r["loss"]) for r in part] for part in rows])
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.05)


def test_processes_share_each_batch_and_each_sample_comes_once_an_epoch():
    alone = EpochBatches(Draws(np.arange(100, 141)), 8, (0, 1))
    shares = [EpochBatches(Draws(np.arange(100, 141)), 8, (0, 1), Group(rank, 2)) for rank in (0, 1)]
    for epoch in (0, 1):
        for batches in (alone, *shares):
            batches.epoch = epoch
        seen = []
        for whole, left, right in zip(alone, *shares, strict=True):
            assert len(left) == len(right) == 4 and sorted(left + right) == sorted(whole)
            seen += left + right
        assert len(set(seen)) == len(seen) == 40
    with pytest.raises(ValueError, match=r"trainer.batch_size=9, expected a multiple of the 2 processes"):
        EpochBatches(Draws(np.arange(41)), 9, (0, 1), Group(0, 2))


@pytest.mark.slow
def test_a_dry_run_over_processes_prints_its_plan_once(overrides, tmp_path):
    result = run([*TORCHRUN, *overrides, "dry_run=true"], tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("M parameters on cpu") == 1 and "to train: about" not in result.stdout
    assert "destroy_process_group" not in result.stderr and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("rank", "hidden"), [(0, None), (1, True)])
def test_only_rank_0_draws_bars(monkeypatch, rank, hidden):
    monkeypatch.setattr(distributed, "_group", distributed.Group(rank, 2))
    assert distributed.tqdm_disable() is hidden


def test_a_sweep_under_torchrun_is_refused(overrides, tmp_path):
    environment = ENVIRONMENT | {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    command = [sys.executable, "-m", "salt.train", "-m", *overrides, "loss=bce,lovasz"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1 and "a sweep cannot run under torchrun" in result.stderr


@pytest.mark.parametrize(
    ("launcher", "threads"), [({"cpus_per_task": 3}, "3"), ({"cpus_per_task": None}, "1"), ({}, None)]
)
def test_a_job_computes_with_the_cores_that_it_was_given(monkeypatch, launcher, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", "removed again after the test")
    monkeypatch.delenv("OMP_NUM_THREADS")
    settings = OmegaConf.create({"mode": RunMode.MULTIRUN, "launcher": launcher})
    monkeypatch.setattr(own_process.HydraConfig, "get", lambda: settings)
    own_process.limit_threads()
    assert os.environ.get("OMP_NUM_THREADS") == threads


def test_each_point_takes_a_gpu_of_its_own_while_there_are_some(two_gpus, tmp_path):
    assert sweep.default_jobs() == 2
    with free_device(tmp_path, 0) as first, free_device(tmp_path, 2) as second:
        assert (first, second) == ("cuda:0", "cuda:1")  # the third point's turn is cuda:0, but that is in use
        with free_device(tmp_path, 3) as third:
            assert third in ("cuda:0", "cuda:1")
    with free_device(tmp_path, 3) as again:
        assert again == "cuda:1"


@pytest.mark.parametrize("n_listed", [0, 1])
def test_without_a_gpu_that_torch_can_use_points_share_the_cpu(monkeypatch, tmp_path, n_listed):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_listed)  # by the system, whatever the driver's age
    with free_device(tmp_path, 1) as device:
        assert device is None
    monkeypatch.setattr(joblib, "cpu_count", lambda: 64)
    assert sweep.default_jobs() == sweep.MOST_ON_CPU


def test_alone_there_is_nothing_to_share():
    assert (
        distributed.is_main()
        and distributed.rank() == 0
        and distributed.gather("x") == ["x"]
        and distributed.all_reduce_mean(2) == 2
    )


@pytest.mark.faults
def test_a_preempted_job_is_requeued_and_goes_on(overrides, tmp_path):
    longer = [*overrides, "trainer.epochs=30", "folds=[0]"]
    undisturbed, preempted = tmp_path / "undisturbed", tmp_path / "preempted"
    weights = run_undisturbed([sys.executable, "-m", "salt.train", *longer], undisturbed)
    preempted.mkdir()
    command = [sys.executable, "-m", "salt.train", "-m", *longer, "hydra/launcher=submitit_local"]
    started = Started(command, preempted)
    log = preempted / "runs/a/train.log"
    deadline = time.monotonic() + 60
    while not log.exists() or "epoch 2," not in log.read_text():
        assert time.monotonic() < deadline and started.process.poll() is None, started.errors
        time.sleep(0.05)
    os.kill(job_of(preempted), signal.SIGUSR2)
    assert started.end()[0] == 0
    assert "saved after step" in log.read_text() and "resumes after epoch" in log.read_text()
    assert (preempted / "runs/a/fold_0/model.safetensors").read_bytes() == weights


@pytest.mark.faults
@pytest.mark.parametrize("by", ["killed", "Ctrl-C"])
def test_points_side_by_side_stop_with_their_command(overrides, tmp_path, by):
    longer = [*overrides, "trainer.epochs=40", "folds=[0],[1]"]
    command = [sys.executable, "-m", "salt.train", "-m", *longer, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    started = Started(command, tmp_path, start_new_session=True)
    checkpoints = [tmp_path / f"runs/a/fold_{fold}/last.pt" for fold in (0, 1)]
    deadline = time.monotonic() + 60
    while not all(file.exists() for file in checkpoints):
        assert time.monotonic() < deadline and started.process.poll() is None, started.errors
        time.sleep(0.05)
    children = (
        Path(f"/proc/{started.process.pid}/task/{started.process.pid}/children").read_text(encoding="utf-8").split()
    )
    workers = [pid for pid in children if "LokyProcess" in Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")]
    assert len(workers) == 2
    if by == "Ctrl-C":
        os.killpg(started.process.pid, signal.SIGINT)  # as a terminal sends it: to all processes of the command
    else:
        started.process.kill()
    log = tmp_path / "runs/a/train.log"
    while list(tmp_path.glob("runs/a/fold_*/.fold.owner")):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    assert "epoch 40," not in log.read_text() and log.read_text().count("saved after step") == 2
    while children := [pid for pid in workers if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, children
        time.sleep(0.05)
    result = run(command, tmp_path)
    assert result.returncode == 0 and log.read_text().count("resumes after epoch") == 2, result.stderr


def run_undisturbed(command: list[str], folder: Path) -> bytes:
    """The weights that a run ends with."""
    folder.mkdir()
    result = run(command, folder)
    assert result.returncode == 0, result.stderr
    return (folder / "runs/a/fold_0/model.safetensors").read_bytes()


def job_of(folder: Path) -> int:
    """The process that submitit started for the job, not the one that watches it."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode().split("\0")
            if "submitit.core._submit" in words and (process / "cwd").resolve() == folder:
                return int(process.name)
        except OSError:
            continue
    raise AssertionError("no job")


@pytest.fixture(scope="module")
def longer_together(overrides, tmp_path_factory):
    """A command that two processes are busy with for some seconds, and the weights it ends with."""
    command = [*TORCHRUN, *overrides, "trainer.epochs=20", "folds=[0]"]
    return command, run_undisturbed(command, tmp_path_factory.mktemp("longer") / "undisturbed")


@pytest.mark.faults
@pytest.mark.parametrize("to", ["launcher", "launcher, which does not know the signal", "rank 0", "all"])
def test_torchrun_that_is_stopped_saves_and_goes_on(longer_together, tmp_path, to):
    command, weights = longer_together
    started = Started(command, tmp_path)
    started.wait_for("epoch 2,")
    launcher = started.process.pid
    ranks = [
        int(word) for word in Path(f"/proc/{launcher}/task/{launcher}/children").read_text(encoding="utf-8").split()
    ]
    main = [pid for pid in ranks if b"\0RANK=0\0" in Path(f"/proc/{pid}/environ").read_bytes()]
    assert len(ranks) == 2 and len(main) == 1
    number = signal.SIGUSR2 if "not know" in to else signal.SIGTERM
    for process in {"rank 0": main, "all": [launcher, *ranks]}.get(to, [launcher]):
        os.kill(process, number)
    assert started.end()[0] != 0
    deadline = time.monotonic() + 60
    while list(tmp_path.glob("runs/a/fold_*/.fold.owner")):  # torchrun may have ended before its processes
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "saved after step" in (tmp_path / "runs/a/train.log").read_text()
    result = run(command, tmp_path)
    assert result.returncode == 0 and "resumes after epoch" in result.stdout, result.stderr
    assert (tmp_path / "runs/a/fold_0/model.safetensors").read_bytes() == weights
