"""One's own folder of images: what is read, what is refused, and a whole run on images of several sizes."""

import re

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import SIZES, TINY, raw_config, salt, write_folder

from salt.config import check_config
from salt.data import rle
from salt.data.load import fill_from_data, largest_tile, load_data
from salt.runs.stacks import read_probabilities


def config(folder, *overrides):
    return check_config(raw_config("data=folder", f"data.root={folder}", *overrides))


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "own")


def test_images_of_any_size_are_read(folder):
    data = load_data(config(folder))
    assert data.train.ids == list(SIZES) and [image.shape for image in data.train.images] == list(SIZES.values())
    assert data.train.coverage.round(2).tolist() == [0.25, 0.25, 0.25, 0, 0.25, 0.25]
    assert data.test.ids == [f"test_{name}" for name in SIZES] and data.has_no_depths
    for name, image in zip(SIZES, data.train.images, strict=True):
        assert np.array_equal(image, cv2.imread(str(folder / "images" / f"{name}.png"), cv2.IMREAD_UNCHANGED))


def test_the_tables_are_read_where_they_are_there(folder):
    masks = [cv2.imread(str(folder / "masks" / f"{name}.png"), cv2.IMREAD_UNCHANGED) for name in "fedcba"]
    table = pd.DataFrame({"id": list("fedcba"), "rle_mask": [rle.encode(mask) for mask in masks]})
    table.to_csv(folder / "train.csv", index=False)
    ids = [*SIZES, *(f"test_{name}" for name in SIZES)]
    pd.DataFrame({"id": ids, "z": range(len(ids))}).to_csv(folder / "depths.csv", index=False)
    data = load_data(config(folder))
    assert data.train.ids == list("fedcba") and data.train.depths.tolist() == [5, 4, 3, 2, 1, 0]
    assert not data.has_no_depths and fill_from_data(config(folder, "input.channels=depth_z"), data)
    table.loc[2, "rle_mask"] = "1 2"
    table.to_csv(folder / "train.csv", index=False)
    with pytest.raises(ValueError, match=r"train.csv: 1 masks differ from their rle_mask, e.g. \['d'\]"):
        load_data(config(folder))
    table.iloc[1:].to_csv(folder / "train.csv", index=False)
    with pytest.raises(ValueError, match=r"own: images that are not in train.csv: f; "):
        load_data(config(folder))


def test_a_depth_that_is_missing_is_named(folder):
    with pytest.raises(ValueError, match=r"input.channels=depth_z: .*own have no depth"):
        fill_from_data(config(folder, "input.channels=depth_z"), load_data(config(folder)))


def test_the_input_says_how_large_a_tile_may_be(tiny):
    assert largest_tile(tiny("input.size=110")) == 110
    assert largest_tile(tiny("input=resize_pad_256", "input.resize=105", "input.size=128")) == 105
    with pytest.raises(ValueError, match=r"^input.size: .*data.tile"):
        largest_tile(tiny("~input.size"))  # a class of one's own may do without


@pytest.mark.parametrize(("per", "images"), [("image", [[0, 255], [0, 255]]), ("survey", [[0, 128], [128, 255]])])
def test_amplitudes_are_scaled_by_image_or_by_survey(tmp_path, per, images):
    write_folder(tmp_path, {"a": (32, 32), "b": (32, 32)})
    for path in (*(tmp_path / "images").iterdir(), *(tmp_path / "test").iterdir()):
        path.unlink()
    (tmp_path / "test").rmdir()
    for name, (low, high) in {"a": (-1000.0, 0.0), "b": (0.0, 1000.0)}.items():
        array = np.full((32, 32), low)
        array[16:] = high
        np.save(tmp_path / "images" / f"{name}.npy", array)
    wanted = config(tmp_path, f"data.amplitudes.per={per}", "data.amplitudes.percentiles=[0,100]")
    data = load_data(wanted)
    assert [[image[0, 0], image[-1, 0]] for image in data.train.images] == images
    assert fill_from_data(wanted, data).data.amplitudes.range == ([-1000, 1000] if per == "survey" else None)


