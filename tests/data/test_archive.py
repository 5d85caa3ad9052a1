"""Damaged archives: one message that names the file."""

import shutil
import zipfile

import pytest
from test_tgs import equal

from salt.data.tgs import OUTER_ZIP, read_dataset


def test_a_truncated_zip(synthetic_root, tmp_path):
    root = shutil.copytree(synthetic_root, tmp_path / "broken")
    (root / "train.zip").write_bytes((root / "train.zip").read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"train.zip: this is not a complete zip archive"):
        read_dataset(root)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member(synthetic_root, tmp_path, compression):
    root = shutil.copytree(synthetic_root, tmp_path / "broken")
    with zipfile.ZipFile(synthetic_root / "train.zip") as old, zipfile.ZipFile(root / "train.zip", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name), compression)
    data = bytearray((root / "train.zip").read_bytes())
    data[100:160] = bytes(60)
    (root / "train.zip").write_bytes(data)
    with pytest.raises(ValueError, match=r"train.zip.*png"):
        read_dataset(root)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_occurs_twice(synthetic_root, tmp_path):
    root = shutil.copytree(synthetic_root, tmp_path / "broken")
    with zipfile.ZipFile(root / "train.zip", "a") as archive:
        name = archive.namelist()[0]
        archive.writestr(name, b"another")
    with pytest.raises(ValueError, match=rf"train.zip: member '{name}' occurs twice"):
        read_dataset(root)


def test_an_inner_archive_that_is_compressed(synthetic_root, tmp_path):
    with zipfile.ZipFile(tmp_path / OUTER_ZIP, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in synthetic_root.iterdir():
            archive.write(file, file.name)
    assert equal(read_dataset(synthetic_root), read_dataset(tmp_path))
