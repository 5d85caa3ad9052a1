"""Bundles: a run in one zip, and zips that are none."""

import shutil
import struct
import zipfile

import cv2
import numpy as np
import pytest
import yaml
from conftest import TINY
from conftest import salt as command

import salt
from salt.commands import blend, export, predict, submit
from salt.data import likeness
from salt.runs.bundle import open_run, without_paths


@pytest.fixture
def bundle(finished, tmp_path):
    file = tmp_path / "elsewhere" / "a.zip"
    file.parent.mkdir()
    ended = command(finished, "runs/a", "--to", "bundle", "--out", file, main=export.main)
    assert ended.returncode == 0, ended.stderr
    return file


def rewrite(bundle, change):
    """Write the members of a bundle again: `change` has new contents by name, None to leave one out."""
    with zipfile.ZipFile(bundle) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (members | change).items():
            if content is not None:
                archive.writestr(name, content)


def test_it_predicts_the_same_bytes_from_another_folder(finished, bundle):
    image = np.random.default_rng(0).integers(0, 255, (150, 130)).astype(np.uint8)
    assert np.array_equal(salt.load(bundle).predict(image), salt.load(finished / "runs" / "a").predict(image))
    assert salt.Run(bundle).oof().equals(salt.Run(finished / "runs" / "a").oof())


def test_it_holds_a_card_and_no_path_of_this_machine(finished, bundle):
    with zipfile.ZipFile(bundle) as archive:
        texts = {n: archive.read(n).decode() for n in archive.namelist() if n.endswith((".md", ".yaml", ".json"))}
        assert not any(name.endswith(".pt") or "local.json" in name for name in archive.namelist())
    assert all(str(finished) not in text for text in texts.values())
    assert "Intended use" in texts["README.md"] and f"{salt.Run(bundle).map:.4f}" in texts["README.md"]


def test_it_carries_what_the_training_data_looks_like_and_works_without(finished, bundle, tmp_path):
    own = likeness.read(finished / "runs" / "a")
    assert likeness.read(open_run(bundle)).images == own.images
    older = shutil.copytree(finished / "runs" / "a", tmp_path / "older")
    (older / likeness.LOOKS).unlink()
    ended = command(tmp_path, older, "--to", "bundle", "--out", tmp_path / "older.zip", main=export.main)
    assert ended.returncode == 0, ended.stderr
    assert likeness.read(open_run(tmp_path / "older.zip")) is None
    image = np.random.default_rng(0).integers(0, 255, (101, 101)).astype(np.uint8)
    assert salt.load(tmp_path / "older.zip").predict(image).shape == image.shape


def test_a_damaged_record_of_the_data_is_refused(bundle):
    rewrite(bundle, {likeness.LOOKS: b'{"levels": []}'})
    with pytest.raises(ValueError, match=r"data\.json is damaged"):
        salt.load(bundle)


def test_it_blends_and_starts_another_run(finished, synthetic_root, bundle, tmp_path):
    other = tmp_path / "b.zip"
    shutil.copy(bundle, other)
    ended = command(tmp_path, bundle, other, "--out", "ab", "--root", synthetic_root, main=blend.main)
    assert ended.returncode == 0, ended.stderr
    image = np.full((101, 101), 80, np.uint8)
    image[:, 50:] = 200
    assert salt.load(tmp_path / "ab").predict(image).shape == image.shape
    words = [*TINY, f"data.root={synthetic_root}", f"init={bundle}", "folds=[0]", "name=c"]
    assert command(tmp_path, *words).returncode == 0
    cv2.imwrite(str(tmp_path / "line.png"), image)
    ended = command(tmp_path, bundle, "line.png", "--out", "predicted", main=predict.main)
    assert ended.returncode == 0 and (tmp_path / "predicted" / "line_mask.png").exists()
    ended = command(tmp_path, bundle, main=submit.main)
    assert ended.returncode == 1 and "bundle" in ended.stderr


def test_paths_are_hidden_in_lists_too():
    settings = {"root": "/data", "home": "~/x", "name": "a/b", "list": ["/x", 3], "relative": "data/tgs"}
    hidden = {"root": "...", "home": "...", "name": "a/b", "list": ["...", 3], "relative": "data/tgs"}
    assert without_paths(settings) == hidden


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"../evil.yaml": b"x"}, "holds no"),
        ({"/etc/evil": b"x"}, "holds no"),
        ({"fold_0/../../evil": b"x"}, "holds no"),
        ({"fold_0/last.pt": b"x"}, "holds no"),
        ({"evil.pkl": b"x"}, "holds no"),
        ({"score.json": None}, "lacks score.json"),
        ({"config.yaml": b"- a"}, "config.yaml"),
        ({"oof.csv": bytes(20_000_000)}, "too many"),
    ],
)
def test_what_a_bundle_never_holds_is_refused(bundle, change, message):
    rewrite(bundle, change)
    with pytest.raises(ValueError, match=message):
        open_run(bundle)


def test_classes_that_are_not_salts_are_refused(bundle):
    settings = yaml.safe_load((open_run(bundle) / "config.yaml").read_text(encoding="utf-8"))
    for target in ("os.system", "salt.runs.environment.git", "builtins.eval"):
        settings["loss"] = {"_target_": target}
        rewrite(bundle, {"config.yaml": yaml.safe_dump(settings).encode()})
        with pytest.raises(ValueError, match=target):
            salt.load(bundle)


def test_pickles_in_arrays_are_refused(bundle, tmp_path):
    np.savez(tmp_path / "evil.npz", ids=np.array([{"a": 1}], dtype=object), probabilities=np.zeros((1, 2, 2)))
    rewrite(bundle, {"oof.npz": (tmp_path / "evil.npz").read_bytes()})
    from salt.runs.stacks import read_probabilities

    with pytest.raises(ValueError, match=r"oof\.npz"):
        read_probabilities(open_run(bundle) / "oof.npz")


def test_damaged_and_foreign_zips_are_refused(bundle, tmp_path):
    content = bytearray(bundle.read_bytes())
    (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.zip").write_text("no zip", encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    middle = len(content) // 2
    content[middle : middle + 40] = struct.pack("40s", b"")
    (tmp_path / "damaged.zip").write_bytes(content)
    for name in ("cut", "text", "empty", "damaged"):
        with pytest.raises(ValueError, match=f"{name}.zip"):
            salt.load(tmp_path / f"{name}.zip")


def test_an_existing_file_is_kept(finished, bundle):
    ended = command(finished, "runs/a", "--to", "bundle", "--out", bundle, main=export.main)
    assert ended.returncode == 1 and "exists already" in ended.stderr
