"""SEG-Y as training data: every accepted layout of surveys and labels, and what is refused."""

import re
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import raw_config, salt, write_folder
from helpers.segy import segy
from helpers.volumes import MADE, Volume, by_crosslines, chosen, volume, with_duplicates

from salt.commands import data as data_command
from salt.config import check_config
from salt.data.doctor import check_data
from salt.data.folds import NEVER, assign_folds
from salt.data.lines import block_folds, distances, parts_to_train
from salt.data.load import load_data
from salt.training.setup import all_labelled_tiles, training_positions

SIZES = {"inlines": range(100, 140), "crosslines": range(200, 240), "n_samples": 40}
SMALL = {"inlines": range(100, 106), "crosslines": range(200, 240), "n_samples": 40}


def config(folder, *overrides):
    return check_config(raw_config("data=segy", f"data.root={folder}", *overrides))


def truth_of(cube):
    """Salt below a surface that rises with both line numbers: I X S."""
    i, x, s = np.indices(cube.shape)
    return s > cube.shape[2] * (0.3 + 0.5 * (i + x) / sum(cube.shape[:2]))


def write_survey(folder, made, name="survey", **settings):
    """A survey whose amplitudes tell salt, and its cube of truth."""
    inlines, crosslines, cube = made.cube()
    salt_at = truth_of(cube)
    for row, (inline, crossline) in enumerate(made.places.tolist()):
        made.traces[row] = made.traces[row] + 100 * salt_at[inlines.index(inline), crosslines.index(crossline)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.sgy").write_bytes(made.content(**settings))
    (folder / "labels").mkdir(exist_ok=True)
    return salt_at


def write_label(folder, name, mask, suffix="png"):
    path = folder / "labels" / f"{name}.{suffix}"
    if suffix == "npy":
        np.save(path, mask)
    else:
        cv2.imwrite(str(path), mask.astype(np.uint8))


def label_volume(salt_at, inlines=SMALL["inlines"], crosslines=SMALL["crosslines"], value=1, **settings):
    """The traces of a label file that has all of these lines."""
    made = volume(inlines, crosslines, salt_at.shape[2], **settings)
    made.traces = salt_at.reshape(len(made.places), -1) * value
    return made


def refusal(folder, *overrides):
    """What a run says to the data, in one line."""
    with pytest.raises(ValueError) as error:
        load_data(config(folder, *overrides))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def own(tmp_path):
    """A folder with a small survey and no label yet, and its truth."""
    return tmp_path / "own", write_survey(tmp_path / "own", volume(**SMALL))


@pytest.mark.parametrize("kind", [k for k in MADE if k not in ("one sample",)])
def test_every_layout_of_a_survey_gives_its_lines(tmp_path, kind):
    made = MADE[kind]
    inlines, crosslines, cube = made.cube()
    folder = tmp_path / "own"
    (folder / "labels").mkdir(parents=True)
    (folder / "survey.sgy").write_bytes(made.content())
    mask = (np.random.default_rng(0).random(cube[1].T.shape) < 0.5) * 255
    write_label(folder, f"inline_{inlines[1]}", mask)
    np.save(folder / "labels" / f"crossline_{crosslines[0]}.npy", (cube[:, 0].T > 60).astype(np.float32))
    train = load_data(config(folder, "data.amplitudes.range=[0,121]")).train
    assert sorted(train.ids) == sorted([f"inline_{inlines[1]}", f"crossline_{crosslines[0]}"])
    for name, image, salt_at, line in zip(train.ids, train.images, train.masks, train.lines, strict=True):
        expected = cube[1].T if name.startswith("inline") else cube[:, 0].T
        there = np.isfinite(expected)
        assert image.shape == expected.shape
        assert np.array_equal(image[there], np.rint(255 / 121 * expected[there]).astype(np.uint8))
        values = mask > 0 if name.startswith("inline") else cube[:, 0].T > 60
        assert np.array_equal(salt_at, values & there)
        assert line.across.tolist() == (crosslines if name.startswith("inline") else inlines)
    holes = np.isnan(cube[1]).any() or np.isnan(cube[:, 0]).any()
    assert (train.known is not None) == bool(holes)


def test_a_label_file_of_one_line_or_of_a_part_of_the_traces(tmp_path):
    folder = tmp_path / "own"
    salt_at = write_survey(folder, volume(**SIZES))
    one = with_duplicates(volume(range(107, 109), range(205, 230), 40))
    for row, (inline, crossline) in enumerate(one.places.tolist()):
        first = row == one.places.tolist().index([inline, crossline])
        one.traces[row] = salt_at[inline - 100, crossline - 200] == first  # the second one says the opposite
    (folder / "labels" / "interpreted.sgy").write_bytes(one.content(code=8))
    line = volume((120,), SIZES["crosslines"], 40)
    line.traces = np.array([salt_at[20, crossline - 200] for _, crossline in line.places.tolist()])
    (folder / "labels" / "one.segy").write_bytes(line.content(code=3))
    train = load_data(config(folder)).train
    assert train.ids == ["inline_107", "inline_108", "inline_120"]
    for row, mask, known in zip((7, 8, 20), train.masks, train.known, strict=True):
        there = np.zeros_like(known)
        there[:, slice(5, 30) if row < 20 else slice(None)] = True
        assert np.array_equal(known, there) and np.array_equal(mask, salt_at[row].T & there)


@pytest.mark.parametrize(("code", "value"), [(1, 1), (2, -7), (3, 300), (5, 0.5), (6, 1e300), (16, 255)])
def test_a_label_file_of_the_same_geometry_has_any_type_and_order_of_traces(tmp_path, code, value):
    folder = tmp_path / "own"
    salt_at = write_survey(folder, volume(**SMALL))
    labels = label_volume(salt_at, value=value)
    (folder / "labels" / "survey.sgy").write_bytes(by_crosslines(labels).content(code=code, order="<"))
    train = load_data(config(folder)).train
    assert train.ids == [f"inline_{n}" for n in SMALL["inlines"]] and train.known is None
    assert np.array_equal(train.masks, salt_at.transpose(0, 2, 1))


def test_a_label_file_of_another_geometry_is_refused(tmp_path):
    folder = tmp_path / "own"
    salt_at = write_survey(folder, volume(**SMALL))
    path = folder / "labels" / "survey.sgy"
    path.write_bytes(label_volume(salt_at[:, :, :30]).content())
    assert refusal(folder) == f"{path}: has another geometry than {folder}/survey.sgy: 30 samples, expected 40"
    other = label_volume(salt_at)
    other.places[5] += (0, 1000)
    path.write_bytes(other.content())
    assert re.search(
        r"survey.sgy: trace 6 at inline 100, crossline 1205, which the survey does not have$", refusal(folder)
    )


def test_a_label_file_without_a_known_sample_is_none(tmp_path):
    folder = tmp_path / "own"
    salt_at = write_survey(folder, volume(**SMALL))
    labels = label_volume(salt_at, value=255)
    labels.traces[: 3 * 40] = 128
    (folder / "labels" / "mask.sgy").write_bytes(labels.content(code=16))
    train = load_data(config(folder, "data.labels.unknown=128")).train
    assert train.ids == [f"inline_{n}" for n in (103, 104, 105)] and train.known is None


@pytest.mark.parametrize("suffix", ["png", "tif", "npy"])
def test_an_image_of_each_kind_is_the_label_of_a_line(own, suffix):
    folder, salt_at = own
    write_label(folder, "inline_103", salt_at[3].T * 255, suffix)
    write_label(folder, "crossline_217", salt_at[:, 17].T, suffix)
    train = load_data(config(folder)).train
    assert train.ids == ["crossline_217", "inline_103"] and train.known is None
    for mask, expected in zip(train.masks, (salt_at[:, 17].T, salt_at[3].T), strict=True):
        assert np.array_equal(mask, expected)


@pytest.mark.parametrize(
    ("inline", "crossline"),
    [
        ("IL103", "XL217"),
        ("il_103", "xl-217"),
        ("iline 103", "Xline_217"),
        ("Inline 103", "CROSSLINE217"),
        ("survey_inline_103", "survey-XL217"),
        ("survey/IL103", "survey/crossline_217"),
    ],
)
def test_spellings_of_a_line(own, inline, crossline):
    folder, salt_at = own
    (folder / "labels" / "survey").mkdir()
    write_label(folder, inline, salt_at[3].T)
    write_label(folder, crossline, salt_at[:, 17].T)
    assert sorted(load_data(config(folder)).train.ids) == ["crossline_217", "inline_103"]


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("inline_103", (39, 40), "inline_103.png: has 39 samples x 40 traces, expected 40 samples x 40 traces"),
        ("crossline_203", (40, 5), "crossline_203.png: has 40 samples x 5 traces, expected 40 samples x 6 traces"),
        ("inline_106", (40, 40), r"inline_106.png: .*survey.sgy has no inline 106: its inlines are 100 to 105$"),
        ("crossline_7", (40, 6), r"crossline_7.png: .* has no crossline 7: its crosslines are 200 to 239$"),
        ("103", (40, 40), r"labels/103.png: .*inline_.*crossline_"),
        ("other_inline_103", (40, 40), r"labels/other_inline_103.png: its name means no line of survey; "),
    ],
)
def test_an_image_that_fits_no_line_is_refused(own, name, size, message):
    folder, _ = own
    write_label(folder, name, np.eye(*size))
    assert re.search(message, refusal(folder))


