import json

import cv2
import numpy as np
import pytest
from conftest import raw_config, salt

from salt.commands import data as command
from salt.config import check_config
from salt.data.load import load_data
from salt.data.synthetic import Synthetic, make_tiles
from salt.data.tgs import read_dataset
from salt.scoring import metrics


def test_the_seed_decides_every_byte(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        Synthetic(tmp_path / name, n_train=8, n_test=2, seed=seed).prepare()
    contents = [{file.name: file.read_bytes() for file in (tmp_path / n).iterdir()} for n in "abc"]
    assert contents[0] == contents[1]
    assert contents[0]["train.zip"] != contents[2]["train.zip"]


def test_shares_of_empty_and_constant_tiles(tmp_path):
    Synthetic(tmp_path / "a", n_train=200, n_test=2, seed=0).prepare()
    train = read_dataset(tmp_path / "a").train
    assert (~train.masks.any(axis=(1, 2))).sum() == 78
    assert train.constant.sum() == 4
    assert not train.masks[train.constant].any()
    assert train.masks.any(axis=(1, 2)).sum() == 122


def test_no_threshold_on_the_grey_value_finds_the_salt():
    images, masks = make_tiles(np.random.default_rng(0), 150)
    empty = (~masks.any(axis=(1, 2))).mean()
    for values in (images / 255, 1 - images / 255, 1 - np.abs(images / 127.5 - 1)):
        assert metrics.score_table(values.astype(np.float32), masks).mean(axis=0).max() <= empty + 0.02


def test_what_is_there_is_kept_and_anything_else_refused(tmp_path):
    root = tmp_path / "a"
    Synthetic(root, n_train=4, n_test=1, seed=0).prepare()
    before = (root / "train.zip").stat().st_mtime_ns
    Synthetic(root, n_train=4, n_test=1, seed=0).prepare()
    assert (root / "train.zip").stat().st_mtime_ns == before
    assert json.loads((root / "synthetic.json").read_text())["n_train"] == 4
    with pytest.raises(ValueError, match="holds other files"):
        Synthetic(root, n_train=5, n_test=1, seed=0).prepare()
    assert sorted(file.name for file in tmp_path.iterdir()) == [".a.lock", "a"]


def test_lines_are_a_folder_of_ones_own_data(tmp_path):
    words = ["lines", "made", "--n", "2", "--size", "200", "330", "--bodies", "2", "--seed", "3"]
    assert salt(tmp_path, *words, main=command.main).returncode == 0
    config = check_config(raw_config("data=folder", f"data.root={tmp_path / 'made'}"))
    data = load_data(config).train
    assert data.images.shape == (2, 200, 330) and (data.coverage > 0).all() and (data.coverage < 0.8).all()
    assert cv2.imread(str(tmp_path / "made/images/line_0.tif"), cv2.IMREAD_UNCHANGED).dtype == np.uint16
    words[1] = "again"
    salt(tmp_path, *words, main=command.main)
    for path in sorted((tmp_path / "made").rglob("*.*")):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(tmp_path / "made")).read_bytes()
    ended = salt(tmp_path, *words, main=command.main)
    assert ended.returncode == 1 and "again is not empty; name a new folder" in ended.stderr
    ended = salt(tmp_path, "lines", "small", "--size", "100", "330", main=command.main)
    assert ended.returncode == 1 and "expected 101 or more" in ended.stderr and not (tmp_path / "small").exists()
