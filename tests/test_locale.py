"""Names with accents in a Latin-1 locale, where Python reads and writes names, text and output in another encoding."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import TINY, raw_config, salt, write_folder

from salt import load, paths
from salt.commands.submit import main as submit
from salt.config import check_config
from salt.runs.files import read_json, write_json, write_text

FOLDER = "données_línea/серия"  # letters of Latin-1, and others
LATIN_1 = "en_US.ISO-8859-1"
BEGIN = """
import locale, shutil, sys
assert locale.getpreferredencoding(False) == "ISO-8859-1" and sys.getfilesystemencoding() == "iso8859-1"
from hydra.core.global_hydra import GlobalHydra
from salt.train import main as train
def call(main, *words):
    GlobalHydra.instance().clear()
    sys.argv = ["salt", *words]
    try:
        main()
    except SystemExit as end:
        if end.code:
            sys.exit(f"{words}: {end.code}")
folder, *settings = sys.argv[1:]
settings.append(f'data.root="{folder}"')
call(train, *settings, "name=a", "folds=[0]", "report=false")
"""
ALL = """
from salt.commands import blend, export, predict, pseudo, report, submit
call(train, *settings, "name=a", "report=true")  # goes on with the other fold
call(train, *settings, "name=b", "seed=1", "report=false")
call(report.main, "runs/a")
call(submit.main, "runs/a")
shutil.copytree("runs/b", f"{folder}/b")
call(blend.main, "runs/a", f"{folder}/b", "--out", "blend")
call(submit.main, "blend")
call(export.main, "runs/a", "--to", "torchscript", "--out", f"{folder}/model.pt")
call(pseudo.main, "runs/a", "--out", f"{folder}/pseudo.csv")
for _ in range(2):  # the second time all are done
    call(predict.main, "runs/a", f"{folder}/test", "--out", f"{folder}/predicted")
"""


@pytest.fixture(scope="module")
def latin_1(tmp_path_factory) -> dict[str, str]:
    """The variables of a process whose locale is Latin-1. In a locale that is not there Python would take UTF-8."""
    folder = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef") is None or not Path("/usr/share/i18n/locales/en_US").exists():
        pytest.skip("the sources of locales are not here (Debian's package locales)")
    subprocess.run(["localedef", "-i", "en_US", "-f", "ISO-8859-1", folder / LATIN_1], check=True)
    given = {key: value for key, value in os.environ.items() if key not in ("PYTHONUTF8", "PYTHONIOENCODING")}
    return given | {"LOCPATH": str(folder), "LC_ALL": LATIN_1}


def run_there(place: Path, code: str, variables: dict[str, str]) -> str:
    """Run commands on a folder with accents in a locale; returns what they said."""
    write_folder(place / FOLDER, {name: (64, 64) for name in ("a", "b", "d", "été", "скв_1", "c→x")})
    settings = [
        o for o in TINY if not o.startswith(("data", "input.size", "trainer.epochs", "trainer.batch", "report"))
    ]
    settings += ["data=folder", "data.n_folds=2", "data.tile=[64,64]", "input.size=64", "trainer.epochs=1"]
    command = [sys.executable, "-c", code, FOLDER, *settings, "trainer.batch_size=2"]
    done = subprocess.run(command, cwd=place, env=variables, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode(errors="replace")  # paths in the bytes of the disk, ids in letters of the locale


def check_run(place: Path, said: str) -> None:
    assert f"{FOLDER}: 6 train tiles" in said
    assert sorted(os.listdir(place / "données_línea")) == ["серия"]  # nothing beside it by another spelling
    text = (place / "runs/a/config.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["data"]["root"] == FOLDER
    assert f"{FOLDER}: 6 train tiles" in (place / "runs/a/train.log").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_run_of_a_folder_with_accents_in_a_latin_1_locale(latin_1, tmp_path):
    check_run(tmp_path, run_there(tmp_path, BEGIN, latin_1))
    (tmp_path / "runs/a/submission.csv").unlink()
    ended = salt(tmp_path, "runs/a", main=submit)  # here, in UTF-8
    assert ended.returncode == 0 and (tmp_path / "runs/a/submission.csv").exists(), ended.stderr


@pytest.fixture(scope="module")
def finished_there(latin_1, tmp_path_factory) -> tuple[Path, str]:
    """A folder where all commands have worked in a Latin-1 locale, and what they said."""
    place = tmp_path_factory.mktemp("latin")
    return place, run_there(place, BEGIN + ALL, latin_1)


@pytest.mark.slow
def test_every_command_works_on_a_folder_with_accents_in_a_latin_1_locale(finished_there):
    place, said = finished_there
    check_run(place, said)
    assert sorted(os.listdir(place)) == ["blend", "données_línea", "runs"]
    assert FOLDER in (place / "runs/a/report.html").read_text(encoding="utf-8")
    assert f"{FOLDER}/predicted: 6 predictions" in said
    assert len(list((place / FOLDER / "predicted").glob("*_mask.png"))) == 6


@pytest.mark.slow
def test_what_was_made_in_a_latin_1_locale_is_used_in_a_utf_8_locale(finished_there):
    place, _ = finished_there
    assert sys.getfilesystemencoding() == "utf-8"
    for run in ("runs/a", "blend"):
        before = pd.read_csv(place / run / "submission.csv", dtype=str, keep_default_na=False)
        (place / run / "submission.csv").unlink()
        ended = salt(place, run, main=submit)
        assert ended.returncode == 0, ended.stderr
        assert pd.read_csv(place / run / "submission.csv", dtype=str, keep_default_na=False).equals(before)
    image = np.zeros((64, 64), np.uint8)
    assert load(place / "blend").predict(image).shape == (64, 64)


def as_read(text: str) -> str:
    """A name in UTF-8 as Python reads it in a Latin-1 locale."""
    return text.encode().decode("iso8859-1")


@pytest.fixture
def names_in_latin_1(monkeypatch):
    """Python's functions for the bytes of names answer as in a Latin-1 locale."""
    how = ("iso8859-1", "surrogateescape")
    monkeypatch.setattr(os, "fsencode", lambda name: name.encode(*how) if isinstance(name, str) else name)
    monkeypatch.setattr(os, "fsdecode", lambda name: name.decode(*how) if isinstance(name, bytes) else name)


