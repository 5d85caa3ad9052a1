"""SEG-Y as training data: every accepted layout of surveys and labels, and what is refused."""

import cv2
import numpy as np
import pytest
from conftest import raw_config
from helpers.volumes import MADE, volume, with_duplicates

from salt.config import check_config
from salt.data.load import load_data

SIZES = {"inlines": range(100, 140), "crosslines": range(200, 240), "n_samples": 40}


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


def write_label(folder, name, mask):
    cv2.imwrite(str(folder / "labels" / f"{name}.png"), mask.astype(np.uint8))


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
