"""Names of files as ids: one spelling for one name, in a folder's files and in its tables."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import raw_config, write_folder

from salt.config import check_config
from salt.data.doctor import check_data as check
from salt.data.folds import assign_folds, read_sections
from salt.data.load import load_data
from salt.paths import id_of, is_utf8, printable

NAMES = ["línea", "Ångström", "서울", "plain", "a.b"]
NFC, NFD = ([unicodedata.normalize(form, name) for name in NAMES] for form in ("NFC", "NFD"))


@pytest.fixture
def folder(tmp_path):
    """Images named in one form; masks and tables in the other."""
    root = write_folder(tmp_path / "own", {name: (40, 40) for name in NFC})
    for file in (root / "masks").iterdir():
        file.rename(file.with_name(unicodedata.normalize("NFD", file.name)))
    ids = [*NFD, *(f"test_{name}" for name in NFD)]
    pd.DataFrame({"id": ids, "z": range(10)}).to_csv(root / "depths.csv", index=False)
    pd.DataFrame({"id": NFD, "fold": [0, 1, 0, 1, 1]}).to_csv(root / "folds.csv", index=False)
    return root


def config(folder):
    return check_config(raw_config("data=folder", f"data.root={folder}", "data.n_folds=2"))


def test_both_unicode_forms_are_one_name(folder):
    assert NFC[:3] != NFD[:3]
    data = load_data(config(folder))
    assert sorted(data.train.ids) == sorted(NFC)
    assert dict(zip(data.train.ids, data.train.depths, strict=True)) == dict(zip(NFC, range(5), strict=True))
    assert dict(zip(data.test.ids, data.test.depths, strict=True)) == {f"test_{n}": 5 + i for i, n in enumerate(NFC)}
    folds = dict(zip(data.train.ids, assign_folds(config(folder), data.train), strict=True))
    assert folds == dict(zip(NFC, [0, 1, 0, 1, 1], strict=True))
    assert not check(folder).n_errors


def test_both_forms_in_train_csv_and_mosaic_csv(folder):
    runs = "21 20 61 20 101 20"  # not what the masks show
    pd.DataFrame({"id": NFD, "rle_mask": runs}).to_csv(folder / "train.csv", index=False)
    with pytest.raises(ValueError, match="5 masks differ from their rle_mask"):  # so all ids are known
        load_data(config(folder))
    assert set(check(folder).findings) == {"masks that differ from their rle_mask"}
    table = pd.DataFrame({"id": NFD, "mosaic": list("xxyyz"), "row": 0, "column": 0})
    table.to_csv(folder / "mosaic.csv", index=False)
    numbers = read_sections(folder / "mosaic.csv", NFC)
    assert numbers[0] == numbers[1] and numbers[2] == numbers[3] and len(np.unique(numbers)) == 3


def test_two_spellings_of_one_name_are_refused(folder):
    (folder / "images" / f"{NFD[0]}.png").write_bytes((folder / "images" / f"{NFC[0]}.png").read_bytes())
    with pytest.raises(ValueError, match="two files of one name"):
        load_data(config(folder))
    assert "two files of one name" in check(folder).findings
    (folder / "images" / f"{NFD[0]}.png").unlink()
    with (folder / "depths.csv").open("a", encoding="utf-8") as file:
        file.write(f"{NFC[0]},3\n")
    with pytest.raises(ValueError, match=f"depths.csv: 1 ids .*two Unicode spellings, e.g. .*{NFC[0]}"):
        load_data(config(folder))


def test_a_name_that_is_not_utf8_is_refused(folder):
    Path(os.fsdecode(os.fsencode(folder) + b"/images/l\xednea.png")).write_bytes(b"")
    with pytest.raises(ValueError, match=r"not UTF-8: .*l\\udcednea.png; rename"):
        load_data(config(folder))
    found = check(folder).findings["file names that are not UTF-8"]
    assert found.level == "error" and found.names == [f"{folder}/images/l\\udcednea.png"]


def test_ids_and_what_is_shown_of_them():
    assert [id_of(Path("in", f"{name}.png")) for name in NFD] == NFC
    assert not is_utf8(id_of(Path(os.fsdecode(b"l\xednea.png")))) and is_utf8("línea")
    assert printable(Path("a/línea.png")) == "a/línea.png" and printable("a\nb") == "a\\nb"
    assert printable(os.fsdecode(b"l\xed")).encode("ascii") == b"l\\udced"
