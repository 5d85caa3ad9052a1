"""The first point of a sweep as typed is what the others are compared with, also by a later command."""

import pytest
import yaml
from test_compare import make_failed, make_run, rows_of

from salt.comparing.tables import compare_sweep
from salt.overrides import point_names


@pytest.fixture
def sweep(tmp_path):
    """A folder with three finished points, and the words of its command."""
    for name, center in (("center=aspp", "aspp"), ("center=conv", "conv"), ("center=none", "none")):
        make_run(tmp_path / name, center=center)

    def typed(*words, params=None, baseline=None):
        hydra = {
            "sweeper": {"params": params},
            "callbacks": {"sweep": {"baseline": baseline}},
            "overrides": {"task": [*words]},
        }
        (tmp_path / "multirun.yaml").write_text(yaml.safe_dump({"hydra": hydra}))
        return compare_sweep(tmp_path, None)

    return typed


def test_the_first_value_typed_is_the_baseline(sweep):
    assert "are to center=none (the first point)" in sweep("name=s", "center=none,aspp,conv")
    assert "are to center=conv (the first point)" in sweep("center=conv,none,aspp", "seed=0")


def test_an_ablations_own_baseline_and_the_one_asked_for_come_first(sweep, tmp_path):
    assert "are to center=conv (the sweep's baseline)" in sweep(
        "ablation=center", params={"center": "none,aspp,conv"}, baseline="center=conv"
    )
    assert "are to center=aspp (as asked)" in compare_sweep(tmp_path, "center=aspp")
    assert "are to center=none (the first point)" in sweep(params={"center": "none,aspp"})


def test_if_the_first_has_no_score_it_is_the_next_one_typed(sweep, tmp_path):
    make_failed(tmp_path / "center=fpa")
    text = sweep("center=fpa,none,aspp,conv")
    assert "are to center=none (the first run; center=fpa has no score)" in text
    assert "- no score: center=fpa" in text


@pytest.mark.parametrize("words", [["center=glob(*)"], ["center=(("], ["name=x"], [3], []])
def test_without_an_order_it_is_the_first_by_name(sweep, words):
    assert "are to center=aspp (the first run)" in sweep(*words)


def test_seeds_of_the_first_setting_are_one_row(tmp_path):
    for seed in (0, 1):
        for center in ("aspp", "conv"):
            make_run(tmp_path / f"center={center},seed={seed}", center=center, seed=seed)
    hydra = {"overrides": {"task": ["seed=1,0", "center=conv,aspp", "name=s"]}}
    (tmp_path / "multirun.yaml").write_text(yaml.safe_dump({"hydra": hydra}))
    text = compare_sweep(tmp_path, None)
    assert "are to center=conv (the first point)" in text and list(rows_of(text)) == ["center=conv", "center=aspp"]
    (tmp_path / "center=conv,seed=1/score.json").unlink()  # another seed of it is there
    assert "are to center=conv,seed=0 (the first point)" in compare_sweep(tmp_path, None)


def test_a_sweep_over_seeds_alone_has_one_row(tmp_path):
    for seed in (0, 1):
        make_run(tmp_path / f"seed={seed}", seed=seed)
    (tmp_path / "multirun.yaml").write_text(yaml.safe_dump({"hydra": {"overrides": {"task": ["seed=1,0"]}}}))
    assert f"are to {tmp_path.name} (the first point)" in compare_sweep(tmp_path, None)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["loss=lovasz,bce", "seed=0,1"], ["loss=lovasz,seed=0", "loss=lovasz,seed=1", "loss=bce,seed=0"]),
        (["seed=1,0", "loss=b,a"], ["loss=b,seed=1", "loss=a,seed=1", "loss=b,seed=0"]),
        (["trainer.epochs=range(3,6)"], ["trainer.epochs=3", "trainer.epochs=4", "trainer.epochs=5"]),
        (["loss=choice(b,a)", "name=x", "folds=[0],[1]"], ["loss=b", "loss=a"]),
        (["seed=shuffle(3,1,2)"], ["seed=3", "seed=1", "seed=2"]),
        (
            ['encoder.weights="a b","c/d"', "x.y=[],all"],
            ['encoder.weights="a b",x.y=[]', 'encoder.weights="a b",x.y=all', 'encoder.weights="c/d",x.y=[]'],
        ),
    ],
)
def test_names_of_points_in_their_order(words, names):
    assert point_names(words)[:3] == names
