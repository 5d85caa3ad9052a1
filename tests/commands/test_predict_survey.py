"""salt-predict with a 3-D survey: options, parts, refusals, and files and surveys together."""

import re
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import salt as run
from helpers.segy import segy
from helpers.volumes import MADE, chosen, volume, with_holes

import salt
from salt.commands import predict as command
from salt.inference import survey_blocks
from salt.runs.files import read_json, write_json

segyio = pytest.importorskip("segyio")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(survey_blocks, "MOST_LINES", 3)


@pytest.fixture
def cube(tmp_path):
    path = tmp_path / "cube.sgy"
    path.write_bytes(MADE["holes and an irregular edge"].content(code=3, noise=False))
    return path


def predict(finished, *words):
    return run(finished, "runs/a", "--device", "cpu", *words, main=command.main)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def test_command_and_python_write_the_same(finished, cube, tmp_path):
    ended = predict(
        finished,
        *(cube, "--out", tmp_path / "a", "--directions", "inline,crossline", "--mean", "geometric", "--spread"),
        *("--as", "int8", "--lines", "inline=11:15", "--smallest-body", "5"),
    )
    assert ended.returncode == 0, ended.stderr
    assert re.search(
        r"(^|\n)predicting with torch on cpu in float32, \d lanes?\n.*1 file in \d+ s\n$", ended.stderr, re.S
    )
    names = ["cube_spread.sgy", "cube_bodies.csv", "cube_horizons.txt", "cube_probability.sgy"]
    assert ended.stdout == f"{tmp_path / 'a'}: {', '.join(names)}\n"
    assert sorted(contents(tmp_path / "a")) == sorted([*names, "cube_survey.json"])
    results = salt.load(finished / "runs/a", "cpu").predict_survey(
        *(str(cube), str(tmp_path / "b")),
        directions=["inline", "crossline"],
        mean="geometric",
        spread=True,
        as_int8=True,
        lines={"inline": (11, 15)},
        smallest_body=5,
    )
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    with segyio.open(str(results["probability"]), ignore_geometry=True) as file:
        inlines = {header[segyio.TraceField.INLINE_3D] for header in file.header}
        assert int(file.format) == 8 and inlines == {*range(11, 16)}
    again = predict(finished, cube, "--out", tmp_path / "a", "--directions", "inline,crossline", "--engine", "torch")
    assert again.returncode == 1 and "made with another --lines and --mean and --spread and --as" in again.stderr