def break_folder(folder, how):
    images, masks = folder / "images", folder / "masks"
    if how == "no images":
        [path.unlink() for path in images.iterdir()]
    elif how == "no mask":
        (masks / "b.png").unlink()
    elif how == "no image":
        (images / "b.png").unlink()
    elif how == "mask of another size":
        cv2.imwrite(str(masks / "b.png"), np.zeros((64, 199), np.uint8))
    elif how == "three values":
        cv2.imwrite(str(masks / "b.png"), np.arange(64 * 200, dtype=np.uint8).reshape(64, 200) % 3)
    elif how == "two of one name":
        cv2.imwrite(str(images / "b.tif"), np.zeros((64, 200), np.uint8))
    elif how == "unknown extension":
        (images / "notes.txt").write_text("")
    elif how == "damaged":
        (images / "b.png").write_bytes((images / "b.png").read_bytes()[:500])
    elif how == "infinite":
        (images / "b.png").unlink()
        np.save(images / "b.npy", np.full((64, 200), np.inf))
    elif how == "small":
        cv2.imwrite(str(images / "b.png"), np.zeros((31, 200), np.uint8))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no images", "own: the folder images holds no image"),
        ("no mask", "own: images without a mask: b; add the masks, or move the images to test"),
        ("no image", "own: masks without an image: b; add the images, or remove the masks"),
        ("mask of another size", "masks/b.png: is 64x199 pixels, expected 64x200, as its image"),
        ("three values", "masks/b.png: has 3 values [0, 1, 2], expected 0 and one other"),
        ("two of one name", "images/b.tif; keep one of them"),
        ("unknown extension", "images/notes.txt; convert to one of .png"),
        ("damaged", "images/b.png: cannot be read"),
        ("infinite", "images/b.npy: has 12800 infinite pixels"),
        ("small", "images/b.png: is 31x200 pixels, expected 32 or more on both sides"),
    ],
)
def test_what_is_wrong_is_named(folder, how, message):
    break_folder(folder, how)
    with pytest.raises(ValueError, match=re.escape(message)):
        load_data(config(folder))


def test_a_run_on_images_of_several_sizes_to_its_submission(folder):
    small = [word for word in TINY if not word.startswith(("data", "input"))]
    command = [*small, "data=folder", "data.root=own", "data.n_folds=2", "input.size=64", "trainer.epochs=1"]
    ended = salt(folder.parent, *command, "name=own")
    assert ended.returncode == 0, ended.stderr
    run = folder.parent / "runs" / "own"
    table = pd.read_csv(run / "oof.csv", dtype={"id": str})
    assert set(table["id"]) == set(SIZES) and table["coverage"].round(2).tolist().count(0.25) == 5
    submission = pd.read_csv(run / "submission.csv", keep_default_na=False, dtype=str)
    assert submission["id"].tolist() == [f"test_{name}" for name in SIZES]
    for name, text in submission.itertuples(index=False):
        rle.decode(text, SIZES[name.removeprefix("test_")])
    again = salt(folder.parent, *command, "name=own")  # what the data decides is not another config
    assert again.returncode == 0 and "fold 0 is finished already" in again.stdout, again.stderr


@pytest.mark.slow
def test_without_test_images_there_is_no_submission(folder):
    for path in (folder / "test").iterdir():
        path.unlink()
    (folder / "test").rmdir()
    small = [word for word in TINY if not word.startswith(("data", "input"))]
    command = [
        *small,
        "data=folder",
        "data.root=own",
        "data.n_folds=2",
        "input.size=128",
        "trainer.epochs=1",
        "trainer.batch_size=2",
    ]
    ended = salt(folder.parent, *command, "name=own")
    assert ended.returncode == 0, ended.stderr
    assert "no submission.csv, since the data has no test images" in ended.stdout
    assert not (folder.parent / "runs/own/submission.csv").exists()


def in_floats(folder):
    """Replace all images by arrays of floats."""
    for path in [*(folder / "images").iterdir(), *(folder / "test").iterdir()]:
        np.save(path.with_suffix(".npy"), cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.float32))
        path.unlink()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32])