def test_two_labels_of_one_line_are_refused(own):
    folder, salt_at = own
    write_label(folder, "inline_103", salt_at[3].T)
    np.save(folder / "labels" / "IL103.npy", salt_at[3].T)
    assert (
        refusal(folder)
        == f"{folder}/labels/inline_103.png: is a second label of inline_103, beside {folder}/labels/IL103.npy"
    )
    (folder / "labels" / "IL103.npy").unlink()
    (folder / "labels" / "all.sgy").write_bytes(label_volume(salt_at).content())
    assert re.search("inline_103.png: is a second label of inline_103, beside .*all.sgy$", refusal(folder))


def test_no_label_at_all_is_refused(own):
    folder, _ = own
    assert re.match(f"{folder}/labels holds no label, expected .* inline_1203.png$", refusal(folder))
    (folder / "labels").rmdir()
    assert re.match(f"{folder}/labels holds no label", refusal(folder))
    (folder / "survey.sgy").unlink()
    assert re.match(f"data.root: there is no SEG-Y file in {folder}; expected", refusal(folder))


def test_values_that_nobody_interpreted_are_unknown(own):
    folder, salt_at = own
    mask = np.where(salt_at[3].T, 255, 0)
    mask[:, :10] = 128
    write_label(folder, "inline_103", mask)
    assert re.search(r"inline_103.png: .*has 3 values \[0, 128, 255\].*data.labels.unknown", refusal(folder))
    assert re.search(r"has the values \[255\], expected 0, 128 for salt", refusal(folder, "data.labels.salt=128"))
    with_nan = np.where(salt_at[4].T, 1.0, 0)
    with_nan[30:] = np.nan
    np.save(folder / "labels" / "inline_104.npy", with_nan)
    train = load_data(config(folder, "data.labels.unknown=128")).train
    for row, known, mask, there in zip((3, 4), train.known, train.masks, (np.s_[:, 10:], np.s_[:30]), strict=True):
        expected = np.zeros_like(known)
        expected[there] = True
        assert np.array_equal(known, expected) and np.array_equal(mask, salt_at[row].T & expected)