def test_parts_and_a_second_call(finished, cube, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "parts"
    assert predict(finished, cube, "--out", whole).returncode == 0
    first = predict(finished, cube, "--out", out, "--part", "2/2")
    assert first.returncode == 0 and "cube.sgy: part 2/2 is done; 2 blocks are left for others" in first.stdout
    last = predict(finished, cube, "--out", out, "--part", "1/2")
    assert last.returncode == 0 and "cube_probability.sgy" in last.stdout
    assert contents(out) == contents(whole)
    again = predict(finished, cube, "--out", out)
    assert again.returncode == 0 and "cube.sgy is done already" in again.stdout
    shutil.copytree(finished / "runs/a", tmp_path / "other")
    weights = tmp_path / "other/fold_0/model.safetensors"
    weights.write_bytes((tmp_path / "other/fold_1/model.safetensors").read_bytes())
    ended = run(tmp_path, "other", cube, "--out", out, "--part", "1/2", main=command.main)
    assert ended.returncode == 1 and "holds predictions of another run; choose another --out" in ended.stderr


def test_lines_images_and_surveys_together(finished, cube, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(cube, folder / "b.segy")
    (folder / "bad.sgy").write_bytes(volume(n_samples=20).content()[:5000])
    (folder / "line.sgy").write_bytes(segy(np.random.default_rng(0).normal(size=(30, 40))))
    cv2.imwrite(str(folder / "image.png"), np.random.default_rng(0).integers(0, 255, (40, 50), dtype=np.uint8))
    ended = predict(finished, folder, "--out", tmp_path / "out", "--spread")
    assert ended.returncode == 1 and "1 of 4 files failed" in ended.stderr
    assert sum("bad.sgy: " in line for line in ended.stderr.splitlines()) == 1
    assert list(pd.read_csv(tmp_path / "out/masks.csv")["id"]) == ["image", "line"]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"b_probability.segy", "b_spread.segy", "b_bodies.csv", "line_mask.sgy", "image_spread.png"} <= names
    refused = predict(finished, folder / "line.sgy", "--out", tmp_path / "o", "--smallest-body", "7")
    assert refused.returncode == 1 and "--smallest-body is for 3-D surveys" in refused.stderr
    refused = predict(finished, folder / "image.png", "--out", tmp_path / "o", "--as", "int8")
    assert refused.returncode == 1 and "--as is for 3-D surveys" in refused.stderr


def test_line_numbers_in_bytes_that_are_named(finished, tmp_path):
    path = tmp_path / "odd.sgy"
    path.write_bytes(with_holes(volume(words=(25, 233))).content())
    bytes_of = ["--inline-byte", "25", "--crossline-byte", "233"]
    assert predict(finished, path, "--out", tmp_path / "a", *bytes_of).returncode == 0
    table = pd.read_csv(tmp_path / "a/odd_horizons.txt")
    assert list(table.columns) == ["inline", "crossline", "x", "y", "top", "base"]
    assert (tmp_path / "a/odd_probability.sgy").stat().st_size == path.stat().st_size
    assert "name both" in predict(finished, path, "--out", tmp_path / "b", *bytes_of[:2]).stderr


def test_line_numbers_in_bytes_that_the_run_was_trained_with(finished, tmp_path):
    path, usual, copy = tmp_path / "odd.sgy", tmp_path / "usual.sgy", tmp_path / "copy"
    path.write_bytes(volume(words=(25, 233)).content())
    usual.write_bytes(volume().content())
    config = shutil.copytree(finished / "runs/a", copy) / "config.yaml"
    words = "data:\n  inline_byte: 25\n  crossline_byte: 233\n"
    config.write_text(config.read_text().replace("data:\n", words, 1))
    ended = run(tmp_path, copy, path, usual, "--out", "out", "--device", "cpu", main=command.main)
    assert ended.returncode == 0, ended.stderr
    assert {"odd_bodies.csv", "usual_bodies.csv"} <= contents(tmp_path / "out").keys()
    predict(finished, path, "--out", tmp_path / "b")
    assert not (tmp_path / "b/odd_bodies.csv").exists(), "no run was trained with these bytes"


def test_errors_are_one_line(finished, cube, tmp_path):
    made = volume()
    rows = np.repeat(np.arange(63), 6)
    gathers = chosen(made, rows)
    gathers.headers = {37: np.tile(np.arange(6) * 50, 63)}
    (tmp_path / "gathers.sgy").write_bytes(gathers.content())
    for words, message in (
        ([tmp_path / "gathers.sgy"], "inline 10, crossline 20 has 6 traces, as gathers have"),
        ([cube, "--lines", "inline=11:99"], "cube.sgy has no inline 99: its inlines are 10 to 16"),
        ([cube, "--lines", "11-15"], "lines: expected inline=FIRST:LAST"),
        ([cube, "--part", "0/3"], "part: expected K/N"),
        ([cube, "--directions", "time"], "directions"),
        ([cube, "--inline-byte", "9", "--crossline-byte", "5"], "geometry cannot be derived from"),
    ):
        ended = predict(finished, *words, "--out", tmp_path / "out")
        assert ended.returncode == 1 and message in ended.stderr, ended.stderr
        assert ended.stderr.count("\n") == 1 and "Traceback" not in ended.stderr
    assert not list(tmp_path.glob("out/*_*"))


def test_another_sample_interval_than_in_training_is_a_warning(finished, cube, tmp_path):
    copy = shutil.copytree(finished / "runs/a", tmp_path / "copy")
    write_json(copy / "data.json", read_json(copy / "data.json") | {"interval": 2.0})
    ended = run(tmp_path, copy, cube, "--out", "out", "--device", "cpu", main=command.main)
    assert ended.returncode == 0
    assert "cube.sgy: differs from the data" in ended.stderr and "is 4 ms, in training 2 ms" in ended.stderr
