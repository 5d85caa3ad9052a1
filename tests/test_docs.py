"""The examples of the documentation, run as a reader would."""

import doctest
import re
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import salt
from helpers.volumes import volume

from salt.commands import blend, data, export, predict
from salt.train import main

DOCS = Path(__file__).parents[1] / "docs"
MAINS = {"salt-train": main} | {
    f"salt-{name}": module.main
    for name, module in {"predict": predict, "data": data, "blend": blend, "export": export}.items()
}


def commands(page):
    """The commands of a page: what stands indented by four spaces."""
    return re.findall(r"^    (salt-[^\n#]*)", (DOCS / page).read_text(), flags=re.MULTILINE)


@pytest.fixture
def folder(finished):
    lines = finished / "lines"
    lines.mkdir(exist_ok=True)
    amplitudes = np.random.default_rng(0).normal(size=(150, 260)).astype(np.float32)
    np.save(lines / "east.npy", amplitudes)
    cv2.imwrite(str(lines / "west.tif"), amplitudes)
    (finished / "survey.sgy").write_bytes(volume((1198, 1200, 1250, 1300, 1303), range(4), 20).content())
    return finished


@pytest.mark.slow
def test_using_a_trained_run(folder, synthetic_root, monkeypatch):
    monkeypatch.chdir(folder)
    image = np.load("lines/east.npy")
    shutil.copytree("runs/a", "runs/b", dirs_exist_ok=True)  # stands for another run
    for command in commands("predict.md"):
        name, *words = shlex.split(command)
        ended = salt(folder, *words, *(["--root", synthetic_root] if name == "salt-blend" else []), main=MAINS[name])
        assert ended.returncode == 0, ended.stderr
    assert len(commands("predict.md")) == 7
    values = {"image": image, "tiles": np.zeros((2, 1, 101, 101), dtype=np.uint8)}
    values["volume"] = np.random.default_rng(0).normal(size=(3, 30, 40))
    result = doctest.testfile(str(DOCS / "predict.md"), module_relative=False, globs=values)
    assert result.attempted >= 17 and not result.failed
    names = {path.name for path in (folder / "predictions").iterdir()}
    assert {"east_probability.npy", "east_mask.npy", "east_overlay.png", "west_mask.tif", "masks.csv"} <= names
