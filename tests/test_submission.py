import numpy as np
import pytest

from salt.submission import check_submission, write_submission


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
        (("123e456789", "1e9"), "ids are not those"),
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
