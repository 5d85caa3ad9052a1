"""What rank 0 decides for all ranks; the exchange itself is run by tests/test_scaling.py."""

import os
import subprocess
import sys

import pytest
import torch.distributed

from salt.machine import distributed


@pytest.mark.parametrize(("rank", "calls"), [(0, 1), (1, 0)])
def test_rank_0_alone_calls_the_function_and_every_rank_has_its_result(monkeypatch, rank, calls):
    monkeypatch.setattr(distributed, "_group", distributed.Group(rank, 2))
    called = []

    def broadcast(objects, source):
        assert source == 0 and objects == ["of rank 0" if rank == 0 else None]
        objects[0] = "of rank 0"

    monkeypatch.setattr(torch.distributed, "broadcast_object_list", broadcast)
    assert distributed.from_main(lambda: called.append(rank) or "of rank 0") == "of rank 0"
    assert len(called) == calls


HERE = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    "variables",
    [
        *({}, {"RANK": "3"}, {"WORLD_SIZE": "4"}, {"RANK": "", "WORLD_SIZE": "4"}, {"RANK": "abc"}),
        *({"WORLD_SIZE": "x"}, {"RANK": "0", "WORLD_SIZE": "1"}, {"RANK": "3", "WORLD_SIZE": "1"}),
    ],
)
def test_variables_that_name_no_other_process_mean_one(variables):
    assert distributed.read_group(variables) == distributed.Group(0, 1, 0)


def test_variables_of_torchrun_name_a_process():
    variables = HERE | {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
    assert distributed.read_group(variables) == distributed.Group(5, 8, 1)


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_ADDR and MASTER_PORT must be set"),
        (HERE | {"RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": ""}, "MASTER_PORT must be set"),
        (HERE | {"RANK": "abc", "WORLD_SIZE": "2"}, "RANK=abc WORLD_SIZE=2 .*name no process"),
        (HERE | {"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2 WORLD_SIZE=2 .*name no process"),
        (HERE | {"RANK": "-1", "WORLD_SIZE": "2"}, "RANK=-1 WORLD_SIZE=2 .*name no process"),
        (HERE | {"RANK": "0", "WORLD_SIZE": "-4"}, "WORLD_SIZE=-4 .*name no process"),
        (HERE | {"RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": "http"}, "MASTER_PORT=http"),
        (HERE | {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "x"}, "LOCAL_RANK=x"),
    ],
)
def test_variables_that_name_no_process_are_refused(variables, text):
    with pytest.raises(ValueError, match=f"{text}.*unset RANK WORLD_SIZE$"):
        distributed.read_group(variables)


def test_nothing_but_a_run_of_salt_train_takes_part(monkeypatch):
    for key, value in (HERE | {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}).items():
        monkeypatch.setenv(key, value)
    assert distributed.is_main() and distributed.world_size() == 1 and distributed.group().local_rank == 0
    monkeypatch.setattr(distributed, "_group", distributed.Group())  # restored after the test
    distributed.take_part()
    assert not distributed.is_main() and distributed.world_size() == 2 and distributed.group().local_rank == 1


def test_a_command_writes_its_files_whatever_variables_are_left_over(tmp_path):
    code = "from salt.runs.files import locked, write_text; from pathlib import Path\nwith locked(Path('.'), 'x'):\n "
    code += "write_text(Path('a.txt'), Path('.x.owner').read_text())"
    left_over = HERE | {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=os.environ | left_over, check=True)
    assert (tmp_path / "a.txt").read_text(encoding="utf-8").startswith("process ")
