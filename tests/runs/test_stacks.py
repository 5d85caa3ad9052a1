"""Images of one or several sizes, in memory and on the disk."""

import numpy as np
import pytest

from salt.runs.stacks import as_float16, as_stack, empty_stack, read_probabilities, save_stack, set_to_zero, sizes_of

SAME, MIXED = [(3, 4), (3, 4)], [(3, 4), (5, 2), (3, 4)]


@pytest.mark.parametrize("sizes", [SAME, MIXED, [(1, 1)]])
def test_what_is_saved_comes_back(sizes, tmp_path):
    images = [np.random.default_rng(i).random(size, dtype=np.float32) for i, size in enumerate(sizes)]
    ids = np.array([f"tile{i}" for i in range(len(sizes))])
    save_stack(tmp_path / "a.npz", ids, probabilities=as_float16(as_stack(images)))
    found_ids, found = read_probabilities(tmp_path / "a.npz")
    assert found_ids == ids.tolist() and sizes_of(found) == sizes
    for image, other in zip(images, found, strict=True):
        assert other.dtype == np.float16 and np.array_equal(image.astype(np.float16), other)


def test_one_size_is_one_block_of_memory():
    assert empty_stack(SAME, np.uint8).shape == (2, 3, 4)
    assert empty_stack(MIXED, np.uint8).shape == (3,) and sizes_of(empty_stack(MIXED, np.uint8)) == MIXED
    stack = empty_stack(MIXED, np.float32)
    set_to_zero(stack, np.array([False, True, True]))
    assert not stack[1].any() and not stack[2].any()


def test_a_cut_file_is_refused(tmp_path):
    ids = np.array(["a", "b", "c"])
    np.savez_compressed(tmp_path / "a.npz", ids=ids, probabilities=np.zeros(9), sizes=np.array(MIXED))
    with pytest.raises(ValueError, match="do not fit"):
        read_probabilities(tmp_path / "a.npz")
