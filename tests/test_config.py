import re

import pytest
from conftest import raw_config

from salt.config import check_config


def test_the_default_config_is_valid():
    config = check_config(raw_config())
    assert config.encoder.weights == "imagenet"
    assert config.fold_list == [0, 1, 2, 3, 4]


def test_all_problems_come_in_one_message():
    raw = raw_config("optimizer.lr=-1", "trainer.epochs=many", "folds=[0,7]", "trainer.precision=fp8", "seed=1.5")
    raw["trainer"]["bach_size"] = 3
    with pytest.raises(ValueError) as error:
        check_config(raw)
    message = str(error.value)
    assert "6 problems" in message
    assert "trainer.bach_size: unknown key; did you mean trainer.batch_size?" in message
    for key, found in {
        "optimizer.lr": -1,
        "trainer.epochs": "many",
        "folds": [0, 7],
        "trainer.precision": "fp8",
        "seed": 1.5,
    }.items():
        assert re.search(rf"^  {key}: .*found {re.escape(repr(found))}", message, re.MULTILINE)


BAD = "name=../x folds=[] folds=[1,1] folds=x trainer.device=gpu trainer.clip=0 optimizer.lr=inf accept=[seed]"


@pytest.mark.parametrize("override", BAD.split())
def test_refused(override):
    with pytest.raises(ValueError, match=override.split("=")[0]):
        check_config(raw_config(override))


def test_a_tilde_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    overrides = [f'{key}="~/x"' for key in ("data.root", "data.mosaic", "data.folds", "encoder.weights")]
    config = check_config(raw_config(*overrides))
    assert {config.data.root, config.data.mosaic, config.data.folds, config.encoder.weights} == {"/home/me/x"}
    assert check_config(raw_config('data.root="a~/~"')).data.root == "a~/~"
