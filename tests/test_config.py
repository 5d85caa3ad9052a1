import copy

import pytest
import yaml
from conftest import raw_config
from hydra.utils import get_object

from salt.config import MOVED, check_config
from salt.runs.rundir import RunDir


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
    assert "optimizer.lr: input should be greater than 0, found -1" in message
    assert "trainer.epochs: input should be a valid integer, found 'many'" in message
    assert "folds: expected distinct folds of 0..4 (data.n_folds=5), found [0, 7]" in message
    assert "trainer.precision: input should be 'auto', 'fp32', 'bf16' or 'fp16', found 'fp8'" in message
    assert "seed: input should be a valid integer" in message
    assert "trainer.bach_size: unknown key; did you mean trainer.batch_size?" in message


@pytest.mark.parametrize(
    "override",
    [
        "name=../x",
        "name=a/b",
        "folds=[]",
        "folds=[1,1]",
        "folds=some",
        "trainer.device=gpu",
        "trainer.clip=0",
        "optimizer.lr=inf",
        "trainer.clip=inf",
    ],
)
def test_refused(override):
    with pytest.raises(ValueError, match=override.split("=")[0]):
        check_config(raw_config(override))


def test_a_tilde_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    overrides = [f'{key}="~/x"' for key in ("data.root", "data.mosaic", "data.folds", "encoder.weights")]
    config = check_config(raw_config(*overrides))
    assert {config.data.root, config.data.mosaic, config.data.folds, config.encoder.weights} == {"/home/me/x"}
    assert check_config(raw_config('data.root="a~/~"')).data.root == "a~/~"


OLD_PLACES = {
    "averaging": "salt.averaging.EMA",
    "schedule": "salt.schedule.onecycle",
    "loss": "salt.losses.combine.Step",
    "deep_supervision": "salt.models.supervision.Supervision",
}


def test_runs_of_earlier_versions_name_classes_where_they_were(tmp_path):
    overrides = ["averaging=ema", "schedule=onecycle", "loss=bce_then_lovasz", "deep-supervision=none"]
    raw = raw_config(*overrides)
    config = check_config(raw)
    old = copy.deepcopy(config.model_dump(mode="json", by_alias=True))
    for section, target in OLD_PLACES.items():
        old[section]["_target_"] = target
    assert check_config(old) == config
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(old))
    (tmp_path / "environment.json").write_text("{}")
    assert RunDir(tmp_path).check(config.model_dump(mode="json", by_alias=True)) == []


def test_every_old_place_has_a_class_at_its_new_one():
    for new in MOVED.values():
        assert callable(get_object(new))
