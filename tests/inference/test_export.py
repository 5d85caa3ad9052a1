"""salt-export: files that programs without Salt run, against the run's own predictions."""

import json
import sys
import zipfile

import numpy as np
import pytest
import torch
from conftest import TINY
from conftest import salt as command
from timm.layers import padding

import salt
from salt import build
from salt.commands.export import FORMAT_NAMES as OFFERED
from salt.commands.export import main
from salt.data.tgs import read_dataset
from salt.inference.export import Exported, largest_difference, make_images
from salt.inference.formats import EXPORT_FORMATS, as_function, even_sides, export_program
from salt.machine import device
from salt.models.inputs import AnySize

KINDS = list(EXPORT_FORMATS)


def read_facts(kind, file):
    if kind == "onnx":
        onnx = pytest.importorskip("onnx")
        return {entry.key: entry.value for entry in onnx.load(str(file)).metadata_props}
    if kind == "openvino":
        graph = pytest.importorskip("openvino").Core().read_model(file)
        names = ("threshold", "folds", "largest_difference", "size", "scaling")
        return {name: graph.get_rt_info(["salt", name]).value for name in names}
    with zipfile.ZipFile(file) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("salt.json")]
        return json.loads(archive.read(name))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_a_file_predicts_what_the_run_does(finished, synthetic_root, kind, monkeypatch):
    monkeypatch.setattr(device, "fast_dtype", lambda _: torch.float32)  # salt.load takes what is fastest here
    ended = command(finished, "runs/a", "--to", kind, main=main)
    assert ended.returncode == 0, ended.stderr
    file = finished / f"runs/a/model{EXPORT_FORMATS[kind].suffix}"
    loaded, model = (
        EXPORT_FORMATS[kind].load(EXPORT_FORMATS[kind].read(file)),
        salt.load(finished / "runs/a", device="cpu"),
    )
    images = read_dataset(synthetic_root).test.images
    for some in (images[:1], images[:5]):
        found = loaded(torch.from_numpy(some)[:, None])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found[:, 0], model.predict(some), atol=1e-5)
    assert not loaded(torch.full((1, 1, 101, 101), 7, dtype=torch.uint8)).any()
    facts = read_facts(kind, file)
    assert float(facts["threshold"]) == model.threshold and facts["folds"] == "0 1"
    assert float(facts["largest_difference"]) < 1e-5 and facts["size"] == "h = 101, w = 101"
    assert "percentile 1.0 becomes 0 and 99.0" in facts["scaling"]
    again = command(finished, "runs/a", "--to", kind, main=main)
    assert again.returncode == 1 and "exists already; nothing was written" in again.stderr


@pytest.mark.slow
def test_snapshots_are_in_the_mean(finished, synthetic_root, monkeypatch):
    monkeypatch.setattr(device, "fast_dtype", lambda _: torch.float32)
    cycles = ["schedule=cosine_restarts", "schedule.cycles=2", "schedule.snapshots=2", "trainer.epochs=2"]
    settings = [*TINY, f"data.root={synthetic_root}", *cycles, "folds=[0]", "name=snapshots"]
    assert command(finished, *settings).returncode == 0
    ended = command(finished, "runs/snapshots", "--to", "torchscript", main=main)
    assert ended.returncode == 0, ended.stderr
    loaded = EXPORT_FORMATS["torchscript"].load(
        EXPORT_FORMATS["torchscript"].read(finished / "runs/snapshots/model.pt")
    )
    model = salt.load(finished / "runs/snapshots", device="cpu")
    assert len(model.predictors[0].engine.networks) == 2
    images = read_dataset(synthetic_root).test.images[:3]
    np.testing.assert_allclose(loaded(torch.from_numpy(images)[:, None])[:, 0], model.predict(images), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_any_size_and_a_file_for_each_fold(finished, tmp_path, kind):
    form = EXPORT_FORMATS[kind]
    suffix = form.suffix
    words = ("--to", kind, "--size", "any", "--folds", "each", "--out", tmp_path / f"net{suffix}")
    ended = command(finished, "runs/a", *words, main=main)
    assert ended.returncode == 0, ended.stderr
    expected = [part.name for fold in (0, 1) for part in form.files(tmp_path / f"net_fold_{fold}{suffix}")]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(expected)
    model = salt.load(finished / "runs/a", device="cpu").predictors[0].engine.networks[1]
    model.window = AnySize()
    loaded = EXPORT_FORMATS[kind].load(EXPORT_FORMATS[kind].read(tmp_path / f"net_fold_1{suffix}"))
    for n, height, width in ((1, 64, 64), (3, 96, 160)):
        image = torch.randint(0, 256, (n, 1, height, width), dtype=torch.uint8)
        with torch.no_grad():
            expected = Exported([model], tta=True, constant_is_empty=True)(image)
        np.testing.assert_allclose(loaded(image), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("kernel_size", [3, 5, 7])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_padding_of_sides_that_fit_the_stride_is_timms(kernel_size, dilation, stride):
    expected = [padding.get_same_padding(side, kernel_size, stride, dilation) for side in range(4, 256, 4)]
    with even_sides():
        found = [padding.get_same_padding(side, kernel_size, stride, dilation) for side in range(4, 256, 4)]
    assert found == expected
    assert padding.get_same_padding(5, 3, 2, 1) == 2  # as before


@pytest.mark.slow
def test_networks_that_pad_as_tensorflow_have_no_sizes_to_compute(tiny):
    # else the expressions grow with each layer, and EfficientNet-Lite0 takes minutes
    config = tiny("encoder.name=tu-tf_mobilenetv3_small_minimal_100", "decoder=unet_small", "input=reflect_pad")
    network = build.build_model(config)
    assert any(type(part).__name__ == "Conv2dSame" for part in network.modules())
    network.window = AnySize()
    model = Exported([network], tta=True, constant_is_empty=False).eval()
    made = export_program(model, make_images(config, 2, any_size=True), any_size=True)
    assert not [node for node in made.graph.nodes if "ceil" in str(node.target)]
    images = [make_images(config, n, any_size=True) for n in (1, 2, 3)]
    assert largest_difference(model, as_function(made.module()), images) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_a_network_that_sees_the_depth_takes_it(tiny, kind):
    model = Exported([build.build_model(tiny("input.channels=depth_z")).eval()], tta=True, constant_is_empty=False)
    image = torch.randint(0, 256, (2, 1, 101, 101), dtype=torch.uint8)
    loaded = EXPORT_FORMATS[kind].load(
        EXPORT_FORMATS[kind].convert(model, (image, torch.tensor([100.0, 900.0])), False)
    )
    deeper = torch.tensor([300.0, 500.0])
    assert largest_difference(model, loaded, [(image, deeper)]) < 1e-5
    assert np.abs(loaded(image, deeper) - loaded(image, deeper * 2)).max() > 1e-5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "model.x"], "--out model.x: expected a name that ends in .pt2"),
        (["--out", "nowhere/model.pt2"], "--out nowhere/model.pt2: there is no folder nowhere"),
    ],
)
def test_a_wrong_name_is_refused(finished, words, message):
    ended = command(finished, "runs/a", "--to", "exported-program", *words, main=main)
    assert ended.returncode == 1 and message in ended.stderr


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    ended = command(tmp_path, ".", "--to", "torchscript", main=main)
    assert ended.returncode == 1 and "is no run directory" in ended.stderr


