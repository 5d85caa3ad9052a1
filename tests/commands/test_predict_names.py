"""salt-predict: names of every kind, hidden files, and results that must not replace one another."""

import json
import os
import shutil
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import salt as run

from salt.commands import predict as command

GREY = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
PNG = cv2.imencode(".png", GREY)[1].tobytes()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def predict(finished, *words):
    return run(finished, "runs/a", "--device", "cpu", *words, main=command.main)


def ids(out):
    return pd.read_csv(out / "masks.csv", dtype=str, keep_default_na=False)["id"].tolist()


def test_odd_names_are_predicted_and_named_in_the_table(finished, folder, tmp_path):
    names = ["-dash", "NA", "a,b", "a.b", "line\nbreak", 'quote"d', "with space", "é"]
    for name in names:
        (folder / f"{name}.png").write_bytes(PNG)
    for _ in range(2):  # predicted, then done already
        ended = predict(finished, folder, "--out", tmp_path / "out")
        assert ended.returncode == 0, ended.stderr
        assert ids(tmp_path / "out") == sorted(names)
    assert "8 of 8 files are done already" in ended.stdout


def test_names_that_cannot_be_fail_alone(finished, folder, tmp_path):
    (folder / "sound.png").write_bytes(PNG)
    (folder / "._sound.png").write_bytes(b"\0\5\x16\7")  # of macOS
    (folder / ".png").write_bytes(PNG)
    longest = "n" * (os.pathconf(folder, "PC_NAME_MAX") - len("_probability.png") - 26)
    faults = {f"{longest}x.png": "1 bytes too long for the names of the results", "a\rb.png": "a carriage return"}
    for name in (f"{longest}.png", *faults):
        (folder / name).write_bytes(PNG)
    Path(os.fsdecode(os.fsencode(folder) + b"/l\xednea.png")).write_bytes(PNG)
    beyond = folder / ("m" * 300 + ".png")
    assert "there is no file" in predict(finished, beyond, "--out", tmp_path / "out").stderr
    for _ in range(2):
        ended = predict(finished, folder, beyond, "--out", tmp_path / "out")
        assert ended.returncode == 1 and ended.stderr.endswith("salt-predict: 4 of 6 files failed\n")
        assert ids(tmp_path / "out") == [longest, "sound"]
        lines = [line for line in ended.stderr.splitlines() if line.startswith(str(folder))]
        faults |= {"l\\udcednea.png": "its name is not UTF-8; rename it", beyond.name: "bytes too long"}
        assert len(lines) == 4
        for name, message in faults.items():
            shown = f"{folder}/{name}".replace("\r", "\\r")
            assert any(line.startswith(f"{shown}: ") and message in line for line in lines), name
        ended.stderr.encode("ascii")
    assert "2 of 6 files are done already" in ended.stdout


def test_a_folder_of_hidden_files_alone_is_empty(finished, folder, tmp_path):
    (folder / ".a.png").write_bytes(PNG)
    ended = predict(finished, folder, "--out", tmp_path / "out")
    assert ended.returncode == 1 and "holds no image or line" in ended.stderr
    assert predict(finished, folder / ".a.png", "--out", tmp_path / "out").returncode == 0  # named, so wanted


def test_an_output_folder_of_any_name(finished, folder, tmp_path):
    (folder / "a.png").write_bytes(PNG)
    out = Path(os.fsdecode(os.fsencode(tmp_path) + b"/l\xednea"))
    ended = predict(finished, folder, "--out", out)
    assert ended.returncode == 0 and "l\\udcednea: 1 predictions" in ended.stdout.encode("utf-8").decode()
    assert predict(finished, folder, "--out", out).returncode == 0


def test_two_spellings_of_one_name(finished, folder, tmp_path):
    one, other = (folder / f"{unicodedata.normalize(form, 'línea')}.png" for form in ("NFC", "NFD"))
    one.write_bytes(PNG)
    other.write_bytes(PNG)
    ended = predict(finished, folder, "--out", tmp_path / "out")
    assert ended.returncode == 1 and "have one name" in ended.stderr
    assert predict(finished, other, "--out", tmp_path / "out").returncode == 0
    (folder / "later.png").write_bytes(PNG)
    assert predict(finished, folder / "later.png", "--out", tmp_path / "out").returncode == 0
    assert ids(tmp_path / "out") == ["later", "línea"]


@pytest.fixture
def once(finished, folder, tmp_path):
    """A folder with the results of in/line.png."""
    (folder / "line.png").write_bytes(PNG)
    assert predict(finished, folder, "--out", tmp_path / "out").returncode == 0
    return tmp_path / "out"


def content(out):
    return {file.name: file.read_bytes() for file in out.iterdir() if file.suffix in (".png", ".csv", ".npy", ".json")}


def test_results_of_another_file_are_not_replaced(finished, folder, once, tmp_path):
    before = content(once)
    np.save(folder / "line.npy", GREY * 2.0)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "line.png").write_bytes(cv2.imencode(".png", GREY[::-1])[1].tobytes())
    cv2.imwrite(str(tmp_path / "line.jpg"), GREY)  # its results are PNGs too
    for file in (folder / "line.npy", tmp_path / "other" / "line.png", tmp_path / "line.jpg"):
        ended = predict(finished, file, "--out", once)
        assert ended.returncode == 1 and content(once) == before
        assert f"out holds the results of {folder}/line.png, not of {file}" in ended.stderr
    (folder / "line.png").unlink()  # its results are still there
    assert predict(finished, folder / "line.npy", "--out", once).returncode == 1 and content(once) == before
    for file in once.glob("line_*"):
        file.unlink()
    assert predict(finished, folder / "line.npy", "--out", once).returncode == 0
    assert json.loads((once / "sources.json").read_text()) == {"line": f"{folder}/line.npy"}


def test_the_same_file_is_predicted_again(finished, folder, once, tmp_path):
    before = content(once)
    assert "1 of 1 files are done already" in predict(finished, folder / "line.png", "--out", once).stdout
    copy = shutil.copytree(folder, tmp_path / "copy")  # as old as the file
    assert "1 of 1 files are done already" in predict(finished, copy, "--out", once).stdout
    shutil.rmtree(copy)
    moved = shutil.move(folder, tmp_path / "moved")
    assert "1 of 1 files are done already" in predict(finished, moved, "--out", once).stdout
    (Path(moved) / "line.png").write_bytes(cv2.imencode(".png", GREY[::-1])[1].tobytes())
    later = (once / "line_overlay.png").stat().st_mtime + 10
    os.utime(Path(moved) / "line.png", (later, later))
    ended = predict(finished, moved, "--out", once)
    assert ended.returncode == 0 and "done already" not in ended.stdout
    assert content(once)["line_probability.png"] != before["line_probability.png"]


def test_a_failed_file_holds_no_place(finished, folder, tmp_path):
    (folder / "line.png").write_bytes(b"damaged")
    assert predict(finished, folder, "--out", tmp_path / "out").returncode == 1
    (folder / "line.png").unlink()
    np.save(folder / "line.npy", GREY * 2.0)
    assert predict(finished, folder, "--out", tmp_path / "out").returncode == 0


def test_a_lost_record_is_written_again_and_a_damaged_one_is_refused(finished, folder, once):
    (once / "sources.json").unlink()  # lost
    assert "1 of 1 files are done already" in predict(finished, folder, "--out", once).stdout
    (once / "sources.json").write_text("x")
    ended = predict(finished, folder, "--out", once)
    assert ended.returncode == 1 and "sources.json is missing or damaged" in ended.stderr
