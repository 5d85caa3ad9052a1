"""The program that measures options: what it counts, and which rows of the table it replaces."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import costs
import option_files


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A table of costs with two rows; steps take a made-up time."""
    file = tmp_path / "costs.csv"
    rows = [("center", "fpa", "1.0", "2.00", "1.10", "", "old"), ("loss", "bce", "1.0", "2.00", "1.00", "", "old")]
    option_files.write_costs({row[:2]: option_files.Cost(*row) for row in rows}, file)
    monkeypatch.setattr(costs, "read_costs", lambda: option_files.read_costs(file))
    monkeypatch.setattr(costs, "write_costs", lambda table: option_files.write_costs(table, file))
    monkeypatch.setattr(costs, "compare", lambda step, baseline: (1.234, 0.567))
    return file


def test_measuring_one_option_replaces_its_row_alone(table, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["costs.py", "center/dblock"])
    costs.main()
    before, row, after = (
        option_files.read_costs(table)[key] for key in (("center", "fpa"), ("center", "dblock"), ("loss", "bce"))
    )
    assert (before.machine, after.machine) == ("old", "old")
    assert (row.parameters, row.step, row.seconds) == ("21.4", "1.23", "0.57") and "torch" in row.machine


@pytest.mark.parametrize("option", ["center/nothing", "fpa", "encoder/none"])
def test_what_cannot_be_measured_changes_nothing(table, monkeypatch, option, capsys):
    before = table.read_bytes()
    monkeypatch.setattr(sys, "argv", ["costs.py", option])
    if option == "encoder/none":
        costs.main()
    else:
        with pytest.raises(SystemExit, match=option):
            costs.main()
    assert table.read_bytes() == before


def test_parameters_and_multiply_adds_of_a_hypercolumn():
    plain, full, small = (
        costs.count([*costs.RECIPE, *more])
        for more in ([], ["hypercolumn=concat"], ["hypercolumn=concat", "hypercolumn.project=16"])
    )
    channels, sides = (128, 64, 32, 16, 16), (7, 13, 26, 52, 104)
    head = 9 * 16  # the 3x3 classifier that a hypercolumn replaces
    convolution = 9 * sum(channels) * 64 + 64
    assert full[0] - plain[0] == convolution + 2 * 64 + 1 - (head + 1)
    assert full[1] - plain[1] == (convolution - head) * 104**2
    projections = sum(c * 16 * side**2 for c, side in zip(channels, sides, strict=True))
    assert small[1] - plain[1] == projections + (9 * 5 * 16 * 64 + 64 - head) * 104**2
