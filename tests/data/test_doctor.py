"""The check of a data folder: every kind of problem is found, all at once, and sound data has none."""

import re
import zipfile
from collections import Counter

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import SIZES, salt, write_folder

from salt.commands import data as command
from salt.data import rle
from salt.data.doctor import check_data as check
from salt.data.doctor import checkup_report, most_often


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "own")


def errors(folder):
    return {f.what: f.names for f in check(folder).findings.values() if f.level == "error"}


def save(path, pixels):
    cv2.imwrite(str(path), pixels)


def test_sound_data_has_no_error(folder, synthetic_root):
    assert not errors(folder) and not errors(synthetic_root)
    found = check(synthetic_root)
    assert found.facts[0] == "train: 24 images; pixels 101x101 (24); types uint8 (24)"
    assert sum(int(n) for n in re.findall(r" (\d+)(?:,|$)", found.facts[1])) == 24
    assert found.facts[2] == "test: 6 images; pixels 101x101 (6); types uint8 (6)"


def test_all_problems_at_once(folder):
    images, masks = folder / "images", folder / "masks"
    save(images / "lonely.png", np.arange(1600, dtype=np.uint8).reshape(40, 40))
    save(masks / "nobody.png", np.zeros((40, 40), np.uint8))
    save(masks / "b.png", np.zeros((64, 199), np.uint8))
    save(masks / "c.png", np.arange(230 * 150, dtype=np.uint8).reshape(230, 150) % 3)
    save(images / "a.png", np.full((101, 101), 5, np.uint8))
    (images / "e.png").write_bytes((images / "e.png").read_bytes()[:300])
    save(images / "f.tif", np.zeros((40, 40), np.uint8))
    (masks / "notes.txt").write_text("")
    found = check(folder)
    table = {finding.what.partition("; ")[0]: (finding.level, finding.names) for finding in found.findings.values()}
    (damaged,) = [what for what in table if what.startswith("images: cannot be read")]
    assert table.pop(damaged) == ("error", ["e"])
    assert table == {
        "unknown extension": ("error", [str(masks / "notes.txt")]),
        "two files of one name": ("error", [str(images / "f.tif")]),
        "images without a mask": ("error", ["lonely"]),
        "masks without an image": ("error", ["nobody"]),
        "mask has 3 values [0, 1, 2], expected 0 and one other": ("error", ["c"]),
        "masks of another size than their image": ("error", ["b"]),
        "images of one grey value": ("warning", ["a"]),
    }
    assert found.n_errors == 7 and "export it again" in checkup_report(found)


def test_odd_masks_and_doubles_are_warnings(folder):
    column, tiny = np.zeros((2, 101, 101), np.uint8)
    column[:, 30:50] = 255
    tiny[4:7, 4:7] = 255
    save(folder / "masks" / "a.png", column)
    save(folder / "masks" / "d.png", tiny)
    (folder / "images" / "z.png").write_bytes((folder / "images" / "a.png").read_bytes())
    save(folder / "masks" / "z.png", np.full((101, 101), 255, np.uint8))
    found = check(folder)
    assert not found.n_errors
    assert {finding.what: finding.names for finding in found.findings.values()} == {
        "masks of whole columns": ["a"],
        "masks of fewer than 10 pixels": ["d"],
        "the same image more than once": ["a", "z"],
    }


def warnings(folder, **options):
    return {f.what: f.names for f in check(folder, **options).findings.values() if f.level == "warning"}


