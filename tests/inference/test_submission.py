"""The submission's file, and each of its masks computed again from the folds' weights."""

import csv
import json
from decimal import Decimal

import numpy as np
import pytest
import torch
from conftest import TINY, raw_config
from safetensors.torch import load_file, save_file
from torch import nn

from salt import build, crossval
from salt.config import check_config
from salt.data.synthetic import Synthetic
from salt.data.tgs import read_dataset
from salt.inference import model, submission
from salt.inference.engine import TorchEngine
from salt.inference.submission import check_submission, write_submission
from salt.machine.device import choose_runtime
from salt.models.segmenter import Output
from salt.runs.ensemble import Ensemble, Member
from salt.runs.rundir import RunDir


@pytest.fixture
def masks():
    masks = np.zeros((3, 101, 101), bool)
    masks[1, 50:] = True
    masks[2, 100, 100] = True
    return masks


IDS = ["123e456789", "00000000aa", "deadbeef00"]


def test_written_as_kaggle_expects(tmp_path, masks):
    write_submission(tmp_path / "submission.csv", IDS, masks)
    lines = (tmp_path / "submission.csv").read_text().splitlines()
    assert lines[0] == "id,rle_mask"
    assert lines[1] == "123e456789,"
    assert lines[2].startswith("00000000aa,51 51 152 51 ")
    assert lines[3] == "deadbeef00,10201 1"
    assert [file.name for file in tmp_path.iterdir()] == ["submission.csv"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("123e456789", "1e9"), r"ids are not those .*; differing: \['123e456789', '1e9'\]"),
        (("deadbeef00,10201 1\n", ""), "ids are not those"),
        (("deadbeef00,10201 1", "deadbeef00,10201 2"), "deadbeef00: run '10201 2' is outside"),
        (("deadbeef00,10201 1", "deadbeef00,10200 1"), "deadbeef00 does not decode"),
        (("deadbeef00,10201 1", "deadbeef00,10201 1 10201 1"), "does not come after"),
        (("deadbeef00,10201 1", "deadbeef00,10201"), "id deadbeef00: .* start without a length"),
        (("deadbeef00,10201 1", "deadbeef00,10201 one"), "id deadbeef00: .* no positive number"),
        (("rle_mask", "mask"), "expected the columns"),
    ],
)
def test_check_refuses(tmp_path, masks, change, reason):
    write_submission(tmp_path / "submission.csv", IDS, masks)
    text = (tmp_path / "submission.csv").read_text().replace(*change)
    with pytest.raises(ValueError, match=reason):
        check_submission(text, IDS, masks)


def test_ids_of_digits_stay_text(tmp_path, masks):
    write_submission(tmp_path / "submission.csv", ["0000000001", "0000000002", "1234567890"], masks)
    assert "\n0000000002,51 51 " in (tmp_path / "submission.csv").read_text()


def test_a_submission_that_does_not_decode_to_its_masks_is_not_written(tmp_path, masks, monkeypatch):
    monkeypatch.setattr(submission.rle, "encode_all", lambda masks: ["", "1 1", "2 2"])
    with pytest.raises(ValueError, match="id 00000000aa does not decode to its mask"):
        write_submission(tmp_path / "submission.csv", IDS, masks)
    assert not any(tmp_path.iterdir())


CYCLES = ["schedule=cosine_restarts", "schedule.cycles=2", "schedule.snapshots=2", "trainer.epochs=2"]  # 2 files a fold
TILES = ["data.n_train=26", "data.n_test=26"]
CANDIDATES = [Decimal(5 + 3 * i) / 100 for i in range(31)]