def test_a_survey_has_one_type_of_samples(folder, dtype):
    in_floats(folder)
    survey = config(folder, "data.amplitudes.per=survey")
    wider = np.load(folder / "images" / "b.npy").astype(np.float64)
    np.save(folder / "images" / "b.npy", wider)
    assert load_data(survey).limits is not None  # floats of all widths are one type
    np.save(folder / "images" / "b.npy", wider.astype(dtype))
    with pytest.raises(ValueError, match="per=survey") as refused:
        load_data(survey)
    assert np.dtype(dtype).name in str(refused.value) and "b.npy" in str(refused.value)
    load_data(config(folder))


def test_missing_pixels_have_no_part_in_the_survey_s_range(folder):
    in_floats(folder)
    survey = [folder, "data.amplitudes.per=survey", "data.amplitudes.percentiles=[0,100]"]
    image = np.load(folder / "images" / "b.npy")
    image[:30] = np.nan
    np.save(folder / "images" / "b.npy", image)
    expected = load_data(config(*survey))
    image[:30] = -9999
    np.save(folder / "images" / "b.npy", image)
    assert load_data(config(*survey)).limits[0] == -9999
    found = load_data(config(*survey, "data.nodata=-9999"))
    assert found.limits == expected.limits and found.digest() == expected.digest()
    missing = np.isnan(np.where(image == -9999, np.nan, image))
    assert np.array_equal(found.train.missing[1], missing) and not found.train.missing[0].any()
    assert found.test.missing is None
    assert load_data(config(folder)).digest() != found.digest()


def test_a_run_finds_no_salt_where_amplitudes_are_missing(folder, tmp_path):
    in_floats(folder)
    for part, name in (("images", "b"), ("test", "test_b")):
        image = np.load(folder / part / f"{name}.npy")
        image[:, :77] = np.nan
        np.save(folder / part / f"{name}.npy", image)
    settings = [*TINY[6:], "data=folder", f"data.root={folder}", "data.n_folds=2", "input.size=64", "report=false"]
    ended = salt(tmp_path, *settings, "trainer.epochs=1", "name=a")
    assert not ended.returncode, ended.stderr
    ids, probabilities = read_probabilities(tmp_path / "runs/a/oof.npz")
    seen = dict(zip(ids, probabilities, strict=True))
    assert not seen["b"][:, :77].any() and seen["b"][:, 77:].any() and seen["a"][:, :77].any()
    ids, shares = read_probabilities(tmp_path / "runs/a/test.npz")
    seen = dict(zip(ids, shares, strict=True))
    assert not seen["test_b"][:, :77].any() and seen["test_b"][:, 77:].any() and seen["test_a"][:, :77].any()


def test_the_run_warns_of_masks_with_different_values(folder, caplog):
    load_data(config(folder))
    assert not caplog.records
    mask = cv2.imread(str(folder / "masks" / "b.png"), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(folder / "masks" / "b.png"), mask.astype(np.uint16) * 257)  # white, in 16 bits
    data = load_data(config(folder))
    assert not caplog.records
    cv2.imwrite(str(folder / "masks" / "b.png"), mask // 255 * 2)
    assert load_data(config(folder)).digest() == data.digest()
    assert len(caplog.records) == 1 and "2 (b.png), 255 (a.png)" in caplog.text


def test_the_run_warns_of_a_value_far_from_all_others(folder, caplog):
    in_floats(folder)
    image = np.load(folder / "images" / "b.npy")
    image[3, 5] = -9999
    np.save(folder / "images" / "b.npy", image)
    assert load_data(config(folder)).train.missing is None
    assert len(caplog.records) == 1 and "data.nodata=-9999" in caplog.text and "b.npy" in caplog.text


def test_a_range_goes_with_the_survey(folder):
    with pytest.raises(ValueError, match=r"data\.amplitudes: .*expected per=survey with it"):
        config(folder, "data.amplitudes.range=[-1,1]")
    survey = config(folder, "data.amplitudes.range=[-1,1]", "data.amplitudes.per=survey")
    with pytest.raises(ValueError, match=r"a\.png: .*uint8"):
        load_data(survey)
    in_floats(folder)
    assert load_data(survey).limits == (-1, 1)
    with pytest.raises(ValueError, match=r"data\.amplitudes\.percentiles: .*two ascending numbers"):
        config(folder, "data.amplitudes.percentiles=[99,1]")