def test_masks_of_different_values_are_a_warning(folder):
    for name, value in {"a": 1, "b": 2, "c": 1}.items():
        mask = cv2.imread(str(folder / "masks" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        save(folder / "masks" / f"{name}.png", mask // 255 * value)
    (names,) = warnings(folder).values()
    assert names == ["a", "b", "e"]  # one of each value


def test_missing_pixels_are_counted(folder):
    image = np.random.default_rng(0).normal(size=(101, 101))
    image[:2, :50] = np.nan
    (folder / "images" / "a.png").unlink()
    np.save(folder / "images" / "a.npy", image)
    image = image.astype(np.float32)
    image[:2] = -9999
    (folder / "images" / "d.png").unlink()
    np.save(folder / "images" / "d.npy", image)
    (folder / "images" / "e.png").unlink()
    np.save(folder / "images" / "e.npy", np.full((40, 40), np.nan))
    n_all = sum(height * width for height, width in SIZES.values())
    found = check(folder)
    assert f"train: {100 + 1600} missing pixels ({1700 / n_all:.2%})" in found.facts
    kinds = [[], ["a"], ["d (-9999)"], ["d"], ["e"]]  # several types, some missing, far away, flat, all missing
    assert list(warnings(folder).values()) == kinds
    assert f"train: {202 + 1700} missing pixels ({1902 / n_all:.2%})" in check(folder, nodata=-9999).facts
    assert list(warnings(folder, nodata=-9999).values()) == [[], ["a", "d"], ["e"]]


def test_tables(folder):
    names = ["a", "b", "c", "d", "e", "other"]
    masks = [cv2.imread(str(folder / "masks" / f"{name}.png"), cv2.IMREAD_UNCHANGED) for name in "abcde"]
    runs = [rle.encode(mask) for mask in masks]
    pd.DataFrame({"id": names, "rle_mask": [runs[0], "1 1", "0 1", *runs[3:], ""]}).to_csv(
        folder / "train.csv", index=False
    )
    (folder / "depths.csv").write_text("id,depth\na,1\n")
    found = errors(folder)
    assert found.pop("ids of train.csv without an image") == ["other"]
    assert found.pop("images that are not in train.csv") == ["f"]
    assert found.pop("masks that differ from their rle_mask") == ["b"]
    (what, names), (table, _) = found.items() if "rle_mask" in next(iter(found)) else reversed(found.items())
    assert what.startswith("rle_mask: run '0 1' is outside") and names == ["c"]
    assert "depths.csv: expected the columns id,z, found id,depth" in table


def test_what_a_run_would_refuse_is_an_error(folder, tmp_path):
    (folder / "depths.csv").write_text("id,z\na,1\nb,2\n")
    (folder / "folds.csv").write_text("id,fold\na,0\nb,1\nnobody,1\n")
    (folder / "test").mkdir(exist_ok=True)
    for file in (folder / "test").iterdir():
        file.unlink()
    found = errors(folder)
    others = sorted({file.stem for file in (folder / "images").iterdir()} - {"a", "b"})
    assert found == {
        "images without a depth in depths.csv": others,
        "ids of folds.csv are not those of images": sorted([*others, "nobody"]),
        "the folder test holds no image": [],
    }
    for name in ("images", "masks"):
        (tmp_path / "empty" / name).mkdir(parents=True)
    assert errors(tmp_path / "empty") == {"the folder images holds no image": []}
    with pytest.raises(ValueError, match=r"holds no data set, expected the folders images and masks, .*or Kaggle's"):
        check(tmp_path / "empty" / "images")


def test_kinds_beyond_the_most_frequent_are_counted_together():
    assert most_often(Counter(a=5, b=4, c=3, d=2, e=1)) == "a (5), b (4), c (3) and others (3)"
    assert most_often(Counter(a=1)) == "a (1)" and most_often(Counter()) == "none"


def test_kaggles_layout(synthetic_root, tmp_path):
    with zipfile.ZipFile(synthetic_root / "train.zip") as archive:
        archive.extractall(tmp_path / "train")
    with zipfile.ZipFile(synthetic_root / "test.zip") as archive:
        archive.extractall(tmp_path / "test")
    for name in ("train.csv", "depths.csv", "sample_submission.csv"):
        (tmp_path / name).write_bytes((synthetic_root / name).read_bytes())
    first, second, third = sorted((tmp_path / "train" / "images").iterdir())[:3]
    first.unlink()
    save(second, np.arange(100 * 101, dtype=np.uint8).reshape(100, 101))
    save(third, np.arange(101 * 101, dtype=np.uint16).reshape(101, 101))
    table = pd.read_csv(tmp_path / "depths.csv", dtype=str)
    table[table["id"] != third.stem].to_csv(tmp_path / "depths.csv", index=False)
    found = errors(tmp_path)
    assert found == {
        "train: images without a depth in depths.csv": [third.stem],
        "train: masks without an image": [first.stem],
        "train: ids of train.csv without an image": [first.stem],
        "tiles of another size or type": [second.stem, third.stem],
        "masks of another size than their image": [second.stem],
    }


def test_the_command_ends_with_its_exit_code(folder, tmp_path):
    sound = salt(tmp_path, "check", folder, main=command.main)
    assert sound.returncode == 0 and "no problem found" in sound.stdout
    (folder / "masks" / "a.png").unlink()
    ended = salt(tmp_path, "check", folder, main=command.main)
    assert ended.returncode == 1 and "images without a mask" in ended.stdout and not ended.stderr.startswith("Trace")
    nothing = salt(tmp_path, "check", tmp_path / "nowhere", main=command.main)
    assert nothing.returncode == 1 and "salt-data: there is no " in nothing.stderr
