import json
import os
import shutil

import numpy as np
import pytest

from salt.data import cache as cache_module
from salt.data import image, tgs
from salt.data.tgs import read_dataset


@pytest.fixture
def root(synthetic_root, tmp_path):
    return shutil.copytree(synthetic_root, tmp_path / "data")


@pytest.fixture
def decoded(monkeypatch):
    """How many images were decoded."""
    calls = []
    monkeypatch.setattr(
        image, "decode", lambda *given, own=image.decode, **more: (calls.append(1), own(*given, **more))[1]
    )
    return calls


def test_the_second_reading_decodes_nothing_and_gives_the_same(root, tmp_path, decoded):
    folder = tmp_path / "cache"
    plain, first = read_dataset(root), read_dataset(root, folder)
    decoded.clear()
    second = read_dataset(root, folder)
    assert not decoded and plain.digest() == first.digest() == second.digest()
    assert second.train.ids == plain.train.ids and np.array_equal(second.test.depths, plain.test.depths)
    base = second.train.images
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)


def test_writing_into_the_arrays_does_not_reach_the_files(root, tmp_path):
    read_dataset(root, tmp_path / "cache")
    opened = read_dataset(root, tmp_path / "cache")
    opened.train.images[:] = 7
    assert read_dataset(root, tmp_path / "cache").digest() == read_dataset(root).digest() != opened.digest()


def flip(file):
    content = bytearray(file.read_bytes())
    content[-5000] ^= 1
    file.write_bytes(content)


def change(folder, edit):
    record = json.loads((folder / "cache.json").read_text())
    edit(record)
    (folder / "cache.json").write_text(json.dumps(record))


def save(folder, edit):
    np.save(folder / "train_masks.npy", edit(np.load(folder / "train_masks.npy")))


DAMAGES = {
    "flipped": lambda folder: flip(folder / "train_masks.npy"),
    "truncated": lambda folder: (folder / "test_images.npy").write_bytes(b"\x93NUMPY"),
    "lost": lambda folder: (folder / "train_images.npy").unlink(),
    "no record": lambda folder: (folder / "cache.json").unlink(),
    "broken record": lambda folder: (folder / "cache.json").write_text("{"),
    "another record": lambda folder: (folder / "cache.json").write_text("[]"),
    "array not named": lambda folder: change(folder, lambda record: record["sha256"].pop("test_images")),
    "another shape": lambda folder: save(folder, lambda masks: masks.reshape(101, -1, 101)),  # the same bytes
    "another type": lambda folder: save(folder, lambda masks: masks.view(np.int8)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_made_again(root, tmp_path, decoded, damage):
    folder = tmp_path / "cache"
    digest = read_dataset(root, folder).digest()
    DAMAGES[damage](folder)
    decoded.clear()
    assert read_dataset(root, folder).digest() == digest and len(decoded) == 54
    decoded.clear()
    assert read_dataset(root, folder).digest() == digest and not decoded


def test_changed_data_is_noticed(root, tmp_path, decoded):
    folder = tmp_path / "cache"
    read_dataset(root, folder)
    (root / "train.zip").unlink()
    with pytest.raises(ValueError, match=r"train\.zip or train/images"):
        read_dataset(root, folder)
    shutil.copy(root / "test.zip", root / "train.zip")
    with pytest.raises(ValueError, match=r"train.zip: ids of train.csv without an image"):
        read_dataset(root, folder)


def test_unpacked_files_that_change_are_decoded_again(root, tmp_path, decoded):
    for part in ("train", "test"):
        shutil.unpack_archive(root / f"{part}.zip", root / part)
    folder = tmp_path / "cache"
    before = read_dataset(root, folder)
    one, other = sorted((root / "train/images").iterdir())[:2]
    shutil.copyfile(one, other)
    after = read_dataset(root, folder)
    assert after.digest() == read_dataset(root).digest() != before.digest()


def test_an_interrupted_build_leaves_no_cache(root, tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    read_dataset(root, folder)
    (folder / "cache.json").write_text(json.dumps({"source": "another"}))
    monkeypatch.setattr(tgs, "decode_tile", lambda file, mask: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        read_dataset(root, folder)
    assert not (folder / "cache.json").exists()


def test_an_array_that_cannot_be_written_is_an_error_at_once(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    def build(name):
        cache_module.cached_arrays(tmp_path, "x", {name: (3,)}, lambda allocate: {name: allocate(name, (3,))})

    (tmp_path / "b.npy").mkdir()
    with pytest.raises(OSError, match=r"data\.cache: .*b\.npy .* 3 bytes: Is a directory"):
        build("b")
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"data\.cache: .*a\.npy .* 3 bytes: No space"):
        build("a")


def test_a_file_instead_of_the_folder(root, tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(ValueError, match=r"data\.cache: .*cache .*File exists"):
        read_dataset(root, tmp_path / "cache")


def test_a_read_only_cache_serves_what_it_holds(root, tmp_path, monkeypatch, decoded):
    folder = tmp_path / "cache"
    digest = read_dataset(root, folder).digest()
    (folder / ".cache.lock").unlink()
    decoded.clear()
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert read_dataset(root, folder).digest() == digest and not decoded
    assert not (folder / ".cache.lock").exists()
    change(folder, lambda record: record.update(source="another"))
    with pytest.raises(ValueError, match=r"data\.cache: .*cache is read-only"):
        read_dataset(root, folder)
