"""The GPU's path from end to end, run by `make gpu`; each test is skipped, and says so, where there is no GPU.

SALT_TEST_DEVICE=cpu runs the same tests on the CPU, as far as they have a meaning there: to try the tests, not the GPU.
"""

import csv
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import TINY
from safetensors.torch import load_file
from test_fake_gpu import PARTS, built
from test_faults import ENVIRONMENT, Started
from test_submission import read_masks

from salt import build
from salt.losses.combine import set_progress
from salt.machine.device import fast_dtype, missing_compiler

DEVICE = os.environ.get("SALT_TEST_DEVICE", "cuda")
N_GPUS = torch.cuda.device_count()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="torch finds no GPU here"),
]
gpu_alone = pytest.mark.skipif(DEVICE != "cuda", reason="has no meaning on a CPU")
MISSING = missing_compiler(torch.device(DEVICE)) if DEVICE == "cpu" or torch.cuda.is_available() else None
compiler = pytest.mark.skipif(MISSING is not None, reason=f"torch.compile needs {MISSING}, which is not here")
OLD = torch.cuda.is_available() and fast_dtype(torch.device("cuda")) == torch.float16
HALF = torch.float16 if OLD else torch.bfloat16
bfloat16 = pytest.mark.skipif(OLD, reason="this GPU has no convolutions in bfloat16")

# TF32 rounds the factors of a convolution to 11 bits; without it single precision is the same on every device
EXACT = ENVIRONMENT | {"NVIDIA_TF32_OVERRIDE": "0"}
ROUNDING = (
    1e-3  # of a loss after a few steps of SGD: sums of 10,000 pixels in another order, through 50 layers, times 10
)
LIMITED = """
import sys, torch
mebibytes = int(sys.argv.pop(1))
torch.cuda.set_per_process_memory_fraction(mebibytes * 2**20 / torch.cuda.get_device_properties(0).total_memory, 0)
from salt.train import main
main()
"""  # salt-train with so much GPU memory
STRICT = """
import sys, torch, salt.training.fold
from salt.train import main
device, step = sys.argv.pop(1), salt.training.fold.train_step
def strict(*arguments):
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        return step(*arguments)
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")
salt.training.fold.train_step = strict
main()
"""  # salt-train, in which a step that waits for the GPU fails


def run(path, command, *overrides, environment=EXACT):
    return subprocess.run(
        [sys.executable, *command, *overrides],
        cwd=path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=590,
    )


@pytest.fixture(scope="module")
def tiny(synthetic_root):
    kept = [o for o in TINY if not o.startswith(("trainer.device", "trainer.precision", "trainer.batch_size"))]
    return [*kept, f"data.root={synthetic_root}", f"trainer.device={DEVICE}", "trainer.batch_size=4", "name=a"]


TRAIN = ["-m", "salt.train"]
REPEATABLE = ["optimizer=sgd", "optimizer.lr=0.01", "trainer.precision=fp32"]


def losses(path):
    with (path / "metrics.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def check_finished(path, n_epochs=2):
    """All that a finished run of two folds has."""
    score = json.loads((path / "score.json").read_text())
    assert score["n"] == 24 and score["partial"] is False
    for fold in (0, 1):
        values = losses(path / f"fold_{fold}")
        assert len(values) == n_epochs and np.isfinite(values).all()
        weights = load_file(path / f"fold_{fold}" / "model.safetensors")
        assert all(torch.isfinite(value).all() for value in weights.values())
    assert len(read_masks(path)) == 6
    return score


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("finished")
    result = run(path, TRAIN, *tiny, *REPEATABLE)
    assert result.returncode == 0, result.stderr
    return path / "runs" / "a"


@pytest.mark.parametrize("compiled", ["false", pytest.param("true", marks=compiler)])
@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("fp32", "float32"),
        pytest.param("bf16", "bfloat16", marks=bfloat16),
        pytest.param("fp16", "float16", marks=gpu_alone),
        ("auto", ""),
    ],
)
def test_two_folds_end_to_end(tiny, tmp_path, precision, dtype, compiled):
    settings = [f"trainer.precision={precision}", f"trainer.compile={compiled}"]
    result = run(tmp_path, TRAIN, *tiny, *settings, environment=ENVIRONMENT)
    assert result.returncode == 0, result.stderr
    assert f"parameters on {DEVICE}{':0' * (DEVICE == 'cuda')} in {dtype}" in result.stdout
    check_finished(tmp_path / "runs" / "a")
    machine = json.loads((tmp_path / "runs/a/environment.json").read_text())
    assert machine["gpu"] == (torch.cuda.get_device_name() if torch.cuda.is_available() else None)


