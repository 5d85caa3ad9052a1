"""The fault suite: whatever happens to a run, the repeated command ends like an undisturbed one, or says why not."""

import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
from conftest import TINY

RESULTS = ("fold_0/model.safetensors", "fold_0/metrics.csv", "oof.csv", "oof.npz", "submission.csv")
DYING = """
import os, signal, sys
from salt.train import main
left, replace = int(sys.argv.pop(1)), os.replace
def dies(*names):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*names)
os.replace = dies
main()
"""  # salt-train, killed just before its nth file is put in place
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def command(synthetic_root):
    overrides = [o for o in TINY if not o.startswith("trainer.epochs")]
    return [
        *(sys.executable, "-m", "salt.train", *overrides),
        *(f"data.root={synthetic_root}", "name=a", "trainer.epochs=6", "folds=[0]", "augment=mixup"),
    ]


@pytest.fixture(scope="module")
def undisturbed(command, tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed")
    result = run(command, path)
    assert result.returncode == 0, result.stderr
    return {name: (path / "runs/a" / name).read_bytes() for name in RESULTS}


def run(command, path, prefix=(), **options):
    return subprocess.run(
        [*prefix, *command],
        cwd=path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        **options,
    )


class Started:
    """A command under way, and what it says."""

    def __init__(self, command, path, **options):
        self.process = subprocess.Popen(
            command, cwd=path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )
        self.lines, self.errors = [], []
        for stream, lines in ((self.process.stdout, self.lines), (self.process.stderr, self.errors)):
            threading.Thread(target=lambda s=stream, k=lines: k.extend(s), daemon=True).start()

    def wait_for(self, text):
        deadline = time.monotonic() + 60
        while not any(text in line for line in self.lines) and self.process.poll() is None:
            assert time.monotonic() < deadline, (text, self.lines, self.errors)
            time.sleep(0.005)

    def end(self):
        code = self.process.wait(60)
        time.sleep(0.2)  # for the threads that read
        return code, "".join(self.lines), "".join(self.errors)


def results(path):
    return {name: (path / "runs/a" / name).read_bytes() for name in RESULTS}


def leftovers(path):
    names = [file.name for file in path.rglob("*") if file.suffix != ".lock"]
    return [name for name in names if name.startswith(".") or name == "previous.pt"]


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.faults)])
@pytest.mark.slow
def test_killed_at_random_moments(command, undisturbed, tmp_path, kills):
    chance = random.Random(kills)
    killed = 0
    while killed < kills:
        started = Started(command, tmp_path)
        started.wait_for("M parameters")
        time.sleep(chance.uniform(0, 0.8 if killed < kills - 1 else 0.1))
        started.process.send_signal(signal.SIGKILL)
        killed += 1
        if started.end()[0] == 0:  # it had ended already: once more from the beginning
            assert results(tmp_path) == undisturbed
            subprocess.run(["rm", "-r", tmp_path / "runs"], check=True)
    result = run(command, tmp_path)
    assert result.returncode == 0, result.stderr
    assert results(tmp_path) == undisturbed
    assert not leftovers(tmp_path)


@pytest.mark.faults
def test_killed_between_two_writes(command, undisturbed, tmp_path):
    # each run goes on one file further than the one before, so that the last stage is killed before each of its files
    for n in range(2, 30):
        result = run([sys.executable, "-c", DYING, str(n), *command[3:]], tmp_path)
        if result.returncode == 0:
            break
        assert result.returncode == -signal.SIGKILL, result.stderr
    assert result.returncode == 0 and n > 7, n
    assert results(tmp_path) == undisturbed
    assert not leftovers(tmp_path)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.faults),
        pytest.param(signal.SIGUSR1, 138, marks=pytest.mark.faults),
    ],
)
@pytest.mark.slow
def test_a_signal_saves_and_says_how_to_go_on(command, undisturbed, tmp_path, number, code):
    started = Started(command, tmp_path)
    started.wait_for("epoch 2,")
    started.process.send_signal(number)
    found, out, errors = started.end()
    assert found == code and "the same command resumes" in errors and "Traceback" not in errors
    assert "fold 0: saved after step" in out or "epoch 3," in out
    assert not (tmp_path / "runs/a/error.txt").exists()
    result = run(command, tmp_path)
    assert "resumes after epoch" in result.stdout and results(tmp_path) == undisturbed


