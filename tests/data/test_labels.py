"""Masks that are only partly known: what their values mean, and what training and scores take of them."""

import cv2
import numpy as np
import pytest
from conftest import TINY, raw_config, salt, write_folder

from salt.config import Labels, check_config
from salt.data.augment import Augment
from salt.data.doctor import check_data
from salt.data.image import to_labels
from salt.data.load import join_tiles, load_data, load_unlabelled
from salt.data.loader import NOT_KNOWN, TrainTiles, around_known
from salt.data.tiles import Tiles
from salt.runs.results import read_oof_table
from salt.runs.stacks import as_stack, read_probabilities

NAN = float("nan")


@pytest.mark.parametrize(
    ("values", "kind", "labels", "salt_at", "known_at"),
    [
        ([0, 1, 1, 0], "u1", {}, "0110", "1111"),
        ([0, 255, 128, 0], "u1", {"unknown": 128}, "0100", "1101"),
        ([0, 2, 1, 0], "u1", {"salt": 2, "unknown": 1}, "0100", "1101"),
        ([0, 65535, 300, 300], "u2", {"unknown": 300}, "0100", "1100"),
        ([0, NAN, 1, 0], "f4", {}, "0010", "1011"),
        ([0, NAN, 0.1, 3], "f4", {"salt": 3, "unknown": 0.1}, "0001", "1001"),
        ([0, -1, 7, -1], "i2", {"unknown": -1}, "0010", "1010"),
        ([255, 255, 255, 255], "u1", {"unknown": 255}, "0000", "0000"),
        ([False, True, True, False], "?", {}, "0110", "1111"),
    ],
)
def test_the_values_of_a_mask(values, kind, labels, salt_at, known_at):
    found = to_labels(np.array([values], kind), Labels(**labels))
    assert found.salt.dtype == np.uint8 and found.salt.tolist() == [[int(x) for x in salt_at]]
    assert found.known.tolist() == [[x == "1" for x in known_at]]


@pytest.mark.parametrize(
    ("values", "labels", "named"),
    [
        ([0, 1, 2, 0], {}, "[0, 1, 2]"),
        ([0, 128, 255, 0], {}, "set data.labels.unknown=128 or data.labels.unknown=255"),
        ([7, 1, 2, 0], {}, "without loss, or name the meaning of values by data.labels.salt and data.labels.unknown"),
        ([0, 1, 2, 7], {"salt": 1, "unknown": 2}, "[7]"),
        ([0, 5, 5, 0], {"salt": 1}, "[5]"),
        ([0, 5, 6, 9], {"unknown": 9}, "[5, 6]"),
    ],
)
def test_a_value_without_a_meaning_is_named(values, labels, named):
    with pytest.raises(ValueError, match=r"data\.labels") as error:
        to_labels(np.array([values], np.uint8), Labels(**labels))
    assert named in str(error.value)


@pytest.mark.parametrize("labels", [{"salt": 0}, {"unknown": 0}, {"salt": 3, "unknown": 3}])
def test_labels_with_two_meanings_are_refused(labels):
    words = [f"data.labels.{key}={value}" for key, value in labels.items()]
    with pytest.raises(ValueError, match=r"data\.labels: .* expected"):
        check_config(raw_config("data=folder", "data.root=x", *words))


def config(folder, *overrides):
    return check_config(raw_config("data=folder", f"data.root={folder}", *overrides))


def write_mask(folder, name, mask):
    cv2.imwrite(str(folder / "masks" / f"{name}.png"), mask)


def read_mask(folder, name):
    return cv2.imread(str(folder / "masks" / f"{name}.png"), cv2.IMREAD_UNCHANGED)


