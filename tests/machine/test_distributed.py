"""What rank 0 decides for all ranks; the exchange itself is run by tests/test_scaling.py."""

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