def test_dead_traces_and_places_without_one_are_unknown(tmp_path):
    folder, made = tmp_path / "own", chosen(volume(**SMALL), np.r_[0:125, 130:240])
    salt_at = write_survey(folder, made)
    made.headers[29] = np.where(np.arange(235) == 121, 2, 1)
    made.traces[122] = 0
    (folder / "survey.sgy").write_bytes(made.content())
    write_label(folder, "inline_103", np.ones((40, 40)))
    write_label(folder, "crossline_208", salt_at[:, 8].T)
    train = load_data(config(folder)).train
    expected = ~np.isin(np.arange(40), [1, 2, 5, 6, 7, 8, 9]) & np.ones((40, 1), bool)
    assert np.array_equal(train.known[1], expected) and np.array_equal(train.masks[1], expected)
    assert np.array_equal(train.known[0], np.arange(6) != np.full((40, 1), 3))


def test_padding_of_a_mask_volume_is_unknown(tmp_path):
    folder, places = tmp_path / "own", np.r_[0:45, 50:80, 120:240]  # without inline 102 and five traces of 101
    made = chosen(volume(**SMALL), places)
    salt_at = truth_of(np.zeros((6, 40, 40)))
    folder.mkdir()
    (folder / "labels").mkdir()
    (folder / "survey.sgy").write_bytes(made.content())
    labels = label_volume(salt_at | (np.arange(40) > 30))  # a full grid: values also where the survey has no trace
    padded = Volume(np.r_[labels.places, np.zeros((9, 2), int)], np.r_[labels.traces, np.ones((9, 40), int)])
    padded.headers[29] = np.where(np.arange(249) == 7, 2, 1)  # dead, as its header says
    padded.traces[13] = 0  # no salt at all
    (folder / "labels" / "mask.sgy").write_bytes(padded.content(code=16))
    train = load_data(config(folder)).train
    assert train.ids == [f"inline_{n}" for n in (100, 101, 103, 104, 105)]
    known = np.ones((5, 40), bool)
    known[0, 7] = known[1, 5:10] = False
    assert np.array_equal(train.known, np.repeat(known[:, None], 40, axis=1))
    expected = padded.traces[:240].reshape(6, 40, 40)[[0, 1, 3, 4, 5]].transpose(0, 2, 1)
    assert np.array_equal(train.masks, expected & train.known) and train.known[0, :, 13].all()
    found = check_data(folder)  # counts the same pixels
    assert not found.n_errors and any(fact.startswith("240 unknown pixels") for fact in found.facts)
    padded.places[-5:] = [102, 239]  # duplicates
    padded.places[:200, 0] = 102  # most traces lie where the survey has none
    (folder / "labels" / "mask.sgy").write_bytes(padded.content(code=16))
    assert re.search("trace 1 at inline 102, crossline 200, which the survey does not have$", refusal(folder))