@pytest.mark.slow
def test_a_second_process_is_refused_and_names_the_first(command, tmp_path):
    command = [*command, "trainer.epochs=500"]
    first = Started(command, tmp_path)
    first.wait_for("epoch 1,")
    second = run(command, tmp_path)
    assert second.returncode == 1 and "Traceback" not in second.stderr
    assert f"runs/a/fold_0 is in use by process {first.process.pid} on " in second.stderr
    first.process.send_signal(signal.SIGTERM)
    assert first.end()[0] == 143


@pytest.mark.faults
def test_a_lock_of_a_dead_process_is_taken_over(command, undisturbed, tmp_path):
    first = Started([*command, "trainer.workers=1"], tmp_path)  # its worker outlives it for some seconds
    first.wait_for("epoch 1,")
    first.process.send_signal(signal.SIGKILL)
    first.end()
    assert (tmp_path / "runs/a/fold_0/.fold.owner").exists()
    result = run(command, tmp_path)
    assert result.returncode == 0, result.stderr
    assert results(tmp_path) == undisturbed


@pytest.mark.slow
def test_a_file_size_limit_keeps_what_was_there(command, undisturbed, tmp_path):
    first = Started(command, tmp_path)
    first.wait_for("epoch 2,")
    first.process.send_signal(signal.SIGTERM)
    assert first.end()[0] == 143
    before = (tmp_path / "runs/a/fold_0/last.pt").read_bytes()
    limit = 1_000_000  # bytes, less than a checkpoint
    result = run(command, tmp_path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "runs/a/fold_0/last.pt cannot be written" in result.stderr and "is kept" in result.stderr
    assert (tmp_path / "runs/a/fold_0/last.pt").read_bytes() == before
    assert not list(tmp_path.rglob(".*.tmp-*"))
    (tmp_path / "runs/a/error.txt").unlink()
    assert run(command, tmp_path).returncode == 0 and results(tmp_path) == undisturbed


@pytest.mark.parametrize("options", ["ro", pytest.param("size=9m", marks=pytest.mark.faults)])
@pytest.mark.slow
def test_a_full_or_read_only_disk(command, undisturbed, tmp_path, options):
    # in a mount namespace of its own, so that nothing outlives the test
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*unshare, f"mount -t tmpfs none {tmp_path}"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets a test mount nothing")
    kept = tmp_path / "kept"
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = f'mount -t tmpfs -o {options} none {disk} && cd {disk} && "$@"; code=$?; cp -r {disk} {kept}; exit $code'
    result = run(command, tmp_path, prefix=[*unshare, mounted, "sh"])
    assert result.returncode == 1 and "Traceback" not in result.stderr
    if options == "ro":
        assert "Read-only file system" in result.stderr
        return
    assert "cannot be written" in result.stderr and "is kept" in result.stderr
    assert not list(kept.rglob(".*.tmp-*"))
    assert list(kept.rglob("*.pt")) == [] or run(command, kept).returncode == 0


@pytest.mark.faults
def test_out_of_gpu_memory_says_what_to_lower_and_the_run_goes_on_where_asked(command, synthetic_root, tmp_path):
    # the error of a device that is too small, raised in the third epoch
    code = """if True:
        import torch, salt.training.fold, salt.train
        step, calls = salt.training.fold.train_step, []
        def small(*arguments):
            calls.append(1)
            if len(calls) > 7:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
            return step(*arguments)
        salt.training.fold.train_step = small
        salt.train.main()
    """
    result = run([sys.executable, "-c", code, *command[3:]], tmp_path)
    assert result.returncode == 1 and "trainer.batch_size=4" in result.stderr
    assert "trainer.batch_size=2 'accept=[trainer.batch_size]'" in result.stderr
    refused = run([*command, "trainer.batch_size=2"], tmp_path)
    assert refused.returncode == 1 and "trainer.batch_size: 4 -> 2" in refused.stderr
    result = run([*command, "trainer.batch_size=2", "accept=[trainer.batch_size]"], tmp_path)
    assert result.returncode == 0, result.stderr
    assert "resumes after epoch 2" in result.stdout
    assert "batch_size: 2" in (tmp_path / "runs/a/config.yaml").read_text()
    assert "trainer.batch_size: 4 -> 2" in (tmp_path / "runs/a/environment.json").read_text()
    assert len(pd.read_csv(Path(tmp_path, "runs/a/fold_0/metrics.csv"))) == 6
