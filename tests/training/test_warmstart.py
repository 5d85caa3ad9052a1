"""init=RUN: a fold begins with the weights of a fold of another run, and never of a network that saw its tiles."""

import dataclasses
import json
import shutil

import pytest
import torch
from conftest import TINY, salt
from helpers.jobs import make_job
from safetensors.torch import load_file

from salt.data import likeness
from salt.data.load import load_data
from salt.training.warmstart import check_same_start, first_weights, shared_images


def train(finished, synthetic_root, *overrides):
    return salt(finished, *TINY, f"data.root={synthetic_root}", "init=runs/a", "trainer.epochs=1", *overrides)


@pytest.mark.slow
def test_each_fold_begins_with_the_same_fold(finished, synthetic_root):
    still = ["optimizer.lr=1e-12", "schedule.warmup_epochs=0", "optimizer.weight_decay=0", "schedule.final=0"]
    ended = train(finished, synthetic_root, "name=b", "encoder.weights=imagenet", *still)  # which cannot be had here
    assert ended.returncode == 0, ended.stderr
    for fold in (0, 1):
        old, new = (load_file(finished / f"runs/{run}/fold_{fold}/model.safetensors") for run in "ab")
        weights = [key for key in old if "running" not in key and "num_batches" not in key]
        for key in weights:
            torch.testing.assert_close(new[key], old[key], atol=1e-6, rtol=1e-5)
    text = (finished / "runs/b/train.log").read_text()
    assert text.count("starts from the weights in runs/a/fold_0/model.safetensors, SHA-256") == 1
    again = train(finished, synthetic_root, "name=b", "encoder.weights=imagenet", *still)
    assert again.returncode == 0 and "fold 1 is finished already" in again.stdout


def test_other_folds_are_refused(finished, synthetic_root):
    for change in ("data.fold_seed=1", "data.n_folds=3"):
        ended = train(finished, synthetic_root, "name=c", change)
        assert ended.returncode == 1, change
    assert (
        "so its networks saw tiles that are held out here"
        in train(finished, synthetic_root, "name=c", "data.fold_seed=1").stderr
    )
    assert not (finished / "runs/c").exists()


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("runs/nowhere", "init: there is no file runs/nowhere/config.yaml; expected a run directory"),
        ("runs/partial", "init=runs/partial: its fold 1 is not finished"),
    ],
)
def test_what_cannot_begin_is_named(finished, synthetic_root, init, message):
    salt(finished, *TINY, f"data.root={synthetic_root}", "name=partial", "folds=[0]", "trainer.epochs=1")
    ended = train(finished, synthetic_root, "name=d", f"init={init}")
    assert ended.returncode == 1 and message in ended.stderr, ended.stderr
    assert not (finished / "runs/d").exists()


def test_another_network_is_refused(finished, synthetic_root):
    ended = train(finished, synthetic_root, "name=e", "decoder.channels=[16,16,16,16,8]")
    assert ended.returncode == 1 and "init=runs/a has another network than this run (decoder.stages.4" in ended.stderr
    assert not (finished / "runs/e").exists()


def test_another_number_of_folds_and_a_blend_are_refused(finished, synthetic_root):
    ended = train(finished, synthetic_root, "name=f", "data.n_folds=3")
    assert ended.returncode == 1 and "init=runs/a has 2 folds, expected 3, as this run" in ended.stderr
    (finished / "runs/blend").mkdir()
    (finished / "runs/blend/blend.json").write_text(json.dumps({"runs": []}))
    ended = train(finished, synthetic_root, "name=g", "init=runs/blend")
    assert ended.returncode == 1 and "init: there is no file runs/blend/config.yaml" in ended.stderr


def other_data(folder):
    return [f"data.root={folder / 'other'}", "data.seed=1", "data.n_train=15"]


def test_data_without_a_shared_image_begins_with_any_fold(finished, tmp_path):
    words = [*TINY, *other_data(finished), "trainer.epochs=1", "data.n_folds=3", "folds=[1,2]"]
    ended = salt(finished, *words, "init=runs/a", "name=h")
    assert ended.returncode == 0, ended.stderr
    text = (finished / "runs/h/train.log").read_text()
    for fold, of_theirs in ((1, 1), (2, 0)):  # they have the folds 0 and 1
        file = f"runs/a/fold_{of_theirs}/model.safetensors"
        assert f"runs/h/fold_{fold} starts from the weights in {file}, SHA-256" in text
    seen, own = likeness.read(finished / "runs/a"), likeness.read(finished / "runs/h")
    assert own.others == seen.images and not set(own.images) & set(seen.images)


@pytest.mark.slow
def test_images_that_a_network_saw_before_count(finished, synthetic_root):
    assert salt(finished, *TINY, *other_data(finished), "trainer.epochs=1", "init=runs/a", "name=i").returncode == 0
    ended = salt(finished, *TINY, f"data.root={synthetic_root}", "init=runs/i", "name=j")
    assert ended.returncode == 1 and not (finished / "runs/j").exists()
    n = len(likeness.read(finished / "runs/a").images)
    assert f"it shares {n} images with this run, so its folds must be the same" in ended.stderr


@pytest.mark.slow
def test_a_run_that_does_not_record_its_images_needs_the_same_folds(finished, synthetic_root):
    shutil.copytree(finished / "runs/a", finished / "runs/older")
    (finished / "runs/older/data.json").unlink()
    ended = train(finished, synthetic_root, "name=k", "init=runs/older", "folds=[0]")
    assert ended.returncode == 0, ended.stderr
    for changed in (["data.n_folds=3"], other_data(finished)):
        ended = salt(finished, *TINY, f"data.root={synthetic_root}", *changed, "init=runs/older", "name=l")
        assert ended.returncode == 1 and "it does not record its images (data.json)" in ended.stderr


@pytest.fixture
def job_with(finished, tiny, tmp_path):
    """A function that makes the job of a run from runs/a, whose training tiles are changed ones of its own."""

    def make(change, **settings):
        config = tiny(f"init={finished / 'runs/a'}")
        data = load_data(config)
        return make_job(config, tmp_path / "run", dataclasses.replace(data, train=change(data.train)), **settings)

    return make


def test_one_shared_image_demands_the_same_folds(job_with):
    job = job_with(lambda tiles: dataclasses.replace(tiles, images=255 - tiles.images))
    assert shared_images(job) == set() and first_weights(job, 7).parent.name == "fold_0"

    def keep_one(tiles):
        images = 255 - tiles.images
        images[3] = tiles.images[3]
        return dataclasses.replace(tiles, images=images)

    assert not load_data(job.config).train.constant[3]
    folds = 1 - job.folds
    with pytest.raises(ValueError, match="it shares 1 image with this run"):
        check_same_start(job_with(keep_one, folds=folds))
    check_same_start(job_with(keep_one))


def test_other_looks_and_the_same_names_are_warned_of(job_with, caplog):
    check_same_start(job_with(lambda tiles: tiles))
    assert not caplog.messages
    check_same_start(job_with(lambda tiles: dataclasses.replace(tiles, images=tiles.images // 4)))
    looks, names = caplog.messages
    assert "this data differs from what it was trained on: grey levels differ by" in looks
    assert "24 images of the same name as here" in names