def test_a_mask_volume_of_mostly_empty_lines_is_a_warning(own, caplog):
    folder, salt_at = own
    for n, warned in ((2, True), (3, False)):
        (folder / "labels" / "mask.sgy").write_bytes(
            label_volume(salt_at * (np.arange(6) < n)[:, None, None]).content()
        )
        caplog.clear()
        load_data(config(folder))
        assert ("mask.sgy: 4 of 6 lines have no salt at all; " in caplog.text) == warned
        assert ("data.labels.unknown" in caplog.text) == warned


@pytest.mark.parametrize("line", ["inline=102", "crossline=-33"])
def test_a_mask_painted_on_the_picture_of_a_line_is_accepted(tmp_path, line):
    bytes_of = ("--inline-byte", "25", "--crossline-byte", "233")
    made = volume(SMALL["inlines"], range(-40, 0), 40, words=(25, 233))
    made = chosen(made, np.r_[0:85, 90:240])  # five traces are missing
    salt_at = write_survey(tmp_path, made)
    drawn = salt(tmp_path, "image", "survey.sgy", line, "line.png", *bytes_of, main=data_command.main)
    assert drawn.returncode == 0, drawn.stderr
    at = (2, slice(None)) if line == "inline=102" else (slice(None), 7)
    missing, salt_here = np.isnan(made.cube()[2][at].T), salt_at[at].T
    image = cv2.imread(str(tmp_path / "line.png"), cv2.IMREAD_UNCHANGED)
    assert image.dtype == np.uint8 and not image[missing].any() and missing.any()
    mask = np.zeros_like(image)
    mask[salt_here], mask[30:] = 255, 128
    write_label(tmp_path, line.replace("=", "_"), mask)
    settings = "data.labels.unknown=128", "data.inline_byte=25", "data.crossline_byte=233"
    train = load_data(config(tmp_path, *settings)).train
    assert np.array_equal(train.images[0][~missing], image[~missing]) and len(np.unique(image)) > 50
    known = ~missing & (np.arange(40) < 30)[:, None]
    assert np.array_equal(train.known[0], known) and np.array_equal(train.masks[0], salt_here & known)


@pytest.mark.parametrize(
    ("line", "name", "message"),
    [
        ("inline=103", "survey.sgy", "OUT survey.sgy: expected a name that ends in .png"),
        ("103", "new.png", "LINE 103: expected inline=NUMBER or crossline=NUMBER"),
        ("inline=7", "new.png", "survey.sgy has no inline 7: its inlines are 100 to 105"),
    ],
)
def test_a_picture_of_no_line_is_refused(own, line, name, message):
    ended = salt(own[0], "image", "survey.sgy", line, name, main=data_command.main)
    assert ended.returncode == 1 and message in ended.stderr and not (own[0] / "new.png").exists()


def check(folder, *words):
    """What `salt-data check` ends with, and its table."""
    ended = salt(folder, "check", ".", *words, main=data_command.main)
    return ended.returncode, ended.stdout + ended.stderr