@pytest.fixture
def partial(tmp_path):
    """Images of which "b" and "f" are half unknown, and "e" is wholly."""
    folder = write_folder(tmp_path / "own")
    for name in "bf":
        mask = read_mask(folder, name)
        mask[:, mask.shape[1] // 2 :] = 128
        write_mask(folder, name, mask)
    write_mask(folder, "e", np.full_like(read_mask(folder, "e"), 128))
    return folder


def test_a_folder_of_partly_known_masks(partial):
    with pytest.raises(ValueError, match=r"own/masks/b.png: has 3 values \[0, 128, 255\]"):
        load_data(config(partial))
    assert check_data(partial).n_errors == 1 and not check_data(partial, labels=Labels(unknown=128)).n_errors
    wanted = config(partial, "data.labels.unknown=128")
    data = load_data(wanted)
    assert data.train.ids == list("abcdf") and data.uninterpreted.ids == ["e"]
    share = [np.mean(read_mask(partial, name)[read_mask(partial, name) != 128] == 255) for name in "abcdf"]
    assert data.train.coverage.tolist() == share
    for name, mask, known in zip(data.train.ids, data.train.masks, data.train.known, strict=True):
        values = read_mask(partial, name)
        assert np.array_equal(known, values != 128) and np.array_equal(mask, values == 255)
    assert load_unlabelled(wanted, data).ids == ["e", *data.test.ids]


def test_masks_that_are_known_everywhere_are_as_before(partial):
    write_folder(partial.parent / "whole")
    plain, named = (load_data(config(partial.parent / "whole", *words)) for words in ((), ["data.labels.unknown=128"]))
    assert plain.train.known is None and named.train.known is None and plain.digest() == named.digest()


def test_missing_amplitudes_are_unknown(tmp_path):
    folder = write_folder(tmp_path / "own", {"a": (64, 64), "b": (64, 64)})
    for name in "ab":
        image = cv2.imread(str(folder / "images" / f"{name}.png"), cv2.IMREAD_UNCHANGED).astype(np.float32)
        (folder / "images" / f"{name}.png").unlink()
        image[40:, :20] = NAN if name == "a" else image[40:, :20]
        np.save(folder / "images" / f"{name}.npy", image)
    for path in (folder / "test").iterdir():
        path.unlink()
    (folder / "test").rmdir()
    train = load_data(config(folder)).train
    assert np.array_equal(train.known[0], ~train.missing[0]) and train.known[1].all()
    assert not train.masks[0][40:, :20].any() and train.masks[1][40:, :20].all()
    assert train.coverage.tolist() == [(32 * 32 - 24 * 20) / (64 * 64 - 24 * 20), 0.25]


def test_no_known_pixel_at_all(partial):
    for name in "abcdf":
        write_mask(partial, name, np.full_like(read_mask(partial, name), 128))
    with pytest.raises(ValueError, match="no pixel of the masks is known"):
        load_data(config(partial, "data.labels.unknown=128"))


def test_tiles_are_joined_and_taken_with_what_is_known():
    images = np.zeros((2, 4, 4), np.uint8)
    known = np.arange(32).reshape(2, 4, 4) % 3 > 0
    one = Tiles(["a", "b"], images, images.copy(), np.zeros(2), None, known)
    both = join_tiles(one, Tiles(["c", "d"], images, images + 1, np.ones(2)))
    assert np.array_equal(both.known, np.concatenate([known, np.ones_like(known)])) and both.missing is None
    taken = both.take(np.array([2, 1]))
    assert taken.ids == ["c", "b"] and taken.n_known.tolist() == [16, known[1].sum()] and taken.masks[0].all()


def test_tiles_of_several_sizes_of_which_equal_ones_are_left():
    images = as_stack([np.ones((4, 6), np.uint8), np.ones((5, 5), np.uint8), np.ones((4, 6), np.uint8)])
    known = as_stack([np.ones(image.shape, bool) for image in images])
    left = Tiles(["a", "b", "c"], images, images, np.zeros(3), None, known).take(np.array([0, 2]))
    part = np.arange(48).reshape(2, 4, 6) % 5 > 0
    found = left.known_within(part)
    assert np.array_equal(found.known, part) and np.array_equal(found.masks, part) and found.coverage.tolist() == [1, 1]


def test_a_crop_holds_a_known_pixel_and_marks_the_others():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (300, 500), dtype=np.uint8)
    known = np.zeros(image.shape, bool)
    known[200:240, 100:104] = True
    known[7, 499] = True
    masks = (image > 100).astype(np.uint8)
    size, seen = (64, 64), set()
    tiles = TrainTiles(
        Tiles(["a"], image[None], masks[None], np.zeros(1), None, known[None]), Augment([]), (0, 0), size
    )
    assert tiles.positions.tolist() == [0]  # 161 known pixels are less than one crop
    for epoch in range(40):
        crop, mask, _, _ = (x.numpy()[0] if hasattr(x, "numpy") else x for x in tiles[(epoch, 0, 0)])
        assert crop.shape == size and (mask != NOT_KNOWN).any()
        for y in range(300 - 63):  # where it was cut
            found = np.flatnonzero(crop[0, 0] == image[y, : 500 - 63])
            x = next((x for x in found if np.array_equal(image[y : y + 64, x : x + 64], crop)), None)
            if x is not None:
                part = slice(y, y + 64), slice(x, x + 64)
                assert np.array_equal(mask, np.where(known[part], masks[part], NOT_KNOWN))
                seen.add((y, x))
                break
        else:
            pytest.fail("the crop is no part of the image")
    assert len(seen) > 30


@pytest.mark.parametrize("shape", [(40, 200), (200, 40), (64, 64), (30, 30), (64, 65)])
def test_the_part_around_a_known_pixel_lies_in_the_image(shape):
    rng = np.random.default_rng(1)
    for _ in range(50):
        known = rng.random(shape) < 0.001
        known[rng.integers(shape[0]), rng.integers(shape[1])] = True
        rows, columns = around_known(known, known.sum(axis=0).cumsum(), (64, 64), rng)
        assert rows.start >= 0 and columns.start >= 0 and known[rows, columns].any()
        assert known[rows, columns].shape == (min(64, shape[0]), min(64, shape[1]))


def test_a_run_scores_known_pixels_alone(partial):
    words = [o for o in TINY if not o.startswith(("data=", "data.n_train", "data.n_test", "report"))]
    words += ["data=folder", f"data.root={partial}", "data.labels.unknown=128", "name=a", "trainer.epochs=1"]
    words += ["trainer.batch_size=2", "augment=cutmix", "report=true"]
    ended = salt(partial.parent, *words)
    assert ended.returncode == 0, ended.stderr
    ids, probabilities = read_probabilities(partial.parent / "runs/a/oof.npz")
    table = read_oof_table(partial.parent / "runs/a/oof.csv")
    assert sorted(ids) == list("abcdf")
    for name, probability in zip(ids, probabilities, strict=True):
        values = read_mask(partial, name)
        known = values != 128
        truth, predicted = values[known] == 255, probability[known].astype(float) > 0.5
        union = (truth | predicted).sum()
        iou = (truth & predicted).sum() / union if union else 1
        score = np.mean([iou > t for t in np.arange(10, 20) / 20])
        assert table.loc[name, "score"] == pytest.approx(score)
        assert table.loc[name, "coverage"] == pytest.approx(truth.mean())
    page = (partial.parent / "runs/a/report.html").read_text(encoding="utf-8")
    assert 'id="hatch"' in page