@pytest.fixture(scope="module")
def with_constant_tiles(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "tiles"
    Synthetic(root, n_train=26, n_test=26, seed=0).prepare()
    data = read_dataset(root)
    assert data.train.constant.sum() == data.test.constant.sum() == 1
    return root, data


def weights_of(path):
    """The names of the files that `done` lists, fold after fold."""
    folds = sorted(path.glob("fold_*"))
    return [[load_file(fold / name) for name in (fold / "done").read_text().split()] for fold in folds]


def read_masks(path):
    """The masks of submission.csv by id, painted pixel by pixel."""
    masks = {}
    with (path / "submission.csv").open() as file:
        for row in csv.DictReader(file):
            mask = np.zeros((101, 101), bool)
            numbers = [int(word) for word in row["rle_mask"].split()]
            for start, length in zip(numbers[::2], numbers[1::2], strict=True):
                for pixel in range(start - 1, start - 1 + length):
                    mask[pixel % 101, pixel // 101] = True
            masks[row["id"]] = mask
    return masks


def above(probabilities, threshold):
    """The pixels strictly above an exact threshold (Python compares a float with a Decimal without rounding)."""
    found, where = np.unique(probabilities, return_inverse=True)
    return np.array([p > threshold for p in found.tolist()])[where].reshape(probabilities.shape)


def best_threshold(path, tiles):
    """The candidate with the best mean score over all tiles of all folds; of several the one nearest to 0.5."""
    totals = dict.fromkeys(CANDIDATES, 0)  # tenths
    for fold in sorted(path.glob("fold_*")):
        with np.load(fold / "oof.npz") as oof:
            for tile_id, probabilities in zip(oof["ids"].tolist(), oof["probabilities"], strict=True):
                position = tiles.ids.index(tile_id)
                truth = tiles.masks[position] == 1
                if tiles.images[position].min() == tiles.images[position].max():
                    probabilities = 0 * probabilities
                for threshold in CANDIDATES:
                    predicted = above(probabilities, threshold)
                    both, either = int((truth & predicted).sum()), int((truth | predicted).sum())
                    totals[threshold] += sum(20 * both > k * either for k in range(10, 20)) if either else 10
    best = max(totals.values())
    return min((t for t in CANDIDATES if totals[t] == best), key=lambda t: abs(t - Decimal("0.5")))


class Grey(nn.Module):
    """A network whose logit is one number for the pixel's grey value plus one for its column."""

    tile = (101, 101)

    def __init__(self):
        super().__init__()
        self.grey, self.column = nn.Parameter(torch.zeros(256)), nn.Parameter(torch.zeros(101))

    def forward(self, images, depths):
        return Output(self.grey[(images * 255).round().long()] + self.column, [])

    def loss(self, output, masks, loss, known=None):
        return loss(output.logits, masks)


def grey_probabilities(weights, image):
    """What `Grey` says of a tile and of the mirrored one, averaged, in double precision."""
    grey, column = weights["grey"].numpy()[image], weights["column"].numpy()
    logits = np.stack([grey + column, grey + column[::-1]]).astype(np.float64)
    return (1 / (1 + np.exp(-logits))).astype(np.float32).mean(axis=0, dtype=np.float64)


def logit_of(probability):
    """A logit whose sigmoid is exactly this number, for torch in every place of a batch and in double precision."""
    near = np.log(np.float64(probability) / (1 - np.float64(probability))).astype(np.float32)
    for step in sorted(range(-200, 200), key=abs):
        logit = near + np.float32(step) * np.spacing(near)
        by_torch = torch.full((4, 1, 101, 101), float(logit)).sigmoid()
        if (by_torch == float(probability)).all() and np.float32(1 / (1 + np.exp(-np.float64(logit)))) == probability:
            return float(logit)
    raise AssertionError(f"no logit for {probability}")


# 0.50 is a number of float32 itself: not above. 0.62 as float32 is more than 0.62, and 0.35 is less.
@pytest.mark.parametrize("policy", ["empty", "model"])
def test_a_constant_tile_is_emptied_only_where_the_setting_says_so(with_constant_tiles, tmp_path, monkeypatch, policy):
    root, data = with_constant_tiles
    config = check_config(raw_config(*TINY, f"data.root={root}", *TILES, f"data.constant_tiles={policy}"))
    everywhere = model.Prediction(np.ones(data.test.images.shape, dtype=np.float32), None)
    monkeypatch.setattr(model.Predictor, "predict", lambda *_: everywhere)
    score = {"threshold": 0.5, "folds": []}
    ensemble = Ensemble(tmp_path, score, [Member(RunDir(tmp_path), config, score)])
    runtime = choose_runtime(config.trainer)
    predictor = model.Predictor(TorchEngine([], (101, 101), runtime, False), "")
    submission.make_submission(model.Model(ensemble, [predictor]), data.test)
    masks = read_masks(tmp_path)
    full = [masks[tile_id].all() for tile_id in data.test.ids]
    assert full == [policy == "model" or not constant for constant in data.test.constant.tolist()]


@pytest.mark.parametrize(("threshold", "tie_is_salt"), [("0.50", False), ("0.62", True), ("0.35", False)])
def test_every_mask_is_the_mean_over_weights_above_the_best_threshold(
    with_constant_tiles, tmp_path, monkeypatch, threshold, tie_is_salt
):
    root, data = with_constant_tiles
    config = check_config(raw_config(*TINY, f"data.root={root}", *TILES, *CYCLES))
    monkeypatch.setattr(build, "build_model", lambda config: Grey())
    monkeypatch.setattr(submission, "TILES_AT_ONCE", 10)  # of 26 tiles
    crossval.run(config, tmp_path)
    for name in ("submission.csv", "score.json", "oof.csv", "oof.npz"):
        (tmp_path / name).unlink()
    # other weights and predictions instead of the trained ones: 7 of 8 grey values are far from the threshold
    tie = np.float32(threshold)
    generator = torch.Generator().manual_seed(0)
    for n, fold in enumerate(sorted(tmp_path.glob("fold_*"))):
        for name in (fold / "done").read_text().split():
            grey, column = 2 * torch.randn(256, generator=generator), torch.zeros(101)
            grey[::8] = logit_of(tie)
            grey[int(data.test.images[data.test.constant][0, 0, 0])] = 5.0
            column[:20] = torch.randn(20, generator=generator)
            save_file({"grey": grey, "column": column}, fold / name)
        with np.load(fold / "oof.npz") as oof:
            ids = oof["ids"]
        masks = np.stack([data.train.masks[data.train.ids.index(tile_id)] for tile_id in ids])
        low, high = (0.01, 0.01) if n else (0.06, 0.06)  # fold 0 alone would choose one nearer to 0.5
        np.savez(fold / "oof.npz", ids=ids, probabilities=(tie - low + masks * (low + high)).astype(np.float16))
    crossval.run(config, tmp_path)

    assert best_threshold(tmp_path, data.train) == Decimal(threshold)
    weights = [part for fold in weights_of(tmp_path) for part in fold]
    masks = read_masks(tmp_path)
    assert len(weights) == 4 and list(masks) == data.test.ids
    ties = 0
    for tile_id, image in zip(data.test.ids, data.test.images, strict=True):
        mean = np.mean([grey_probabilities(part, image) for part in weights], axis=0, dtype=np.float64)
        expected = above(mean.astype(np.float32), Decimal(threshold))
        tied = mean == tie
        assert (expected[tied] == tie_is_salt).all()
        if image.min() == image.max():
            assert expected.all()
            expected[:] = False
        else:
            ties += tied.sum()
        assert np.array_equal(masks[tile_id], expected)
    assert ties > 1000


@pytest.mark.slow
def test_a_trained_run_s_masks_and_probabilities_come_from_its_weights(with_constant_tiles, tmp_path):
    root, data = with_constant_tiles
    config = check_config(raw_config(*TINY, f"data.root={root}", *TILES, *CYCLES, "data.constant_tiles=model"))
    crossval.run(config, tmp_path)
    model = build.build_model(config).eval()

    def probabilities(files, images):
        pixels = torch.from_numpy(images).float()[:, None] / 255
        parts = []
        for weights in files:
            model.load_state_dict(weights)
            for batch in (pixels, pixels.flip(-1)):
                with torch.no_grad():
                    parts.append(model(batch, torch.zeros(len(batch))).logits.sigmoid())
            parts[-1] = parts[-1].flip(-1)
        return torch.stack(parts).mean(dim=0)[:, 0].numpy()

    folds = weights_of(tmp_path)
    for fold, files in enumerate(folds):
        with np.load(tmp_path / f"fold_{fold}/oof.npz") as oof:
            images = data.train.images[[data.train.ids.index(tile_id) for tile_id in oof["ids"]]]
            # half of float16's step below 1
            np.testing.assert_allclose(oof["probabilities"], probabilities(files, images), rtol=0, atol=3e-4)
    score = json.loads((tmp_path / "score.json").read_text())
    threshold = float(best_threshold(tmp_path, data.train)) if score["gains"]["threshold"]["used"] else 0.5
    assert score["threshold"] == threshold
    masks = np.stack(list(read_masks(tmp_path).values()))
    expected = probabilities([part for files in folds for part in files], data.test.images)
    sure = np.abs(expected - threshold) > 1e-6  # other batch sizes may round otherwise
    assert sure.mean() > 0.99 and np.array_equal(masks[sure], (expected > threshold)[sure])