def test_the_check_lists_all_problems_of_all_labels(own):
    folder, salt_at = own
    mask = salt_at[3].T * 255
    write_label(folder, "inline_100", mask[1:])
    write_label(folder, "inline_101", np.where(np.arange(40) < 5, 128, mask))
    write_label(folder, "inline_777", mask)
    write_label(folder, "notes", mask)
    write_label(folder, "crossline_205", salt_at[:, 5].T, "jpg")
    (folder / "labels" / "inline_102.png").write_bytes(b"damaged")
    (folder / "labels" / "readme.txt").write_text("")
    write_label(folder, "XL217", salt_at[:, 17].T)
    np.save(folder / "labels" / "crossline_217.npy", salt_at[:, 17].T)
    bad = label_volume(salt_at[4:], (104, 105))
    bad.traces[0, :2] = bad.traces[50, :2] = 2, 3
    (folder / "labels" / "part.sgy").write_bytes(bad.content())
    (folder / "labels" / "text.sgy").write_text("text")
    errors = [one for one in check_data(folder).findings.values() if one.level == "error"]
    found = {n.partition("labels/")[2]: one.what for one in errors for n in one.names if "labels/" in n}
    expected = {
        "inline_100.png": "has 39 samples x 40 traces, expected 40 samples x 40 traces, as its line",
        "inline_101.png": r"has 3 values \[0, 128, 255\], expected 0 and one other; .*data.labels.unknown=128",
        "inline_102.png": "cannot be read as an image",
        "inline_777.png": "has no inline 777: its inlines are 100 to 105",
        "notes.png": "its name means no line of survey; .*inline_1203, crossline_880, IL1203 or XL880",
        "crossline_205.jpg": "is a JPEG, which changes the values of a mask; .* .sgy, .segy, .png, .tif, .tiff, .npy$",
        "readme.txt": "is no label; expected a file that ends in .sgy, .segy, .png, .tif, .tiff, .npy$",
        "crossline_217.npy": "is a second label of crossline_217, beside .*labels/XL217.png",
        "part.sgy: inline_104": "has 4 values .*data.labels.salt and data.labels.unknown",
        "part.sgy: inline_105": "has 4 values .*data.labels.salt and data.labels.unknown",
        "text.sgy": "has 4 bytes, fewer than the 3600 of SEG-Y's headers",
    }
    assert found.keys() == expected.keys()
    assert all(re.search(expected[name], what) for name, what in found.items()), found
    with pytest.raises(ValueError, match=r"labels/.*\(10 more errors: salt-data check lists them\)$"):
        load_data(config(folder))
    code, text = check(folder)
    assert code == 1 and "--unknown" in text and all(name in text for name in ("inline_100", "IL1203", "text.sgy"))


def test_the_check_takes_the_options_that_a_run_takes(tmp_path):
    folder = tmp_path / "own"
    salt_at = write_survey(folder, volume(words=(33, 57), **SMALL))
    mask = salt_at[3].T * 255
    mask[:, :10] = 128
    write_label(folder, "inline_103", mask)
    code, text = check(folder)
    assert code == 1 and "geometry cannot be derived" in text and "--inline-byte and --crossline-byte" in text
    words = ["--inline-byte", "33", "--crossline-byte", "57"]
    code, text = check(folder, *words, "--unknown", "128")
    assert code == 0 and "survey.sgy: inlines 100 to 105 in bytes 33, crosslines 200 to 239 in bytes 57" in text
    assert "400 unknown pixels" in text
    write_folder(tmp_path / "images")
    code, text = check(tmp_path / "images", *words)
    assert code == 1 and "--inline-byte and --crossline-byte: . holds no SEG-Y" in text
    (folder / "labels" / "inline_103.png").rename(folder / "labels" / "part.sgy")  # any label leads to the reason
    assert "geometry cannot be derived" in refusal(folder)


