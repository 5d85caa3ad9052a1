"""The program that writes docs/mechanisms.md: which times it keeps, and what it counts."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import mechanisms

PAGE = """# Mechanisms

The times were measured by it on a slow machine, 2 threads.
The baseline: 1.0 M parameters, 0.44 s for 16 tiles.

## attention

| option | what it is | formula | paper | parameters | multiply-adds | step |
| --- | --- | --- | --- | --- | --- | --- |
| `cse` | A gate. | x \\| y | none | 14.8 M | 1.32 G |  |
| `sse` | A gate. |  | none | 14.3 M | 1.32 G | 1.06 |

## center

| option | what it is | formula | paper | parameters | multiply-adds | step |
| --- | --- | --- | --- | --- | --- | --- |
| `cse` | Of the same name. |  | none | 14.8 M | 1.32 G | 1.50* |
"""


@pytest.fixture
def measured(monkeypatch):
    """The overrides whose steps were measured."""
    seen = []
    monkeypatch.setattr(mechanisms, "prepare", lambda overrides: overrides)
    monkeypatch.setattr(mechanisms, "baseline", lambda base: list(base))
    monkeypatch.setattr(mechanisms, "compare", lambda step, base: seen.append((step, base)) or (1.234, 0.5))
    return seen


def test_only_rows_without_a_time_are_measured_and_get_a_star(measured):
    times = mechanisms.Times(PAGE)
    assert times.relative("attention", "`sse`", ["attention=sse"], []) == "1.06"
    assert times.relative("center", "`cse`", ["center=cse"], []) == "1.50*" and not measured
    assert times.relative("attention", "`cse`", ["attention=cse"], ["decoder=gcn"]) == "1.23*"
    assert measured == [(["decoder=gcn", "attention=cse"], ["decoder=gcn"])]
    text = times.text(["| `cse` | 1.23* |"])
    assert "on a slow machine, 2 threads." in text and "0.44 s for 16 tiles" in text and "\nA star: " in text
    assert "A star: " not in times.text(["| `sse` | 1.06 |"])


def test_a_new_page_has_measured_times_alone(measured):
    times = mechanisms.Times("")
    assert times.relative("attention", "`sse`", ["attention=sse"], []) == "1.23"
    assert "0.50 s for 16 tiles" in times.text(["| `sse` | 1.23 |"]) and len(measured) == 1


def test_parameters_and_multiply_adds_of_a_hypercolumn():
    plain, full, small = (
        mechanisms.count([*mechanisms.RECIPE, *more])
        for more in ([], ["hypercolumn=concat"], ["hypercolumn=concat", "hypercolumn.project=16"])
    )
    channels, sides = (128, 64, 32, 16, 16), (7, 13, 26, 52, 104)
    head = 9 * 16  # the 3x3 classifier that a hypercolumn replaces
    convolution = 9 * sum(channels) * 64 + 64
    assert full[0] - plain[0] == convolution + 2 * 64 + 1 - (head + 1)
    assert full[1] - plain[1] == (convolution - head) * 104**2
    projections = sum(c * 16 * side**2 for c, side in zip(channels, sides, strict=True))
    assert small[1] - plain[1] == projections + (9 * 5 * 16 * 64 + 64 - head) * 104**2
