"""The comparison with a truth: which voxels count, and how far lines are from interpreted ones."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import raw_config
from helpers.volumes import chosen, volume

from salt.config import check_config
from salt.data.amplitudes import Scaling
from salt.data.load import load_data
from salt.inference import truth
from salt.inference.truth import by_distance, score_truth

INLINES, CROSSLINES = range(10, 18), range(20, 29)


@pytest.fixture
def surveyed(tmp_path, monkeypatch):
    """A survey, its truth as a volume, and what compares them; salt is predicted where the amplitude is above 60."""
    made = volume(INLINES, CROSSLINES, 40)
    made.traces[3 * 9 + 4] = 0  # dead: inline 13, crossline 24
    (tmp_path / "survey.sgy").write_bytes(made.content())
    (tmp_path / "labels").mkdir()
    for name, size in (("inline_11", (40, 9)), ("crossline_22", (40, 8))):
        cv2.imwrite(str(tmp_path / f"labels/{name}.png"), np.eye(*size, dtype=np.uint8))
    answers = volume(INLINES, CROSSLINES, 40)
    answers.traces = np.random.default_rng(2).choice([0, 7], answers.traces.shape)
    monkeypatch.setattr(truth, "load_data_of_run", lambda directory, config, root: load_data(config))

    def compare(answers, *words, **settings):
        file = tmp_path / "truth.sgy.answers"
        file.write_bytes(answers.content(**settings))
        config = check_config(raw_config("data=segy", f"data.root={tmp_path}", "data.amplitudes.range=[0,255]", *words))
        model = SimpleNamespace(ensemble=SimpleNamespace(first=SimpleNamespace(config=config, directory=None)))
        model.scaling, model.threshold = Scaling.of(config.data), 60.5 / 255
        model.predict_grey = lambda greys: SimpleNamespace(mean=np.stack([grey.levels for grey in greys]) / 255)
        return score_truth(model, file)

    return compare, made.traces.reshape(8, 9, 40), answers


def expected(amplitudes, answers, known):
    """Counts of true, found and common salt of the inlines without a label, voxel by voxel."""
    rows = []
    for row in (0, 2, 3, 4, 5, 6, 7):
        counts = np.zeros(3, int)
        for column in range(9):
            for sample in range(40):
                if column == 2 or (row, column) == (3, 4) or not known[row, column, sample]:
                    continue  # interpreted, dead or unknown
                right, found = answers[row, column, sample] == 7, amplitudes[row, column, sample] > 60
                counts += (right, found, right and found)
        rows.append(counts.tolist())
    return rows


def test_known_voxels_of_lines_without_a_label_count(surveyed):
    compare, amplitudes, answers = surveyed
    table = compare(answers, code=16)
    assert table["inline"].tolist() == [10, 12, 13, 14, 15, 16, 17]
    assert table["distance"].tolist() == [1, 1, 2, 3, 4, 5, 6]
    cube = answers.traces.reshape(8, 9, 40)
    counts = expected(amplitudes, cube, np.ones_like(cube))
    assert table[["salt", "found", "common"]].to_numpy().tolist() == counts
    assert table["iou"].tolist() == [common / (right + found - common) for right, found, common in counts]
    pooled = by_distance(table).set_index("distance")["iou"]
    right, found, common = np.sum(counts, axis=0)
    assert pooled["all"] == common / (right + found - common)
    right, found, common = np.sum(counts[:3], axis=0)
    assert pooled["0 to 2"] == common / (right + found - common)


def test_unknown_voxels_of_the_truth_do_not_count(surveyed):
    compare, amplitudes, answers = surveyed
    answers.traces = answers.traces.astype(float)
    cube = answers.traces.reshape(8, 9, 40)
    cube[0, 3:5, 10:] = 128
    cube[2, :, ::3] = np.nan
    answers.headers[29] = np.where(np.arange(72) == 4 * 9 + 1, 2, 1)  # dead: inline 14, crossline 21
    known = (cube != 128) & ~np.isnan(cube)
    known[4, 1] = known[5, 5] = False
    without = chosen(answers, np.flatnonzero(np.arange(72) != 5 * 9 + 5))  # no trace: inline 15, crossline 25
    table = compare(without, "data.labels.unknown=128", "data.labels.salt=1")
    assert table[["salt", "found", "common"]].to_numpy().tolist() == expected(amplitudes, cube, known)
    with pytest.raises(
        ValueError, match=r"^--truth .*: inline 10 has 3 values \[0.0, 7.0, 128.0\], expected 0 and one"
    ):
        compare(answers)


def test_a_truth_of_other_lines_is_refused(surveyed):
    compare, _, _ = surveyed
    for other in (volume(INLINES, CROSSLINES, 39), volume(range(9, 17), CROSSLINES, 40)):
        with pytest.raises(
            ValueError, match=r"has other lines or samples than .*survey.sgy, expected the same geometry"
        ):
            compare(other)