def test_several_surveys_and_lines_in_one_folder(tmp_path):
    folder = tmp_path / "own"
    first = write_survey(folder, volume(**SMALL), "north")
    second = write_survey(folder, volume(range(4000, 4006), range(7000, 7012), 40), "south")
    line = np.random.default_rng(1).normal(0, 30, (50, 33))
    (folder / "L7.sgy").write_bytes(segy(line, headers={"cdp": lambda i: i}))
    assert (
        refusal(folder)
        == f"{folder}/labels holds no label, expected a SEG-Y of the same geometry, or images such as inline_1203.png"
    )
    (folder / "labels" / "south").mkdir()
    write_label(folder, "north_inline_103", first[3].T)
    write_label(folder, "south/crossline_7004", second[:, 4].T)
    write_label(folder, "L7", line > 0)
    (folder / "labels" / "south.sgy").write_bytes(
        label_volume(second[:2], range(4000, 4002), range(7000, 7012)).content()
    )
    data = load_data(config(folder, "data.amplitudes.range=[-100,220]"))
    names = ["L7", "north_inline_103", "south_inline_4000", "south_inline_4001", "south_crossline_7004"]
    masks = [line > 0, first[3].T, second[0].T, second[1].T, second[:, 4].T]
    found = dict(zip(data.train.ids, zip(data.train.images, data.train.masks, strict=True), strict=True))
    assert sorted(found) == sorted(names)
    for name, mask in zip(names, masks, strict=True):
        assert np.array_equal(found[name][1], mask)
    assert np.array_equal(found["L7"][0], np.rint(255 * ((line.astype("f4") + 100.0) / 320).clip(0, 1)))
    write_label(folder, "inline_104", first[4].T)
    assert re.search(
        r"labels/inline_104.png: its name means no line of north, south, L7; .*survey's name", refusal(folder)
    )


def test_one_range_of_amplitudes_counts_for_the_survey(tmp_path):
    folder, made = tmp_path / "own", volume(**SMALL)
    made.traces = made.traces * np.linspace(0.1, 5, 240)[:, None]  # the labelled line is weak
    salt_at = write_survey(folder, made)
    write_label(folder, "inline_100", salt_at[0].T)
    write_label(folder, "inline_101", salt_at[1].T)
    data = load_data(config(folder, "data.amplitudes.percentiles=[2,98]"))
    cube = made.cube()[2]
    assert data.limits == pytest.approx(np.percentile(cube, [2, 98]), rel=0.03)
    low, high = data.limits
    scaled = np.rint(255 * ((cube[:2].transpose(0, 2, 1).astype("f4") - low) / (high - low)).clip(0, 1))
    assert np.abs(data.train.images - scaled).max() <= 1
    alone = load_data(config(folder, "data.amplitudes.per=image"))
    assert alone.limits is None and alone.train.images.max() == 255 > data.train.images.max()


def test_the_bytes_of_line_numbers(tmp_path):
    folder = tmp_path / "own"
    salt_at = write_survey(folder, volume(words=(33, 57), **SMALL))
    write_label(folder, "inline_103", salt_at[3].T)
    (folder / "labels" / "part.sgy").write_bytes(label_volume(salt_at[4:5], (104,), words=(33, 57)).content())
    tried = "189/193, 9/21, 5/21, 17/21, 221/21, 17/13, 9/13"
    assert re.search(
        f"survey.sgy: geometry cannot be derived: tried .* bytes {tried}; .*data.inline_byte", refusal(folder)
    )
    words = ["data.inline_byte=33", "data.crossline_byte=57"]
    train = load_data(config(folder, *words)).train
    assert train.ids == ["inline_103", "inline_104"] and np.array_equal(train.masks, salt_at[3:5].transpose(0, 2, 1))
    assert re.search("data.inline_byte and data.crossline_byte: name both", refusal(folder, words[0]))
    assert re.search(
        "data.crossline_byte=400: expected .* 1 to 237", refusal(folder, words[0], "data.crossline_byte=400")
    )
    wrong = refusal(folder, "data.inline_byte=37", words[1])
    assert re.search(r"survey.sgy: geometry .* data.inline_byte=37 \(1 different number\)", wrong)


def test_gathers_before_the_stack_are_refused(tmp_path):
    places = [(i, x) for i in SMALL["inlines"] for x in SMALL["crosslines"] for _ in range(3)]
    made = Volume(np.array(places), np.ones((720, 40)), {37: np.tile([100, 200, 300], 240)})
    (tmp_path / "survey.sgy").write_bytes(made.content())
    assert re.search(
        "survey.sgy: inline 100, crossline 200 has 3 traces, as gathers have, expected one", refusal(tmp_path)
    )


