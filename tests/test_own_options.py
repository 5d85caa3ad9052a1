"""One class and one YAML in a folder of one's own are enough: the examples of docs/extending.md run like all others."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, salt
from helpers.stop import stop_after_saving
from safetensors.torch import load_file

from salt.commands import predict, submit

PAGE = (Path(__file__).parents[1] / "docs/extending.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
CHOICES = [tuple(name.removesuffix(".yaml").split("/")[1:]) for name in EXAMPLES if name.startswith("options/")]
OPTIONS = [choice for choice in CHOICES if choice[0] != "data"]  # that is tests/test_own_data.py
KINDS = [
    *("loss", "attention", "center", "decoder", "hypercolumn", "deep-supervision"),
    *("augment", "optimizer", "schedule", "averaging", "data"),
]
CASES = [pytest.param(OPTIONS, id="all")]  # together in one run, which is fast, and each on its own
CASES += [pytest.param([choice], id="=".join(choice), marks=pytest.mark.slow) for choice in OPTIONS]
RESULTS = ("fold_0/model.safetensors", "oof.npz", "oof.csv", "submission.csv")


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A folder with the examples, and an image to predict."""
    folder = tmp_path_factory.mktemp("mine")
    for name, text in EXAMPLES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    np.save(folder / "line.npy", np.random.default_rng(0).normal(size=(120, 150)).astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def train(mine, synthetic_root):
    """Train one fold for two epochs, in the folder of the examples."""

    def run(name, *more):
        groups = {word.partition("=")[0] for word in more}
        words = [word for word in TINY if "decoder" not in groups or not word.startswith("decoder.")]
        words += [f"data.root={synthetic_root}", "folds=[0]", f"name={name}"]
        return salt(mine, "--config-dir", "options", *words, *more)

    return run


@pytest.fixture(scope="module")
def plain(train, mine):
    """The weights of a run without any of the examples."""
    assert train("plain").returncode == 0
    return load_file(mine / "runs/plain/fold_0/model.safetensors")


def test_there_is_an_example_of_each_kind():
    assert [group for group, _ in CHOICES] == KINDS


@pytest.mark.parametrize("chosen", CASES)
def test_an_own_option_trains_resumes_and_predicts(mine, train, plain, monkeypatch, chosen):
    words = [f"{group}={option}" for group, option in chosen]
    name = "+".join(option for _, option in chosen)
    run, again = mine / "runs" / name, mine / "runs" / f"{name}+again"
    result = train(name, *words)
    assert result.returncode == 0, result.stderr
    weights = load_file(run / "fold_0/model.safetensors")
    assert weights.keys() != plain.keys() or any(not torch.equal(weights[key], plain[key]) for key in plain)

    with monkeypatch.context() as patch:
        stop_after_saving(patch, 1)
        assert train(again.name, *words).returncode != 0
    result = train(again.name, *words)
    assert result.returncode == 0 and "resumes after epoch 1" in result.stdout, result.stderr
    assert all((run / file).read_bytes() == (again / file).read_bytes() for file in RESULTS)

    submission = (run / "submission.csv").read_bytes()
    (run / "submission.csv").unlink()
    result = salt(mine, f"runs/{name}", main=submit.main)
    assert result.returncode == 0 and (run / "submission.csv").read_bytes() == submission, result.stderr
    result = salt(mine, f"runs/{name}", "line.npy", "--out", f"of_{name}", main=predict.main)
    assert result.returncode == 0 and np.load(mine / f"of_{name}/line_probability.npy").shape == (120, 150)


def test_a_misspelt_setting_of_an_own_option_is_named(train):
    result = train("misspelt", "loss=tversky", "loss.alfa=0.5")
    assert result.returncode == 1 and "did you mean loss.alpha?" in result.stderr
    result = train("misspelt", "loss=tversky", "loss.alpha=half")
    assert result.returncode == 1 and "loss: alpha='half'" in result.stderr


def test_the_examples_leave_out_unknown_pixels(mine, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(mine), *sys.path])
    from coverage_head import Coverage
    from tversky import Tversky

    logits, masks = torch.randn(3, 1, 8, 8), (torch.rand(3, 1, 8, 8) < 0.4).float()
    known, inside = torch.zeros(3, 1, 8, 8), slice(2, 7)
    known[..., inside] = 1
    value = Tversky()(logits, masks, known=known)
    torch.testing.assert_close(value, Tversky()(logits[..., inside], masks[..., inside]))
    head = Coverage(None, [4], 1)
    extra = head([torch.randn(3, 4, 2, 2)], None, None)
    value = head.loss(extra, masks, None, None, known)
    torch.testing.assert_close(value, head.loss(extra, masks[..., inside], None, None))
    assert head.loss(extra, masks, None, None, 0 * known) == 0 == Tversky()(logits, masks, known=0 * known)
