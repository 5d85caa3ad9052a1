"""The row to compare with: asked for, the sweep's own, or the first point as typed."""

import pytest
from helpers.compared import make_failed, make_run, rows_of, salt_compare, write_multirun

from salt.comparing.tables import compare_sweep
from salt.overrides import point_names


@pytest.mark.parametrize(
    "asked", ["center=conv", "center=conv,seed=4", "{}/center=conv,seed=4", "{}/center=conv,seed=4/"]
)
def test_the_baseline_by_any_of_its_names(tmp_path, asked):
    for center, seed in (("conv", 3), ("conv", 4), ("none", 3)):
        make_run(tmp_path / f"center={center},seed={seed}", center=center, seed=seed)
    assert "are to center=conv (as asked)" in compare_sweep(tmp_path, asked.format(tmp_path))


@pytest.mark.parametrize("asked", ["encoder.weights=a/b.pth", "encoder.weights=a%2Fb.pth"])
def test_the_baseline_of_a_sweep_over_paths(tmp_path, asked):
    make_run(tmp_path / "encoder.weights=a%2Fb.pth", center="conv")
    make_run(tmp_path / "encoder.weights=null")
    assert "are to encoder.weights=a%2Fb.pth (as asked)" in compare_sweep(tmp_path, asked)
    write_multirun(tmp_path, baseline=asked)
    assert "are to encoder.weights=a%2Fb.pth (the sweep's baseline)" in compare_sweep(tmp_path, None)


def test_an_unknown_baseline_names_the_labels(tmp_path):
    for label, center in {"a": "none", "b": "conv"}.items():
        make_run(tmp_path / label, center=center)
    with pytest.raises(ValueError, match=r"baseline='x'.* a, b$"):
        compare_sweep(tmp_path, "x")
    assert not (tmp_path / "compare.md").exists()


def test_the_first_run_given_is_the_baseline(tmp_path, monkeypatch, capsys):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", center="conv")
    monkeypatch.chdir(tmp_path)
    salt_compare(monkeypatch, "b", "a")
    assert "are to b (the first run)" in capsys.readouterr().out
    assert (tmp_path / "compare.md").is_file()


def test_equal_names_in_two_sweeps_are_told_apart(tmp_path, monkeypatch, capsys):
    make_run(tmp_path / "x" / "a")
    make_run(tmp_path / "y" / "a", center="conv")
    salt_compare(monkeypatch, tmp_path / "x" / "a", tmp_path / "y" / "a", "--out", tmp_path)
    assert list(rows_of(capsys.readouterr().out)) == [str(tmp_path / "x" / "a"), str(tmp_path / "y" / "a")]


@pytest.fixture
def sweep(tmp_path):
    """Compare a sweep with three finished points, by the words of its command."""
    for center in ("aspp", "conv", "none"):
        make_run(tmp_path / f"center={center}", center=center)

    def typed(*words, **record):
        write_multirun(tmp_path, *words, **record)
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


def test_a_failed_baseline_is_replaced_by_the_next_point(sweep, tmp_path):
    make_failed(tmp_path / "center=fpa")
    expected = "are to center=none (the first run; center=fpa has no score)"
    text = sweep("center=fpa,none,aspp,conv")
    assert expected in text and "- no score: center=fpa" in text
    assert expected in sweep("center=fpa,none,aspp,conv", baseline="center=fpa")
    assert expected in compare_sweep(tmp_path, "center=fpa")  # the sweep itself asks for its own


@pytest.mark.parametrize("words", [["center=glob(*)"], ["center=(("], ["name=x"], [3], []])
def test_without_an_order_it_is_the_first_by_name(sweep, words):
    assert "are to center=aspp (the first run)" in sweep(*words)


def test_seeds_of_the_first_setting_are_one_row(tmp_path):
    for seed in (0, 1):
        for center in ("aspp", "conv"):
            make_run(tmp_path / f"center={center},seed={seed}", center=center, seed=seed)
    write_multirun(tmp_path, "seed=1,0", "center=conv,aspp", "name=s")
    text = compare_sweep(tmp_path, None)
    assert "are to center=conv (the first point)" in text and list(rows_of(text)) == ["center=conv", "center=aspp"]
    (tmp_path / "center=conv,seed=1/score.json").unlink()
    assert "are to center=conv,seed=0 (the first point)" in compare_sweep(tmp_path, None)


def test_a_sweep_over_seeds_alone_has_one_row(tmp_path):
    for seed in (0, 1):
        make_run(tmp_path / f"seed={seed}", seed=seed)
    write_multirun(tmp_path, "seed=1,0")
    text = compare_sweep(tmp_path, None)
    assert f"are to {tmp_path.name} (the first point)" in text and rows_of(text)[tmp_path.name][-1] == "2 (0.0000)"
    assert "(as asked)" in compare_sweep(tmp_path, "seed=1")


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
