"""Damaged and hostile archives: one message, and nothing is written."""

import re
import shutil
import struct
import zipfile

import pytest
from test_tgs import equal

from salt.data import archive as archive_module
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


def test_a_member_one_folder_too_deep(synthetic_root, tmp_path):
    root = shutil.copytree(synthetic_root, tmp_path / "broken")
    with zipfile.ZipFile(synthetic_root / "train.zip") as old, zipfile.ZipFile(root / "train.zip", "w") as new:
        moved = next(name for name in old.namelist() if name.startswith("images/") and name.endswith(".png"))
        for name in old.namelist():
            new.writestr(name.replace("images/", "images/a/") if name == moved else name, old.read(name))
    with pytest.raises(ValueError, match=r"train.zip: ids of train.csv without an image"):
        read_dataset(root)


def named(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("a")
    info.filename = info.orig_filename = name
    return info


def linked() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("link")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return info


def packed(method: int, name: str = "x") -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.compress_type = method
    return info


def central(field: str, value: int):
    """Change a number of the first entry of a zip's central directory."""
    offset, form = {"flags": (8, "<H"), "method": (10, "<H"), "size": (24, "<I"), "at": (42, "<I")}[field]

    def change(data: bytearray) -> None:
        directory = struct.unpack_from("<I", data, len(data) - 6)[0]
        struct.pack_into(form, data, directory + offset, value)

    return change


def nothing(data: bytearray) -> None:
    pass


HOSTILE = {
    "parent": (named("../x"), b"", nothing, r"'\.\./x' has an unsafe name"),
    "inner parent": (named("images/../../x"), b"", nothing, "has an unsafe name"),
    "absolute": (named("/etc/x"), b"", nothing, "'/etc/x' has an unsafe name"),
    "drive": (named("C:x"), b"", nothing, "'C:x' has an unsafe name"),
    "backslash": (named("images\\x"), b"", nothing, "has an unsafe name"),
    "symlink": (linked(), b"/etc", nothing, "'link' is a symbolic link"),
    "encrypted": (zipfile.ZipInfo("x"), b"1", central("flags", 1), "'x' is encrypted"),
    "bomb": (packed(zipfile.ZIP_DEFLATED), bytes(20_000_000), nothing, r"'x' claims 20000000 bytes in \d+, too many"),
    "large PNG": (zipfile.ZipInfo("x.png"), bytes(10_000_001), nothing, r"'x\.png' claims 10000001 bytes"),
    "bzip2": (packed(zipfile.ZIP_BZIP2), b"1", nothing, "'x' is compressed by method 12, expected deflate or none"),
    "unknown method": (zipfile.ZipInfo("x"), b"1", central("method", 99), "'x' is compressed by method 99"),
    "longer than declared": (
        packed(zipfile.ZIP_DEFLATED, "train.csv"),
        b"id,rle_mask\n" * 9,
        central("size", 12),
        r"member train\.csv cannot be read: ",
    ),
    "stored longer than declared": (
        zipfile.ZipInfo("train.csv"),
        b"id,rle_mask\n" * 9,
        central("size", 12),
        r"member train\.csv cannot be read: ",
    ),
    "shorter than declared": (
        packed(zipfile.ZIP_DEFLATED, "train.csv"),
        b"id,rle_mask\n",
        central("size", 99),
        r"member train\.csv cannot be read: ",
    ),
    "bad checksum": (
        zipfile.ZipInfo("train.csv"),
        b"id,rle_mask\n",
        lambda data: data.__setitem__(data.index(b"rle"), ord("x")),
        r"member train\.csv cannot be read: Bad CRC",
    ),
    "elsewhere": (
        zipfile.ZipInfo("train.csv"),
        b"id,rle_mask\n",
        central("at", 7),
        r"member train\.csv cannot be read: ",
    ),
    "truncated": (zipfile.ZipInfo("x"), b"1", lambda data: data.__delitem__(slice(-9, None)), "not a complete zip"),
    "no bytes": (zipfile.ZipInfo("x"), b"1", bytearray.clear, "not a complete zip"),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_hostile_archive_is_refused_and_nothing_is_written(synthetic_root, tmp_path, fault):
    info, content, change, message = HOSTILE[fault]
    file = tmp_path / OUTER_ZIP
    with zipfile.ZipFile(file, "w") as new:
        new.writestr(info, content, info.compress_type)
        for other in sorted(synthetic_root.iterdir()):
            if other.name != info.filename:
                new.write(other, other.name)
    data = bytearray(file.read_bytes())
    change(data)
    file.write_bytes(data)
    with pytest.raises(ValueError, match=f"{re.escape(str(file))}.*{message}"):
        read_dataset(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [OUTER_ZIP]


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


def test_a_compressed_inner_archive_for_which_the_memory_is_too_small(synthetic_root, tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / OUTER_ZIP, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in synthetic_root.iterdir():
            archive.write(file, file.name)
    monkeypatch.setattr(archive_module, "INNER_LIMIT", 1000)
    with pytest.raises(ValueError, match=rf"{OUTER_ZIP}: member train.zip has .* bytes, too many .* unpack the outer"):
        read_dataset(tmp_path)
