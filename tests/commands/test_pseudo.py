"""salt-pseudo and semi-supervised training: labels without a leak, checked by what a changed mask can reach."""

import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import TINY, write_folder
from conftest import salt as run
from helpers.jobs import make_job
from helpers.stop import stop_after_saving

from salt.commands import pseudo
from salt.data.load import read_labels
from salt.data.tiles import Dataset, Tiles
from salt.machine import distributed
from salt.preflight.checks import check_shares
from salt.runs.results import read_run
from salt.training import setup

SIZES = {name: (101, 101) for name in "abcdefgh"}
PLAIN = [
    *(part for part in TINY if not part.startswith("data")),
    *("data=folder", "data.n_folds=2", "trainer.epochs=1", "trainer.batch_size=2"),
]
PSEUDO = ["semi-supervised=pseudo", "data.pseudo=runs/base/pseudo.csv", "semi_supervised.least=0.0"]


def train(folder, *arguments):
    ended = run(folder, *PLAIN, f"data.root={folder / 'data'}", *arguments)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def label(folder, *arguments):
    ended = run(folder, "runs/base", *arguments, main=pseudo.main)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data, a run, its labels and a run that is trained with them."""
    folder = tmp_path_factory.mktemp("semi")
    write_folder(folder / "data", SIZES)
    return everything(folder)


def everything(folder):
    train(folder, "name=base")
    label(folder)
    train(folder, "name=pseudo", *PSEUDO)
    return folder


def held_out(folder, fold):
    table = pd.read_csv(folder / "runs/base/folds.csv", dtype={"id": str})
    return table["id"][table["fold"] == fold].tolist()


def with_another_mask(folder, name, out):
    """All of it again, with one mask mirrored: the same coverage, so the same folds."""
    shutil.copytree(folder / "data", out / "data")
    file = out / "data" / "masks" / f"{name}.png"
    cv2.imwrite(str(file), np.ascontiguousarray(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)[:, ::-1]))
    return everything(out)


@pytest.mark.slow
def test_a_mask_cannot_change_the_predictions_of_its_own_tile(trained, tmp_path):
    name = next(name for name in held_out(trained, 0) if name != "d")  # d has no salt
    other = with_another_mask(trained, name, tmp_path)
    same, labels = {}, [read_labels(folder / "runs/base/pseudo.csv") for folder in (trained, other)]
    for method in ("base", "pseudo"):
        for fold in (0, 1):
            a, b = (folder / "runs" / method / f"fold_{fold}/oof.npz" for folder in (trained, other))
            same[method, fold] = a.read_bytes() == b.read_bytes()
    # fold 0 holds the tile out, fold 1 is trained on it
    assert same == {(method, fold): fold == 0 for method in ("base", "pseudo") for fold in (0, 1)}
    assert (labels[0].folds, labels[0].tiles) == (labels[1].folds, labels[1].tiles)
    a, b = (part.table for part in labels)
    pd.testing.assert_frame_equal(a[a["fold"] == 0], b[b["fold"] == 0])
    assert not a[a["fold"] == 1].equals(b[b["fold"] == 1])


def test_labels_have_each_tile_and_fold(trained):
    text = label(trained, "--out", "labels.csv", "--least", "0.25")
    assert (trained / "labels.csv").read_bytes() == (trained / "runs/base/pseudo.csv").read_bytes()
    table = read_labels(trained / "labels.csv").table
    expected = [(fold, f"test_{name}") for fold in (0, 1) for name in sorted(SIZES)]
    assert list(zip(table["fold"], table["id"], strict=True)) == expected
    assert "labels of 8 tiles for 2 folds" in text and "held out" in text and "confidence of 0.25 and more" in text


@pytest.mark.slow
def test_images_of_other_data_can_be_labelled_and_used(trained, tmp_path):
    more = write_folder(tmp_path / "more", {name: (101, 101) for name in "uvwxyz"})
    assert "labels of 6 tiles" in label(trained, "--unlabelled", more, "--out", tmp_path / "more.csv")
    overrides = [*PSEUDO[:1], f"data.pseudo={tmp_path / 'more.csv'}", "semi_supervised.least=0"]
    ended = run(trained, *PLAIN, f"data.root={trained / 'data'}", *overrides, "name=more")
    assert ended.returncode == 1 and "data.unlabelled=FOLDER names the data that was labelled" in ended.stderr
    (more / "test").rename(tmp_path / "alone")  # images alone will do too
    said = train(trained, *overrides, f"data.unlabelled={tmp_path / 'alone'}", "name=more", "folds=[0]")
    assert "fold 0: 6 of 6 tiles without a mask take part, 1 in each batch" in said
    (tmp_path / "alone").rename(tmp_path / "moved")
    train(trained, *overrides, f"data.unlabelled={tmp_path / 'moved'}", "name=more")  # a place may change
    shutil.rmtree(tmp_path / "moved")
    train(trained, *overrides, f"data.unlabelled={tmp_path / 'moved'}", "name=more")  # a finished run needs none


@pytest.mark.slow
def test_a_run_resumes_with_its_own_tiles_and_labels_alone(trained, tmp_path):
    train(trained, "name=half", "folds=[0]", *PSEUDO)
    train(trained, "name=second", "seed=1")
    ended = run(trained, "runs/second", "--out", tmp_path / "second.csv", main=pseudo.main)
    assert ended.returncode == 0, ended.stderr
    overrides = ["semi-supervised=pseudo", f"data.pseudo={tmp_path / 'second.csv'}", "semi_supervised.least=0.0"]
    ended = run(trained, *PLAIN, f"data.root={trained / 'data'}", "name=half", *overrides)
    assert ended.returncode == 1 and "data.pseudo" in ended.stderr
    train(trained, "name=other", "folds=[0]", *overrides)
    runs = [read_run(trained / "runs" / name) for name in ("half", "other")]
    assert runs[0].settings != runs[1].settings  # so that salt-compare takes them for two


@pytest.mark.slow
def test_what_a_run_does_not_use_is_logged(trained):
    for choice in ("none", "pseudo"):
        said = train(
            trained, *PSEUDO[1:], "data.unlabelled=data", "dry_run=true", "name=new", f"semi-supervised={choice}"
        )
        for key in ("unlabelled", "pseudo"):
            assert (f"data.{key} is not used" in said) == (choice == "none")


def test_tiles_that_come_too_often_are_logged(tiny, caplog):
    config = tiny("semi-supervised=pseudo", "data.pseudo=x", "trainer.batch_size=4")
    images = np.zeros((49, *config.data.size), np.uint8)
    tiles = Tiles([str(i) for i in range(49)], images, images, np.zeros(49))
    data = Dataset(tiles, tiles)
    setup.epoch_batches(make_job(config, data=data, folds=np.arange(48) % 2), 0, tiles)
    assert "each of the 1 tiles without a mask up to 24 times" in caplog.text
    caplog.clear()
    setup.epoch_batches(make_job(config, data=data, folds=np.arange(41) % 2), 0, tiles)
    assert not caplog.text


def test_other_images_with_the_same_names_are_refused(trained, tmp_path):
    """Else a network that was trained on an image could label tiles for the fold that holds it out."""
    shutil.copytree(trained / "data", tmp_path / "data")
    for part in ("images", "masks"):
        a, b = (tmp_path / "data" / part / f"{held_out(trained, fold)[0]}.png" for fold in (0, 1))
        a.rename(tmp_path / "kept")
        b.rename(a)
        (tmp_path / "kept").rename(b)
    overrides = [*PSEUDO, "data.folds=runs/base/folds.csv", "name=refused"]
    ended = run(trained, *PLAIN, f"data.root={tmp_path / 'data'}", *overrides)
    assert ended.returncode == 1 and "made with other tiles or folds" in ended.stderr


REFUSED = [
    (["semi-supervised=pseudo"], "needs data.pseudo=FILE, which salt-pseudo"),
    (["semi_supervised.share=0.5"], "needs data.pseudo=FILE, which salt-pseudo"),
    ([*PSEUDO, "semi_supervised.share=1.0"], "semi_supervised.share: input should be less"),
    ([*PSEUDO, "data.unlabelled=nowhere"], "data.unlabelled: there is no folder nowhere"),
    (["semi-supervised=pseudo", "data.pseudo=nothing.csv"], "data.pseudo: there is no file nothing.csv"),
    (["semi-supervised=pseudo", "data.pseudo=runs/base/folds.csv"], "is no file of salt-pseudo"),
    ([*PSEUDO, "data.fold_seed=3"], "made with other tiles or folds"),
    ([*PSEUDO[:2], "semi_supervised.least=1.0"], "no label for fold 0 has a confidence"),
    ([*PSEUDO[:2], "semi_supervised.least=90"], "semi_supervised.least: input should be less"),
]


@pytest.mark.parametrize(("overrides", "message"), REFUSED)
def test_what_does_not_fit_is_refused_before_anything_is_written(trained, overrides, message):
    ended = run(trained, *PLAIN, f"data.root={trained / 'data'}", "name=refused", *overrides)
    assert ended.returncode == 1 and message in ended.stderr, ended.stderr
    assert "Traceback" not in ended.stderr and not (trained / "runs/refused").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("# salt-pseudo", "salt-pseudo", "is no file of salt-pseudo"),
        ("fold,id,", "fold,name,", "damaged"),
        ("\n0,test_b,", "\n0,test_a,", "occurs twice"),
        ("\n1,test_b,0", "\n1,test_b,7", "a confidence is not"),
        ("\n1,test_b,", "\none,test_b,", "damaged"),
        ("\n0,test_b,", "\n0,test_bb,", "has labels of other tiles than the 8 without a mask"),
    ],
)
def test_a_damaged_file_of_labels_is_named(trained, tmp_path, old, new, message):
    text = (trained / "runs/base/pseudo.csv").read_text()
    assert old in text
    (tmp_path / "bad.csv").write_text(text.replace(old, new, 1))
    overrides = ["semi-supervised=pseudo", f"data.pseudo={tmp_path / 'bad.csv'}", "semi_supervised.least=0.0"]
    ended = run(trained, *PLAIN, f"data.root={trained / 'data'}", "name=refused", *overrides)
    assert ended.returncode == 1 and message in ended.stderr and "data.pseudo" in ended.stderr, ended.stderr


def test_a_run_that_cannot_label_is_refused(trained, tmp_path):
    for arguments, message in (
        (["runs"], "is no run directory"),
        (["runs/base", "--out", "nowhere/labels.csv"], "--out nowhere/labels.csv: expected"),
        (["runs/base", "--out", "runs"], "--out runs: expected"),
        (["runs/base", "--unlabelled", "nowhere"], "there is no folder nowhere"),
    ):
        ended = run(trained, *arguments, main=pseudo.main)
        assert ended.returncode == 1 and message in ended.stderr, ended.stderr
    (tmp_path / "empty").mkdir()
    ended = run(trained, "runs/base", "--unlabelled", tmp_path / "empty", main=pseudo.main)
    assert ended.returncode == 1 and "holds no image" in ended.stderr


def test_labels_that_are_not_sure_are_reported():
    labels = pd.DataFrame({"fold": [0, 1], "id": ["a", "a"], "confidence": [0.5, 0.7], "rle_mask": ["", "1 2"]})
    held_out = pd.DataFrame({"confidence": [0.4, 0.95], "score": [0.25, 1.0]})
    text = pseudo.summary(labels, held_out, 0.9)
    assert "0% of the labels" in text and "at most 0.7" in text and "nan" not in text
    assert "held out: 50% as confident, these with a map of 1.000 at 0.5, the others with a map of 0.250" in text


@pytest.mark.parametrize(
    ("overrides", "processes", "message"),
    [
        (["trainer.batch_size=2", "semi_supervised.share=0.5"], 2, "has 1 tiles without a mask in each batch"),
        (["trainer.batch_size=24", "semi_supervised.share=0.25"], 4, "has 6 tiles without a mask in each batch"),
        (["trainer.batch_size=16"], 8, None),
    ],
)
def test_processes_must_be_able_to_share_both_kinds_of_tiles(tiny, monkeypatch, overrides, processes, message):
    config = tiny("data.pseudo=x", "semi-supervised=pseudo", *overrides)
    monkeypatch.setattr(distributed, "world_size", lambda: processes)
    if message is None:
        check_shares(config)
        assert setup.n_pseudo(config) == 8  # however many processes there are
        return
    with pytest.raises(ValueError, match=message):
        check_shares(config)


@pytest.mark.slow
def test_a_stopped_fold_resumes_to_the_same_weights(trained, tmp_path, monkeypatch):
    results = []
    for stopped in (False, True):
        arguments = [f"name=stopped_{stopped}", "trainer.epochs=2", "folds=[0]", *PSEUDO]
        if stopped:
            with monkeypatch.context() as patch:
                stop_after_saving(patch, 1)
                assert run(trained, *PLAIN, f"data.root={trained / 'data'}", *arguments).returncode != 0
        train(trained, *arguments)
        results.append((trained / f"runs/stopped_{stopped}/fold_0/model.safetensors").read_bytes())
    assert results[0] == results[1]