def test_the_first_epochs_are_those_of_the_cpu(tiny, finished, tmp_path):
    result = run(tmp_path, TRAIN, *tiny, *REPEATABLE, "trainer.device=cpu", "folds=[0]")
    assert result.returncode == 0, result.stderr
    assert losses(tmp_path / "runs/a/fold_0") == pytest.approx(losses(finished / "fold_0"), rel=ROUNDING)


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_processes_give_the_same_batches(tiny, finished, tmp_path, workers):
    result = run(tmp_path, TRAIN, *tiny, *REPEATABLE, f"trainer.workers={workers}")
    assert result.returncode == 0, result.stderr
    check_finished(tmp_path / "runs" / "a")
    for fold in ("fold_0", "fold_1"):
        assert losses(tmp_path / "runs/a" / fold) == pytest.approx(losses(finished / fold), rel=ROUNDING)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_stopped_run_goes_on(tiny, tmp_path, number):
    command = [*TRAIN, *tiny, "trainer.epochs=8", "trainer.checkpoint_seconds=0"]
    started = Started([sys.executable, *command], tmp_path)
    started.wait_for("epoch 3,")
    started.process.send_signal(number)
    assert started.end()[0] == {signal.SIGKILL: -9, signal.SIGTERM: 143}[number]
    before = losses(tmp_path / "runs/a/fold_0")[:2]
    result = run(tmp_path, command)
    assert result.returncode == 0, result.stderr
    assert "resumes after epoch" in result.stdout
    check_finished(tmp_path / "runs" / "a", n_epochs=8)
    assert losses(tmp_path / "runs/a/fold_0")[:2] == before


def test_salt_submit_writes_the_same_submission(tiny, tmp_path):
    settings = ["data.n_test=24", "trainer.epochs=20", "optimizer.lr=0.01", "folds=[0]"]
    result = run(tmp_path, TRAIN, *tiny, *settings, "data.root=tiles", "trainer.precision=fp32")
    assert result.returncode == 0, result.stderr
    finished = tmp_path / "runs" / "a"
    before = read_masks(finished)
    salt = np.mean([mask.mean() for mask in before.values()])
    assert 0.02 < salt < 0.98, "the masks show nothing of the weights"
    (finished / "submission.csv").unlink()
    result = run(tmp_path, ["-m", "salt.commands.submit", "runs/a"], "--device", DEVICE)
    assert result.returncode == 0, result.stderr
    after = read_masks(finished)
    assert list(after) == list(before)
    # cudnn.benchmark may choose other algorithms, whose last bits move a pixel over the threshold here and there
    differing = np.mean([after[tile_id] != before[tile_id] for tile_id in before])
    assert differing <= (1e-3 if DEVICE == "cuda" else 0)


def test_folds_side_by_side(tiny, tmp_path):
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "trainer.workers=2", "folds=[0],[1]"]
    # each point takes a device of its own while there are some; with one GPU both share it
    result = run(tmp_path, [*TRAIN, "-m"], *tiny, f"trainer.device={'auto' if DEVICE == 'cuda' else DEVICE}", *launcher)
    assert result.returncode == 0, result.stdout + result.stderr
    check_finished(tmp_path / "runs" / "a")
    if DEVICE == "cuda":
        log = (tmp_path / "runs/a/train.log").read_text()
        assert {n for n in range(N_GPUS) if f"parameters on cuda:{n} " in log} == set(range(min(N_GPUS, 2)))


