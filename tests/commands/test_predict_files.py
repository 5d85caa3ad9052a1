"""salt-predict: files of every format, of any size, resumed and with damaged ones among them."""

import io
import re
import shutil
from contextlib import redirect_stderr

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import salt as run
from PIL import Image

import salt
from salt.commands import predict as command
from salt.data import rle
from salt.inference import files, stream

segyio = pytest.importorskip("segyio")

GREY = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (150, 130), dtype=np.uint8), (0, 0), 3)


def write_segy(path, image, inlines=1):
    spec = segyio.spec()
    spec.samples, spec.tracecount, spec.format = np.arange(image.shape[0]) * 4.0, image.shape[1], 1
    with segyio.create(str(path), spec) as file:
        file.text[0] = "C 1 A LINE".ljust(3200)
        file.bin.update({segyio.BinField.Interval: 4000, segyio.BinField.LineNumber: 77})
        for i in range(image.shape[1]):
            place = {
                segyio.TraceField.CDP: 1000 + i,
                segyio.TraceField.CDP_X: 5 * i,
                segyio.TraceField.INLINE_3D: 1 + i % inlines,
                segyio.TraceField.CROSSLINE_3D: 1 + i // inlines,
            }
            file.header[i].update(place)
        file.trace = np.ascontiguousarray(image.T, dtype=np.float32)


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "in"
    place.mkdir()
    cv2.imwrite(str(place / "a.png"), GREY)
    cv2.imwrite(str(place / "b.tif"), GREY.astype(np.uint16) * 200)
    Image.fromarray(GREY).save(place / "c.jpg", quality=95)
    np.save(place / "d.npy", GREY[:60] / 7.0)
    write_segy(place / "e.sgy", GREY * 3.0 - 100)
    return place


def predict(finished, *words):
    return run(finished, "runs/a", "--device", "cpu", *words, main=command.main)


def test_every_format(finished, folder, tmp_path):
    out = tmp_path / "out"
    ended = predict(finished, folder, "--out", out)
    assert ended.returncode == 0, ended.stderr
    first, last = ended.stderr.splitlines()
    assert re.fullmatch("predicting with torch on cpu in float32, [1-9] lanes?", first)
    assert re.fullmatch("5 files in [0-9]+ s", last)
    model = salt.load(finished / "runs/a", "cpu")
    table = pd.read_csv(out / "masks.csv", index_col="id", keep_default_na=False)["rle_mask"]
    assert list(table.index) == list("abcde")
    for path in sorted(folder.iterdir()):
        places = files.result_paths(path, out)
        expected = model.predict(files.read_amplitudes(path))
        found = files.read_amplitudes(places["probability"])
        found = found / 65535 if found.dtype == np.uint16 else found
        np.testing.assert_allclose(found, expected, atol=1e-5)
        mask = files.read_amplitudes(places["mask"])
        assert np.array_equal(mask != 0, model.mask(files.read_amplitudes(path)))
        assert np.array_equal(rle.decode(table[path.stem], mask.shape), mask != 0)
        assert cv2.imread(str(places["overlay"])).shape == (*mask.shape, 3)


def test_lines_above_the_progress_bar_of_a_terminal_are_whole(finished, folder, tmp_path):
    terminal = io.StringIO()
    terminal.isatty = lambda: True

    def main():
        with redirect_stderr(terminal):
            command.main()

    assert run(finished, "runs/a", "--device", "cpu", folder, "--out", tmp_path / "out", main=main).returncode == 0
    printed = terminal.getvalue().replace("\r", "\n").split("\n")
    how = "predicting with torch on cpu in float32, [1-9] lanes?"
    assert sum(bool(re.fullmatch(how, line)) for line in printed) == 1
    assert any(line.startswith("salt-predict: 100%") for line in printed)
    assert [line for line in printed if line.strip()][-1].startswith("5 files in ")


