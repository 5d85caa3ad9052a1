"""The engine of OpenVINO: torch's probabilities, and torch instead of it if anything is wrong."""

import json
import logging
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from conftest import options
from conftest import salt as command
from helpers.networks import built, overrides_of, shake

import salt
from salt.commands.predict import main as predict
from salt.inference import choose, openvino, stream
from salt.inference.engine import TorchEngine
from salt.machine.device import choose_runtime

pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")

IMAGE = np.random.default_rng(0).integers(0, 256, (150, 220), dtype=np.uint8)
GROUPS = ("input", "attention", "center", "decoder", "hypercolumn", "deep-supervision")
SETTINGS = [(group, option) for group in GROUPS for option in options(group)]


def engine_of(model):
    return model.predictors[0].engine.name


def test_a_signal_is_handled_after_another_thread_has_freed_the_networks():
    program = """
import faulthandler, signal, sys, threading, torch
from salt.inference.formats import convert_to_openvino, load_from_openvino
faulthandler.enable()  # pytest and IPython do; then Python handles signals on a stack of their own
image = torch.rand(1, 1, 16, 16)
loaded = [load_from_openvino(convert_to_openvino(torch.nn.Conv2d(1, 4, 3).eval(), (image,), any_size=False))]
assert loaded[0](image).shape == (1, 4, 14, 14)
thread = threading.Thread(target=loaded.clear)
thread.start()
thread.join()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
signal.raise_signal(signal.SIGTERM)
"""
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=False).returncode == 7


@pytest.mark.parametrize(("group", "option"), [pytest.param(*given, marks=pytest.mark.slow) for given in SETTINGS])
@pytest.mark.battery
def test_every_network_predicts_what_it_does_in_torch(tmp_path, group, option):
    config, model = built(overrides_of(group, option))
    shake(model)
    runtime = choose_runtime(config.trainer)
    torch_engine = TorchEngine([model.eval()], model.tile, runtime, mirror=True)
    openvino.convert(torch_engine, tmp_path / openvino.GRAPH)
    engine = openvino.OpenVINOEngine(tmp_path / openvino.GRAPH, model.tile, runtime)
    images = np.random.default_rng(1).integers(0, 256, (3, *model.tile), dtype=np.uint8)
    depths = np.array([100, 300, 900], dtype=np.float32)
    expected = torch_engine(images, depths)
    spread = float(expected.std())  # from pixel to pixel; small in a network that was not trained
    assert spread > 1e-5
    np.testing.assert_allclose(engine(images, depths), expected, atol=spread / 5)


@pytest.mark.slow
def test_it_predicts_what_torch_does_with_all_settings(finished):
    run = finished / "runs" / "a"
    model = salt.load(run, device="cpu", precision="fp32", engine="openvino")
    assert engine_of(model) == model.made_with["engine"] == "openvino"
    np.testing.assert_allclose(
        model.predict(IMAGE, spread=True),
        salt.load(run, "cpu", precision="fp32").predict(IMAGE, spread=True),
        atol=1e-4,
    )
    settings = {"mirror": False, "batch_size": 3, "overlap": 0.25, "precision": "fp32"}
    found = salt.load(run, device="cpu", engine="auto", **settings)
    assert engine_of(found) == "openvino"
    np.testing.assert_allclose(found.predict(IMAGE), salt.load(run, "cpu", **settings).predict(IMAGE), atol=1e-4)


@pytest.mark.slow
def test_a_crash_of_openvino_leaves_torch(finished, tmp_path, monkeypatch, caplog):
    (tmp_path / "openvino").mkdir()
    (tmp_path / "openvino" / "__init__.py").write_text("import os\nos.abort()\n")
    monkeypatch.syspath_prepend(tmp_path)  # of this process; the other one gets the same
    with caplog.at_level(logging.WARNING, "salt"):
        model = salt.load(finished / "runs" / "a", device="cpu", engine="auto")
    assert engine_of(model) == "torch" and len(caplog.records) == 1 and "code -6" in caplog.text
    with pytest.raises(ValueError, match="code -6"):
        salt.load(finished / "runs" / "a", device="cpu", engine="openvino")


def test_other_probabilities_leave_torch(finished, monkeypatch, caplog):
    for difference, rounding in ((0.02, 0.0), (0.02, 0.009), (np.nan, 0.1)):
        caplog.clear()
        answer = {"size": [101, 101], "difference": difference, "rounding": rounding}
        monkeypatch.setattr(openvino, "ask_other_process", lambda folder, answer=answer: answer)
        assert engine_of(salt.load(finished / "runs" / "a", device="cpu", engine="auto")) == "torch"
        assert "differ from torch's" in caplog.text


def test_without_the_package(finished, monkeypatch, caplog):
    monkeypatch.setattr(openvino, "find_spec", lambda name: None)
    monkeypatch.setattr(choose, "missing", openvino.missing)
    assert engine_of(salt.load(finished / "runs" / "a", device="cpu", engine="auto")) == "torch" and not caplog.text
    with pytest.raises(ValueError, match=r"salt-segmentation\[openvino\]"):
        salt.load(finished / "runs" / "a", device="cpu", engine="openvino")


@pytest.mark.slow
def test_a_folder_holds_the_results_of_one_engine(finished, tmp_path, monkeypatch):
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", IMAGE)
    words = ["a", tmp_path / "a.npy", "--out", tmp_path / "few"]
    for out, least in (("few", 500), ("out", 1)):  # windows, from which on it pays
        monkeypatch.setattr(stream, "WORTHWHILE", least)
        words[3] = tmp_path / out
        assert command(finished / "runs", *words, main=predict).returncode == 0
    made = [json.loads((tmp_path / out / "run.json").read_text())["made_with"]["engine"] for out in ("few", "out")]
    assert made == ["torch", "openvino"]
    words[1] = tmp_path / "b.npy"
    ended = command(finished / "runs", *words, "--engine", "torch", main=predict)
    assert ended.returncode == 1 and "--engine" in ended.stderr and not (tmp_path / "out" / "b_mask.npy").exists()
    ended = command(finished / "runs", *words, "--no-mirror", main=predict)
    assert ended.returncode == 1 and "--mirror" in ended.stderr
    assert command(finished / "runs", *words, "--spread", main=predict).returncode == 0
    probability, spread = (np.load(tmp_path / "out" / f"b_{kind}.npy") for kind in ("probability", "spread"))
    assert np.array_equal(probability, np.load(tmp_path / "out" / "a_probability.npy")) and spread.max() > 0