@pytest.mark.parametrize("n", sorted({1, min(N_GPUS, 4) if DEVICE == "cuda" else 2}))
def test_one_fold_over_processes(tiny, tmp_path, n):
    together = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={max(n, 1)}", *TRAIN]
    result = run(tmp_path, together, *tiny, f"trainer.batch_size={max(2 * n, 4)}")
    assert result.returncode == 0, result.stderr
    check_finished(tmp_path / "runs" / "a")


@gpu_alone
def test_too_little_memory_in_training_is_one_message(tiny, tmp_path):
    limited = ["-c", LIMITED, "64"]  # MiB: enough for the network, not for a step
    result = run(tmp_path, limited, *tiny, "input.size=202", "trainer.batch_size=12", "trainer.precision=fp32")
    assert result.returncode == 1 and "out of GPU memory with trainer.batch_size=12: " in result.stderr
    assert "Traceback" not in result.stderr


@gpu_alone
def test_too_little_memory_in_prediction_is_one_message_and_the_run_goes_on(tiny, tmp_path):
    limited = ["-c", LIMITED, "512"]
    result = run(tmp_path, limited, *tiny, "trainer.predict_batch_size=8192")  # 334 MB of input alone
    assert result.returncode == 1 and "out of GPU memory with batches of 8192 tiles" in result.stderr
    assert "Traceback" not in result.stderr
    result = run(tmp_path, limited, *tiny, "trainer.predict_batch_size=4")
    assert result.returncode == 0, result.stderr
    check_finished(tmp_path / "runs" / "a")


@pytest.mark.parametrize(
    "overrides",
    [
        ["augment=mixup", "trainer.clip=1.0"],
        ["trainer.precision=fp32", "augment=cutmix", "averaging=swa", "optimizer=sgd"],
        ["deep-supervision=nonempty", "loss=bce_lovasz", "schedule=onecycle"],
        pytest.param(["trainer.precision=fp16", "loss=ohem"], marks=gpu_alone),
    ],
    ids=" ".join,
)
def test_a_training_step_never_waits_for_the_gpu(tiny, tmp_path, overrides):
    result = run(tmp_path, ["-c", STRICT, DEVICE], *tiny, *overrides, "folds=[0]")
    assert result.returncode == 0, result.stderr


@pytest.fixture
def single_precision():
    """Without TF32, as above."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize("overrides", PARTS, ids=" ".join)
def test_every_option_computes_what_the_cpu_does_and_waits_for_nothing(single_precision, overrides):
    config = built(*overrides)
    torch.manual_seed(0)
    model, loss = build.build_model(config), build.build_loss(config)
    images, depths = torch.rand(4, 1, 101, 101), torch.rand(4) * 900
    masks = torch.zeros(4, 1, 101, 101)
    masks[1, :, 40:], masks[2] = 1, 1
    with torch.no_grad():
        expected = model.eval()(images, depths).logits
    on_device = [part.to(DEVICE) for part in (images, depths, masks)]
    model, loss = model.to(DEVICE), loss.to(DEVICE)
    with torch.no_grad():
        logits = model(*on_device[:2]).logits.cpu()
    # rounding of single precision through a hundred layers, times ten
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    model.train()
    calls: list[None] = []
    loss.register_forward_pre_hook(lambda *_: calls.append(None))
    for progress in (0.0, 0.5, 0.99):
        set_progress(loss, progress)
        if DEVICE == "cuda":
            torch.cuda.set_sync_debug_mode("error")
        try:
            with torch.autocast(DEVICE, dtype=HALF):
                output = model(*on_device[:2])
            calls.clear()
            value = model.loss(output, on_device[2], loss)
            value.backward()
        finally:
            if DEVICE == "cuda":
                torch.cuda.set_sync_debug_mode("default")
        assert len(calls) <= 1 + len(output.extra)  # a loss that waits would be called tile by tile instead
        assert torch.isfinite(value)
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