def test_a_blend_is_refused(finished):
    (finished / "runs/blend").mkdir()
    (finished / "runs/blend/blend.json").write_text(json.dumps({"runs": []}))
    ended = command(finished, "runs/blend", "--to", "torchscript", "--out", "blend.pt", main=main)
    assert ended.returncode == 1 and "runs/blend is a blend of other runs" in ended.stderr


@pytest.mark.slow
def test_resized_tiles_have_one_size(finished, synthetic_root):
    settings = [*TINY, f"data.root={synthetic_root}", "input=resize_128", "trainer.epochs=1", "folds=[0]", "name=big"]
    assert command(finished, *settings).returncode == 0
    ended = command(finished, "runs/big", "--to", "torchscript", "--size", "any", main=main)
    assert ended.returncode == 1 and "--size any: runs/big resizes its tiles or sees" in ended.stderr
    assert not list((finished / "runs/big").glob("*.pt"))
    ended = command(finished, "runs/big", "--to", "torchscript", main=main)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("package", ["onnxscript", "onnxruntime", "onnx"])
def test_a_missing_package_is_named(finished, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    ended = command(finished, "runs/a", "--to", "onnx", "--out", f"{package}.onnx", main=main)
    assert (
        ended.returncode == 1
        and f"needs the package {package}: pip install 'salt-segmentation[export]'" in ended.stderr
    )
    assert not list(finished.glob("*.onnx"))


@pytest.mark.slow
def test_a_file_that_predicts_otherwise_is_not_kept(finished, monkeypatch):
    form = EXPORT_FORMATS["torchscript"]
    load = form.load
    monkeypatch.setattr(form, "load", lambda content: lambda *given: load(content)(*given) + np.float32(2e-4))
    ended = command(finished, "runs/a", "--to", "torchscript", "--out", "other.pt", main=main)
    assert ended.returncode == 1 and "differ from torch's by 0.0002, more than 0.0001; not written" in ended.stderr
    assert not list(finished.glob("*.pt"))


def test_a_network_that_cannot_be_exported_is_refused_in_one_line(finished, monkeypatch):
    monkeypatch.setattr(torch.jit, "trace", lambda *_: (_ for _ in ()).throw(RuntimeError("\nno such operator\nmore")))
    ended = command(finished, "runs/a", "--to", "torchscript", "--out", "other.pt", main=main)
    assert ended.returncode == 1
    assert ended.stderr == "salt-export: this network cannot be exported: no such operator\n"


def test_nothing_is_left_of_files_for_each_fold_if_one_fails(finished, monkeypatch):
    form, calls = EXPORT_FORMATS["torchscript"], []
    convert = form.convert
    monkeypatch.setattr(form, "convert", lambda *given: (calls.append(1), 1 / (2 - len(calls)), convert(*given))[2])
    words = ("--to", "torchscript", "--folds", "each", "--out", "part.pt")
    ended = command(finished, "runs/a", *words, main=main)
    assert ended.returncode == 1 and len(calls) == 2 and not list(finished.glob("part*"))


def test_no_number_is_a_difference(tiny):
    model = Exported([build.build_model(tiny()).eval()], tta=False, constant_is_empty=False)
    images = [(torch.zeros(n, 1, 101, 101, dtype=torch.uint8),) for n in (1, 2)]
    loaded = lambda image: np.full((len(image), 1, 101, 101), np.nan if len(image) == 2 else 0.5)  # noqa: E731
    assert np.isnan(largest_difference(model, loaded, images))


def test_the_command_offers_every_format():
    assert list(OFFERED) == list(EXPORT_FORMATS)
