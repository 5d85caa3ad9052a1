"""The benchmark program at a toy size: every row measures, agrees with the usual kernels, and reaches the page."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import bench
import bench_page
import bench_prediction
import bench_runs
import bench_setup
import bench_training

from salt.data.tgs import read_dataset

TOY = [*bench_setup.SMALL, "loss=lovasz", "encoder.weights=null", "trainer.device=cpu", "trainer.precision=bf16"]


@pytest.fixture(scope="module")
def toy(synthetic_root):
    return bench_setup.Bench(
        data=read_dataset(synthetic_root),
        root=synthetic_root,
        network=TOY,
        batch_size=4,
        steps=2,
        rounds=1,
        masks=40,
        grown=(24,),
    )


@pytest.fixture
def watched(monkeypatch):
    """Commands that would train are only noted."""
    commands = []
    figures = {"seconds": 2.0, "gigabytes": 1.0}
    for module in (bench_runs, bench_training):
        monkeypatch.setattr(module, "watched", lambda command, folder: (commands.append(command), figures)[1])
    return commands


@pytest.mark.slow
def test_every_row_reaches_the_page(toy, watched, monkeypatch):
    monkeypatch.setattr(
        bench_training, "prepare", lambda b, *o, own=bench_training.prepare: own(b)
    )  # eager, compiling takes a minute
    monkeypatch.setattr(bench.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(bench_prediction, "LINE", (120, 250))
    monkeypatch.setattr(bench_runs, "LONG_LINE", (20, 30))
    rows = {}
    for measure in bench.ROWS.values():
        rows |= measure(toy)
    assert set(bench_page.LINES) - set(rows) <= {"line_monai"}  # which Salt does not install
    for name, row in rows.items():
        assert all(value > 0 for key, value in row.items() if key in ("seconds", "compared_seconds", "ratio")), name
        assert ("met" in row) == ("target" in row)
    runtime = bench.choose_runtime(bench.composed(TOY).trainer)
    content = {"rows": rows, "machine": bench.machine(runtime), "tiles": ["generated", 24]}
    text = bench_page.page(json.loads(json.dumps(content)))
    assert "No GPU" in text and "nan" not in text and text.count("\n| ") >= len(bench_page.LINES)
    assert sorted(o for c in watched for o in c if o.startswith("data.n_folds")) == [
        f"data.n_folds={n}" for n in (2, 2, 4, 5)
    ]


def test_where_bfloat16_is_emulated_the_script_has_one_batch_of_it(toy, monkeypatch):
    sizes = []
    script = bench_training.plain.PlainTraining

    def counted(tiles, positions, *rest):
        sizes.append((len(positions), rest[-1]))
        return script(tiles, positions, *rest)

    monkeypatch.setattr(bench_training.plain, "PlainTraining", counted)
    single = dataclasses.replace(toy, network=[*TOY, "trainer.precision=fp32"])
    row = bench_training.autocast(single)["training_autocast"]
    assert sizes == [(4, True)] and row["rounds"] == 1 and row["ratio"] > 0


def test_targets_are_judged_in_their_direction():
    assert (
        bench_setup.judged({"ratio": 3.0}, "ratio", 3)["met"]
        and not bench_setup.judged({"ratio": 2.9}, "ratio", 3)["met"]
    )
    row = bench_setup.judged({"seconds": 4.1}, "seconds", 4, at_least=False)
    assert not row["met"] and row["target"] == "≤ 4"


def test_sides_are_measured_in_turn_and_ratios_are_medians_of_pairs(monkeypatch):
    order = []
    clock = iter(np.cumsum([0, 9, 0, 1, 0, 2, 0, 3, 0, 12, 0, 1, 0, 3]).tolist())  # the first pair does not count
    monkeypatch.setattr(bench_setup.time, "perf_counter", lambda: next(clock))
    seconds = bench_setup.in_turn(3, a=lambda: order.append("a"), b=lambda: order.append("b"))
    assert order == ["a", "b"] * 4 and seconds == {"a": [1, 3, 1], "b": [2, 12, 3]}
    assert bench_setup.compared(seconds, "a", "b") == {"seconds": 1, "compared_seconds": 3, "ratio": 3, "rounds": 3}


def test_what_is_not_measured_again_is_kept(toy, tmp_path, monkeypatch):
    def main(*arguments):
        monkeypatch.setattr(sys, "argv", ["bench.py", "--data", str(toy.root), "--out", str(tmp_path), *arguments])
        bench.main()
        return json.loads((tmp_path / "benchmarks.json").read_text())["rows"]

    monkeypatch.setattr(bench, "ROWS", {"a": lambda b: {"help": {"seconds": 1}}, "b": lambda b: {"loading": {"x": 1}}})
    monkeypatch.setattr(bench, "page", lambda content: str(sorted(content["rows"])))
    assert main("--only", "a") == {"help": {"seconds": 1}}
    assert set(main("--only", "b")) == {"help", "loading"}
    assert (tmp_path / "benchmarks.md").read_text() == "['help', 'loading']"


def test_a_command_that_fails_is_shown(tmp_path):
    row = bench_runs.watched([sys.executable, "-c", "x = bytearray(200 * 2**20)"], tmp_path)
    assert 0.2 < row["gigabytes"] < 1 and row["seconds"] > 0
    with pytest.raises(RuntimeError, match="unknown-setting"):
        bench_runs.watched([sys.executable, "-c", "raise ValueError('unknown-setting')"], tmp_path)