def fold_of(folder, number, *overrides):
    """The folds by line, and the traces of each line that train this fold, after the run's own steps."""
    settings = config(folder, *overrides)
    data = load_data(settings)
    folds = assign_folds(settings, data.train)
    job = SimpleNamespace(data=data, folds=folds, config=settings)
    tiles = all_labelled_tiles(job, number)
    trained = training_positions(job, number, tiles)
    known = [tiles.known[i].all(axis=0) if tiles.known is not None else np.ones(40, bool) for i in trained]
    return dict(zip(data.train.ids, folds.tolist(), strict=True)), dict(
        zip([tiles.ids[i] for i in trained], known, strict=True)
    )


@pytest.fixture
def crossing(tmp_path):
    """Six interpreted inlines and a crossline."""
    folder = tmp_path / "own"
    salt_at = write_survey(folder, volume(**SIZES))
    for number in INLINES:
        write_label(folder, f"inline_{number}", salt_at[number - 100].T)
    write_label(folder, "crossline_220", salt_at[:, 20].T)
    return folder


INLINES = (102, 104, 110, 119, 125, 139)


def test_folds_are_blocks_of_lines_and_what_is_near_to_them_does_not_train(crossing):
    words = ["data.n_folds=2", "data.gap=6"]
    folds, trained = fold_of(crossing, 0, *words)
    assert [folds[f"inline_{n}"] for n in INLINES] == [1, 1, 1, 0, 0, 0] and folds["crossline_220"] == 0
    assert sorted(trained) == ["inline_102", "inline_104", "inline_110"]
    assert all(np.array_equal(part, np.abs(np.arange(200, 240) - 220) > 6) for part in trained.values())
    _, trained = fold_of(crossing, 1, *words)
    assert sorted(trained) == ["crossline_220", "inline_119", "inline_125", "inline_139"]
    assert np.array_equal(trained.pop("crossline_220"), np.arange(100, 140) > 110 + 6)
    assert all(part.all() for part in trained.values())
    _, trained = fold_of(crossing, 0, "data.n_folds=2", "data.gap=9")
    assert sorted(trained) == ["inline_102", "inline_104"]  # 110 lies 9 numbers from 119
    with pytest.raises(ValueError, match=r"data.gap=40 leaves fold 0 no line to train on; expected a smaller gap"):
        fold_of(crossing, 0, "data.n_folds=2", "data.gap=40")
    with pytest.raises(ValueError, match=r"data.n_folds=8 is more than the 7 interpreted lines; data.n_folds=1"):
        fold_of(crossing, 0, "data.n_folds=8")


def test_distances_of_held_out_lines(crossing):
    settings = config(crossing, "data.n_folds=2", "data.gap=6")
    train = load_data(settings).train
    apart = dict(zip(train.ids, distances(train.lines, assign_folds(settings, train), 6).tolist(), strict=True))
    # the crossline trains from trace 117 on, the first three inlines 7 traces from the crossline
    near = {102: 15, 104: 13, 110: 7, 119: 9, 125: 15, 139: 29}
    assert apart == {f"inline_{number}": distance for number, distance in near.items()} | {"crossline_220": 7}


def lines_that_train(folder, out, gap):
    """Which traces of the other lines train if the lines `out` are held out, by line."""
    train = load_data(config(folder)).train
    held_out = np.array([name in out for name in train.ids])
    parts = parts_to_train(train.lines, held_out, gap)
    return {name: part.tolist() for name, part in zip(train.ids, parts, strict=True) if name not in out}


def test_surveys_that_adjoin_or_overlap_are_one_for_the_folds(tmp_path):
    folder, whole = tmp_path / "own", volume(range(100, 112), range(200, 240), 40)
    inline, crossline = whole.places.T
    parts = {"a": (inline < 106) & (crossline < 220), "b": inline >= 106, "c": (inline < 107) & (crossline >= 220)}
    for name, rows in parts.items():
        write_survey(folder, chosen(whole, np.flatnonzero(rows)), name)
    for name, size in {"a_inline_105": 20, "b_inline_106": 40, "b_inline_111": 40, "c_inline_106": 20}.items():
        write_label(folder, name, np.eye(40, size))
    write_label(folder, "a_crossline_219", np.eye(40, 6))
    write_label(folder, "c_crossline_220", np.eye(40, 7))
    found = lines_that_train(folder, {"b_inline_106"}, 2)
    assert not any(found["a_inline_105"]) and not any(found["c_inline_106"]) and all(found["b_inline_111"])
    assert found["a_crossline_219"] == [True] * 4 + [False] * 2 == [*found["c_crossline_220"][:6]]
    found = lines_that_train(folder, {"a_crossline_219"}, 2)
    assert not any(found["c_crossline_220"]) and found["c_inline_106"] == [False] * 2 + [True] * 18


