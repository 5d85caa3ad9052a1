"""init=RUN: each fold begins with the weights of the same fold of another run, and never of one that saw its tiles."""

import json

import pytest
import torch
from conftest import TINY, salt
from safetensors.torch import load_file


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