@pytest.mark.parametrize(
    ("native", "text"),
    [
        ("plain", "plain"),
        (as_read(FOLDER), FOLDER),
        ("données", "données"),  # its bytes are no UTF-8: a name of an old disk
        (f"a → b, {as_read('données')}, 3 ⅓", "a → b, données, 3 ⅓"),  # a line with letters that are ours
    ],
)
def test_a_name_becomes_one_text_whatever_the_locale(names_in_latin_1, native, text):
    assert paths.as_text(native) == text == paths.as_text(text)


def test_a_name_is_spelled_as_on_the_disk(names_in_latin_1, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    native = as_read("données")
    assert paths.on_disk("серия") == as_read("серия")  # no other spelling is possible
    assert paths.on_disk("données/new") == "données/new"  # as typed, if neither is there
    Path(native).mkdir()
    assert paths.on_disk("données/new") == f"{native}/new" == paths.on_disk(f"{native}/new")
    Path("données").mkdir()
    assert paths.on_disk("données/new") == "données/new"
    Path("below", native).mkdir(parents=True)
    Path(native).rmdir()
    assert paths.on_disk("données", "below") == native


def test_files_hold_names_in_utf_8(names_in_latin_1, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    native = as_read("données")
    Path(native).mkdir()
    raw = raw_config(*TINY)
    config = check_config(raw | {"data": raw["data"] | {"root": native}})
    held = config.model_dump(mode="json", by_alias=True)
    assert held["data"]["root"] == "données"
    assert check_config(held).data.root == config.data.root == native
    write_text(tmp_path / "a.csv", f"{native} → 3 \udce9\n")
    assert (tmp_path / "a.csv").read_bytes().decode() == "données → 3 \\udce9\n"
    write_json(tmp_path / "a.json", {"a": native, "b": "\udce9"})
    assert read_json(tmp_path / "a.json") == {"a": "données", "b": "\udce9"}