def test_surveys_that_touch_through_others_are_one_for_the_folds(tmp_path):
    folder = tmp_path / "own"
    for name, first in {
        "a": 3000,
        "b": 1000,
        "c": 2000,
        "far": 9000,
    }.items():  # a and b do not touch, but c touches both
        write_survey(folder, volume(range(first, first + 6), range(200, 210), 40), name)
        write_label(folder, f"{name}_inline_{first + 3}", np.eye(40, 10))
    surveys = [line.survey for line in load_data(config(folder)).train.lines]
    assert len(set(surveys[:3])) == 1 and surveys[3] == "far"
    with pytest.raises(ValueError, match=r"data.gap.* 1000"):  # it must not be more than how far surveys touch
        config(folder, "data.gap=1001")


def line_file(folder, name, number, *, direction="inline", first=200, n=40):
    """A file of one line, whose headers say which, and its label."""
    other = "crossline" if direction == "inline" else "inline"
    headers = {direction: lambda i: number, other: lambda i: first + i, "cdp": lambda i: 1 + i}
    image = np.random.default_rng(number).normal(0, 30, (40, n))
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.sgy").write_bytes(segy(image, headers=headers))
    write_label(folder, name, image > 0)


@pytest.mark.parametrize("beside", [True, False])
def test_files_of_one_line_of_a_survey_lie_where_their_headers_say(tmp_path, beside):
    folder = tmp_path / "own"
    if beside:  # the lines are lines of this survey, too
        salt_at = write_survey(folder, volume(**SIZES))
        write_label(folder, "IL105", salt_at[5].T)
    for name, number in {"first": 100, "second": 104, "third": 115}.items():
        line_file(folder, name, number)
    line_file(folder, "across", 220, direction="crossline", first=100, n=20)
    found = lines_that_train(folder, {"second"}, 4)
    assert not any(found["first"]) and all(found["third"]) and not any(found.get("inline_105", ""))
    assert found["across"] == [abs(n - 104) > 4 for n in range(100, 120)]
    assert lines_that_train(folder, {"across"}, 4)["first"] == [abs(n - 220) > 4 for n in range(200, 240)]
    settings = config(folder, "data.n_folds=2")
    train = load_data(settings).train
    assert np.array_equal(assign_folds(settings, train), block_folds(train.lines, 2))


def test_a_line_that_runs_obliquely_through_a_survey_is_in_no_fold(tmp_path):
    folder = tmp_path / "own"
    salt_at = write_survey(folder, volume(**SIZES))
    write_label(folder, "inline_103", salt_at[3].T)
    for name, first in (("oblique", 100), ("elsewhere", 110)):  # the second leaves the survey: another one's line
        headers = {"inline": lambda i, first=first: first + i, "crossline": lambda i: 239 - i}
        (folder / f"{name}.sgy").write_bytes(segy(np.ones((40, 40)) * np.arange(40), headers=headers))
    write_label(folder, "elsewhere", np.eye(40))
    fold_of(folder, 0, "data.n_folds=2")
    write_label(folder, "oblique", np.eye(40))
    with pytest.raises(ValueError, match=r"^oblique runs obliquely through a survey .* \(data.n_folds=1\)$"):
        fold_of(folder, 0, "data.n_folds=2")
    assert len(fold_of(folder, 0, "data.n_folds=1")[1]) == 3


def test_numbers_that_do_not_tell_lines_apart_mean_nothing(tmp_path):
    for name in ("L1", "L2", "L3"):
        line_file(tmp_path, name, 1)
    assert load_data(config(tmp_path)).train.lines is None
    (tmp_path / "L1.segy").write_bytes((tmp_path / "L1.sgy").read_bytes())
    assert re.search("L1.sgy: another SEG-Y file of this folder has the same name; rename one$", refusal(tmp_path))


def test_one_fold_trains_on_all_lines(crossing):
    folds, trained = fold_of(crossing, 0, "data.n_folds=1")
    assert set(folds.values()) == {NEVER} and len(trained) == 7 and all(part.all() for part in trained.values())
    with pytest.raises(ValueError, match=r"data.folds=lines: data.n_folds=1 holds no image out, expected null"):
        fold_of(crossing, 0, "data.n_folds=1", "data.folds=lines")
