"""The record of what results depend on, when several processes write it."""

import pytest

from salt.inference import claims
from salt.inference.claims import record_results
from salt.runs.files import read_json

MADE = {"precision": "float32", "engine": "torch", "device": "cpu"}


@pytest.mark.parametrize(
    ("facts", "made", "message"),
    [
        ({"mean": "geometric"}, MADE, "made with another --mean"),
        ({"survey": "b"}, MADE, "of another survey of this name"),
        ({"threshold": 0.4}, MADE, "of another run"),
        ({}, MADE | {"engine": "openvino"}, "engine torch, not openvino"),
    ],
)
def test_of_processes_that_start_together_the_second_one_compares_and_refuses(
    tmp_path, monkeypatch, facts, made, message
):
    record, first = tmp_path / "cube_survey.json", {"mean": "arithmetic", "threshold": 0.5, "survey": "a"}

    def write_after_another(*arguments):
        monkeypatch.undo()
        record_results(record, first, MADE)  # between the second one's look and its write
        claims.write_json(*arguments)

    monkeypatch.setattr(claims, "write_json", write_after_another)
    with pytest.raises(ValueError, match=message):
        record_results(record, first | facts, made)
    assert read_json(record) == first | {"made_with": {"precision": "float32", "engine": "torch"}}
    record_results(record, first, MADE)