def test_segy_keeps_its_headers(finished, folder, tmp_path):
    predict(finished, folder / "e.sgy", "--out", tmp_path / "out")
    with (
        segyio.open(str(folder / "e.sgy"), ignore_geometry=True) as old,
        segyio.open(str(tmp_path / "out/e_mask.sgy"), ignore_geometry=True) as new,
    ):
        assert new.text[0] == old.text[0] and new.bin[segyio.BinField.LineNumber] == 77
        assert new.bin[segyio.BinField.Interval] == 4000 and np.array_equal(new.samples, old.samples)
        assert [dict(header) for header in new.header] == [dict(header) for header in old.header]
        assert set(np.unique(new.trace.raw[:])) <= {0.0, 1.0}


def test_a_second_call_predicts_what_is_missing_or_new(finished, folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert predict(finished, folder, "--out", out).returncode == 0
    table = (out / "masks.csv").read_bytes()
    (out / "b_mask.tif").unlink()
    done = []
    monkeypatch.setattr(
        stream,
        "write_prediction",
        lambda path, *rest, own=files.write_prediction: (done.append(path.name), own(path, *rest)),
    )
    ended = predict(finished, folder, "--out", out)
    assert "4 of 5 files are done already" in ended.stdout and done == ["b.tif"]
    assert (out / "masks.csv").read_bytes() == table
    other = shutil.copytree(finished / "runs/a", tmp_path / "other")
    (other / "fold_0/model.safetensors").write_bytes((other / "fold_1/model.safetensors").read_bytes())
    ended = run(tmp_path, "other", folder, "--out", out, main=command.main)
    assert ended.returncode == 1 and "another run" in ended.stderr


def test_missing_pixels_are_named_by_an_option(finished, tmp_path):
    image = np.random.default_rng(0).normal(size=(60, 130))
    image[:, 100:] = -9999
    np.save(tmp_path / "a.npy", image)
    warned = predict(finished, tmp_path / "a.npy", "--out", tmp_path / "kept")
    assert warned.returncode == 0 and "--nodata=-9999" in warned.stderr
    ended = predict(finished, tmp_path / "a.npy", "--out", tmp_path / "out", "--nodata=-9999")
    assert ended.returncode == 0 and "9999" not in ended.stderr
    probability = np.load(tmp_path / "out/a_probability.npy")
    assert not probability[:, 100:].any() and probability[:, :100].all()
    expected = salt.load(finished / "runs/a", "cpu").predict(np.where(image == -9999, np.nan, image))
    np.testing.assert_allclose(probability, expected, atol=1e-5)
    assert "--nodata" in predict(finished, tmp_path / "a.npy", "--out", tmp_path / "o", "--nodata", "nan").stderr
    again = predict(finished, tmp_path / "a.npy", "--out", tmp_path / "out")
    assert again.returncode == 1 and "another --nodata" in again.stderr


def test_damaged_files_do_not_stop_the_others(finished, folder, tmp_path):
    (folder / "b.tif").write_bytes((folder / "b.tif").read_bytes()[:2000])
    (folder / "e.sgy").write_bytes((folder / "e.sgy").read_bytes()[:3500])
    np.save(folder / "d.npy", np.full((50, 50), np.inf))
    write_segy(folder / "cube.segy", GREY, inlines=10)
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    ended = predict(finished, folder, tmp_path / "missing.npy", "--out", tmp_path / "out")
    assert ended.returncode == 1 and "salt-predict: 5 of 8 files failed" in ended.stderr
    for name, message in (
        ("b.tif", "b.tif: cannot be read"),
        ("e.sgy", "has 3500 bytes, fewer than the 3600"),
        ("d.npy", "has 2500 infinite pixels"),
        ("gone.png", "cannot be read: No such file"),
    ):
        assert any(line.startswith(f"{folder / name}: ") and message in line for line in ended.stderr.splitlines()), (
            name
        )
    assert f"{tmp_path / 'missing.npy'}: cannot be read: No such file" in ended.stderr
    assert list(pd.read_csv(tmp_path / "out/masks.csv")["id"]) == ["a", "c"]
    assert (tmp_path / "out/cube_probability.segy").is_file(), "a 3-D survey among them is predicted too"


def test_the_table_has_all_predictions_of_the_folder_and_damaged_ones_are_predicted_again(finished, folder, tmp_path):
    out = tmp_path / "out"
    np.save(folder / "tiny.npy", GREY[:5, :7].astype(np.float32))  # smaller than what a network is trained on
    assert predict(finished, folder, "--out", out).returncode == 0
    whole, mask = (out / "masks.csv").read_bytes(), out / "b_mask.tif"
    content = mask.read_bytes()
    mask.write_bytes(b"garbage")
    ended = predict(finished, folder / "b.tif", folder / "tiny.npy", "--out", out)
    assert ended.returncode == 0 and "1 of 2 files are done already" in ended.stdout
    assert (out / "masks.csv").read_bytes() == whole and mask.read_bytes() == content
    for file in out.glob("a_*"):
        file.unlink()
    assert predict(finished, folder / "b.tif", "--out", out).returncode == 0
    ids = list(pd.read_csv(out / "masks.csv")["id"])
    assert "a" not in ids and {"b", "tiny"} <= set(ids) and ids == sorted(ids)
    (out / "masks.csv").write_text("x\n1\n")
    ended = predict(finished, folder / "b.tif", "--out", out)
    assert ended.returncode == 1 and "masks.csv is damaged" in ended.stderr


def test_a_file_as_the_folder_and_a_depth_that_nothing_sees_are_refused(finished, folder, tmp_path):
    (tmp_path / "file").write_text("")
    ended = predict(finished, folder, "--out", tmp_path / "file")
    assert ended.returncode == 1 and "file is a file" in ended.stderr
    ended = predict(finished, folder, "--out", tmp_path / "out", "--depth", "300")
    assert ended.returncode == 1 and "--depth 300" in ended.stderr
    assert not (tmp_path / "out").exists()


def test_refused_before_anything_is_predicted(finished, folder, tmp_path):
    def refused(*words):
        ended = predict(finished, *words, "--out", tmp_path / "out")
        assert ended.returncode == 1 and not list((tmp_path).glob("out/*overlay*"))
        return ended.stderr

    assert "there is no file nowhere.png" in refused("nowhere.png")
    same = predict(finished, folder, "--out", folder)
    assert same.returncode == 1 and "holds the files to predict" in same.stderr
    (tmp_path / "empty").mkdir()
    assert "holds no image or line" in refused(tmp_path / "empty")
    shutil.copy(folder / "a.png", tmp_path / "a.png")
    assert "have one name" in refused(folder, tmp_path / "a.png")
    assert "batch_size" in refused(folder, "--batch-size", "0")
    assert "no run directory" in run(tmp_path, "in", folder, "--out", "out", main=command.main).stderr


def test_a_depth_that_the_network_needs_is_asked_for_as_it_is_typed(finished, folder, tmp_path):
    deep = shutil.copytree(finished / "runs/a", tmp_path / "deep")
    config = deep / "config.yaml"
    config.write_text(config.read_text("utf-8").replace("channels: image", "channels: depth_z"), "utf-8")
    ended = run(tmp_path, deep, folder, "--out", tmp_path / "out", main=command.main)
    assert ended.returncode == 1 and "--depth FEET" in ended.stderr
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there_takes_nothing_from_the_results_of_its_name(finished, folder, tmp_path):
    out = tmp_path / "out"
    assert predict(finished, folder, "--out", out).returncode == 0
    before = [(out / name).read_bytes() for name in ("masks.csv", "sources.json")]
    ended = predict(finished, tmp_path / "elsewhere" / "a.png", folder / "d.npy", "--out", out)
    assert ended.returncode == 1 and "a.png" in ended.stderr
    assert [(out / name).read_bytes() for name in ("masks.csv", "sources.json")] == before
