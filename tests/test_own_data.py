"""The source of data in docs/extending.md: in a folder of a user's own, through every command."""

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import TINY, salt

from salt.commands import data as data_command
from salt.commands import pseudo, submit
from salt.data import rle

PAGE = Path(__file__).parents[1] / "docs/extending.md"
OWN = [*(word for word in TINY if not word.startswith("data")), "--config-dir=options", "data=cube", "trainer.epochs=1"]
COMMAND = [*OWN, "data.root=survey.npz", "data.n_folds=2", "name=a"]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with the page's files, and a survey of 16-bit amplitudes with a dead trace."""
    section = PAGE.read_text(encoding="utf-8").split("## A data source\n")[1].split("\n## ")[0]
    for name, text in re.findall(r"```\w+\n# (\S+)\n(.*?)```", section, re.DOTALL):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    rng = np.random.default_rng(0)
    masks = np.zeros((13, 64, 64), np.uint8)
    masks[::2, 32:] = 7
    images = rng.normal(1e4, 1e3, (13, 64, 64)).astype(np.int16) + 1000 * masks.astype(np.int16) // 7
    test = rng.normal(1e4, 1e3, (3, 64, 64)).astype(np.int16)
    test[1, :, :8] = -9999
    np.savez(tmp_path / "survey.npz", images=images, masks=masks, test=test)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "cube", raising=False)
    return tmp_path


def test_it_trains_resumes_predicts_and_submits(own):
    first = salt(own, *COMMAND, "folds=[0]", "data.skip=1", "data.nodata=-9999")
    assert first.returncode == 0 and "survey.npz: 12 train tiles" in first.stdout, first.stderr
    words = [*COMMAND, "data.skip=1", "data.nodata=-9999"]
    assert salt(own, *COMMAND, "data.nodata=-9999").returncode == 1  # another data.skip
    second = salt(own, *words)
    assert second.returncode == 0 and "fold 0 is finished already" in second.stdout, second.stderr
    table = pd.read_csv(own / "runs/a/oof.csv")
    assert sorted(table["id"]) == sorted(f"line{i}" for i in range(12)) and set(table["fold"]) == {0, 1}
    before = (own / "runs/a/submission.csv").read_bytes()
    submission = pd.read_csv(own / "runs/a/submission.csv", keep_default_na=False)
    assert submission["id"].tolist() == ["test0", "test1", "test2"]
    assert not rle.decode(submission["rle_mask"][1], (64, 64))[:, :8].any()
    shutil.move(own / "survey.npz", own / "moved.npz")
    (own / "runs/a/submission.csv").unlink()
    ended = salt(own, "runs/a", main=submit.main)
    assert ended.returncode == 1 and "there is no folder survey.npz" in ended.stderr
    ended = salt(own, "runs/a", "--root", "moved.npz", "--device", "cpu", main=submit.main)
    assert ended.returncode == 0 and (own / "runs/a/submission.csv").read_bytes() == before, ended.stderr
    ended = salt(own, "runs/a", "--root", "moved.npz", "--unlabelled", "moved.npz", main=pseudo.main)
    assert ended.returncode == 0 and "labels of 3 tiles for 2 folds" in ended.stdout, ended.stderr


def test_its_own_folds_and_sections_lie_beside_the_file(own):
    ids = [f"line{i}" for i in range(13)]
    pd.DataFrame({"id": ids, "fold": np.arange(13) // 7}).to_csv(own / "folds.csv", index=False)
    pd.DataFrame({"id": ids, "mosaic": np.arange(13) // 3, "row": 0, "column": 0}).to_csv(
        own / "mosaic.csv", index=False
    )
    ended = salt(own, *COMMAND)
    assert ended.returncode == 0 and "1 sections have tiles in several folds" in ended.stdout, ended.stderr
    table = pd.read_csv(own / "runs/a/oof.csv").set_index("id").loc[ids]
    assert table["fold"].tolist() == [0] * 7 + [1] * 6 and table["section"].nunique() == 5


def test_the_check_knows_it(own):
    ended = salt(own, "check", "survey.npz", "--config-dir", "options", main=data_command.main)
    assert ended.returncode == 0 and "train: 13 images; pixels 64x64 (13)" in ended.stdout, ended
    assert "test: 3 images" in ended.stdout and "none 6, " in ended.stdout
    ended = salt(own, "check", "survey.npz", main=data_command.main)
    assert ended.returncode == 1 and "survey.npz holds no data set" in ended.stderr
    arrays = dict(np.load(own / "survey.npz"))
    np.savez(own / "survey.npz", **arrays | {"masks": arrays["masks"][:5]})
    ended = salt(own, "check", "survey.npz", "--config-dir", "options", main=data_command.main)
    assert ended.returncode == 1 and "has 13 images and 5 masks" in ended.stdout
    ended = salt(own, "check", "survey.npz", "--config-dir", "elsewhere", main=data_command.main)
    assert ended.returncode == 1 and "elsewhere/data/NAME.yaml" in ended.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.root=nowhere.npz"], "data.root: there is no nowhere.npz; expected an .npz file with"),
        (["data.skip=one"], "data: skip='one', expected a valid"),
        (["data._target_=cube.Cub"], "data: there is no cube.Cub: cube has no Cub; did you mean cube.Cube?"),
        (
            ["data._target_=builtins.dict"],
            "data: expected builtins.dict to be a class that inherits salt.data.source.S",
        ),
        (["data.skp=1"], "data.skp: unknown key; did you mean data.skip?"),
        (["+data.skp=1"], "unexpected keyword argument 'skp'; its settings: root, skip"),
        (["~data.root"], "data.root: is missing"),
    ],
)
def test_what_does_not_fit_is_refused_at_once(own, words, message):
    ended = salt(own, *COMMAND, *words)
    assert ended.returncode == 1 and message in ended.stderr and not (own / "runs").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("grey.levels for", "grey.levels * 1.0 for", "train images or masks of another type than uint8"),
        ("salt = (masks[self.skip :] > 0)", "salt = (masks[self.skip :])", "other values than 0 and 1"),
        ('f"{name}{i}"', "name", "other numbers of train ids, images, masks or depths"),
    ],
)
def test_what_it_loads_is_checked(own, old, new, message):
    code = (own / "cube.py").read_text()
    assert old in code
    (own / "cube.py").write_text(code.replace(old, new))
    ended = salt(own, *COMMAND)
    assert ended.returncode == 1 and "cube.Cube" in ended.stderr and message in ended.stderr, ended.stderr
