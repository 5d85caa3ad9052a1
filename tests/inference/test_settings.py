"""Device, batch size, precision and compile: the same for every command and for salt.load, for runs and blends."""

import json
import shutil
import threading

import numpy as np
import pytest
import torch
from conftest import TINY
from conftest import salt as run

import salt
from salt.commands import blend, predict, pseudo, submit
from salt.inference.engine import TorchEngine
from salt.inference.model import Model
from salt.inference.predict import Predictor
from salt.inference.settings import check_prediction
from salt.machine.device import Runtime


@pytest.fixture(scope="module")
def runs(finished, synthetic_root):
    ended = run(finished, *TINY, f"data.root={synthetic_root}", "name=b", "seed=1", "trainer.predict_batch_size=3")
    assert ended.returncode == 0, ended.stderr
    ended = run(finished, "runs/a", "runs/b", "--out", "runs/ab", "--root", synthetic_root, main=blend.main)
    assert ended.returncode == 0, ended.stderr
    record = json.loads((finished / "runs/ab/blend.json").read_text())
    entries = [entry | {"weight": 0.5} for entry in record["runs"]]  # else a weight may be 0, and its run is left out
    (finished / "runs/ab/blend.json").write_text(json.dumps({"runs": entries}))
    return finished / "runs"


@pytest.fixture
def forwards(monkeypatch):
    """Number format and size of each batch that a network predicts; it sees others while it is loaded."""
    seen = set()
    original = torch.nn.Conv2d.forward

    def forward(self, x):
        y = original(self, x)
        if threading.current_thread().name.startswith("lane"):
            seen.add((y.dtype, len(x)))
        return y

    monkeypatch.setattr(torch.nn.Conv2d, "forward", forward)
    return seen


def command(name, synthetic_root, tmp_path):
    np.save(tmp_path / "line.npy", np.zeros((101, 101), np.uint8) + np.arange(101, dtype=np.uint8))
    return {
        "submit": (submit.main, ["--root", synthetic_root]),
        "predict": (predict.main, [tmp_path / "line.npy", "--out", tmp_path / "out"]),
        "pseudo": (pseudo.main, ["--root", synthetic_root, "--out", tmp_path / "pseudo.csv"]),
    }[name]


CASES = [("a", "submit"), ("ab", "submit"), ("a", "predict"), ("ab", "predict"), ("a", "pseudo")]


@pytest.mark.parametrize(("name", "which"), CASES)
def test_each_command_computes_as_its_options_say(runs, synthetic_root, tmp_path, forwards, name, which):
    main, words = command(which, synthetic_root, tmp_path)
    for precision, dtype in (("bf16", torch.bfloat16), (None, torch.float32)):  # the runs were trained in float32
        forwards.clear()
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        more = ["--device", "cpu", "--batch-size", 2, *(("--precision", precision) if precision else ())]
        ended = run(runs, name, *words, *more, main=main)
        assert ended.returncode == 0, ended.stderr
        assert (dtype, 1 if which == "predict" else 2) in forwards <= {(dtype, 1), (dtype, 2)}  # the last may be small


@pytest.mark.parametrize("name", ["a", "ab"])
def test_a_submission_tells_what_it_was_made_with(runs, synthetic_root, name):
    words = ["--root", synthetic_root, "--device", "cpu", "--precision", "bf16"]
    assert run(runs, name, *words, main=submit.main).returncode == 0
    record = json.loads((runs / name / "submission.json").read_text())
    assert record["made_with"] == {"device": "cpu", "precision": "bfloat16", "engine": "torch"}
    if name == "a":  # and it is as good as one in the run's own precision
        before = (runs / "a/submission.csv").stat().st_mtime_ns
        assert run(runs.parent, *TINY, f"data.root={synthetic_root}", "name=a").returncode == 0
        assert (runs / "a/submission.csv").stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["a", "ab"])
def test_load_takes_the_same_settings(runs, forwards, name):
    images = np.zeros((5, 101, 101), np.uint8) + np.arange(101, dtype=np.uint8)
    p = salt.load(runs / name, "cpu").predict(images)
    assert {dtype for dtype, _ in forwards} == {torch.float32}
    assert {size for _, size in forwards} == ({4, 1} if name == "a" else {4, 1, 3, 2})  # each as in its training
    forwards.clear()
    q = salt.load(runs / name, device="cpu", batch_size=2, precision="bf16").predict(images)
    assert forwards == {(torch.bfloat16, 2), (torch.bfloat16, 1)}
    assert not np.array_equal(p, q) and np.abs(p - q).max() < 0.05


def test_a_compiled_network_predicts_the_same(runs, monkeypatch):
    calls = set()

    def compile(model, dynamic):
        return lambda *batch: (calls.add((id(model), len(batch[0]))), model(*batch))[1]

    monkeypatch.setattr(torch, "compile", compile)
    images = np.zeros((5, 101, 101), np.uint8) + np.arange(101, dtype=np.uint8)
    p = salt.load(runs / "a", "cpu", compile=True).predict(images)
    assert len(calls) == 2 and {size for _, size in calls} == {4}  # of each fold; all batches have one size
    np.testing.assert_allclose(p, salt.load(runs / "a", "cpu").predict(images), atol=1e-6)  # in other batches
    assert len(calls) == 2


@pytest.mark.parametrize("main", [submit.main, predict.main, pseudo.main])
@pytest.mark.parametrize(
    "words", [["--device", "gpu"], ["--batch-size", "0"], ["--batch-size", "many"], ["--precision", "bf17"]]
)
def test_a_wrong_value_is_refused(runs, main, words):
    rest = ["x.npy", "--out", "out"] if main == predict.main else []
    ended = run(runs, "a", *rest, *words, main=main)
    assert ended.returncode != 0 and ended.stdout == ""
    assert words[0].strip("-").replace("-", "_") in ended.stderr.replace("-", "_") and words[1] in ended.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("device", "gpu"),
        ("device", None),
        ("batch_size", 0),
        ("batch_size", "4"),
        ("batch_size", True),
        ("precision", "half"),
        ("compile", 1),
        ("overlap", 0.8),
        ("mirror", 1),
    ],
)
def test_a_wrong_value_in_python_is_one_line(name, value):
    with pytest.raises(ValueError, match=f"^{name}: .*, found {value!r}$"):
        salt.load("no/such/run", **{name: value})


def test_several_networks_have_been_computed_in_several_ways(runs):
    cpu, gpu = (Runtime(torch.device(name), torch.float32, 0, 4) for name in ("cpu", "cuda:1"))
    a, b = (Predictor(TorchEngine([], (101, 101), runtime, False), "") for runtime in (cpu, gpu))
    made = Model(salt.load(runs / "a", "cpu").ensemble, [a, b]).made_with
    assert made == {"device": "cpu and cuda", "precision": "float32", "engine": "torch"}


def test_settings_leave_the_rest_of_the_config_alone(tiny):
    config = tiny("trainer.compile=true", "trainer.precision=bf16")
    assert check_prediction().apply_to(config) == tiny(
        "trainer.compile=false", "trainer.precision=bf16", "trainer.device=auto"
    )
    settings = check_prediction(device="cpu", batch_size=7, precision="fp16", compile=True, mirror=False, overlap=0.3)
    assert settings.apply_to(config) == tiny(
        "trainer.compile=true", "trainer.precision=fp16", "trainer.predict_batch_size=7", "trainer.tta=false"
    )
