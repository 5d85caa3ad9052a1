"""A survey predicted from file to file: against images, whole cubes, and itself after a kill and in parts."""

import dataclasses
import doctest
import os
import resource
import shutil
import time
import tracemalloc
import weakref
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.volumes import MADE, by_crosslines, chosen, volume, with_duplicates, with_holes
from scipy import ndimage

import salt
from salt.data.tiles import Tiles
from salt.inference import survey_blocks, survey_results
from salt.inference.model import Model
from salt.inference.survey import SPARE, check_space, open_job, predict_survey
from salt.inference.survey_blocks import sample_survey
from salt.inference.survey_bodies import Bodies
from salt.inference.survey_options import check_survey_options
from salt.inference.survey_results import LONGEST_ROW
from salt.runs.files import read_json, write_json
from salt.survey import layout
from salt.survey.geometry import Survey, open_survey

segyio = pytest.importorskip("segyio")

DOCS = Path(__file__).parents[2] / "docs"
CLOSE = 2e-4  # windows in other batches
KINDS = ("full", "shuffled", "holes, by crosslines", "reversed", "negative", "uneven steps", "one sample")
KINDS += ("duplicates and holes, by crosslines", "before revision 1")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(survey_blocks, "MOST_LINES", 3)
    monkeypatch.setattr(layout, "WINDOW", 3000)


@pytest.fixture(scope="module")
def model(finished):
    """A model whose threshold divides the noise of these volumes: about half of each is salt."""
    place = shutil.copytree(finished / "runs/a", finished / "runs/half")
    cube = noise(MADE["full"], 40).traces.reshape(7, 9, 40)
    p = salt.load(place, "cpu").predict(cube, axis=0)
    write_json(place / "score.json", read_json(place / "score.json") | {"threshold": float(np.median(p))})
    return salt.load(place, "cpu", engine="torch")


def noise(made, n_samples=12):
    """The volume with waves of real numbers as samples."""
    rng = np.random.default_rng(5)
    made = chosen(made, np.arange(len(made.places)))
    made.traces = rng.normal(size=(len(made.places), n_samples)).cumsum(axis=1).astype(np.float32)
    return made


def saved(path, made, **settings):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(made.content(**settings))
    return path


def grey(cube):
    """Grey values of a cube (I X S) whose lines all belong to the sample of its range."""
    low, high = np.nanpercentile(cube.astype(np.float64), [1, 99])
    return (255 * ((cube - low) / (high - low)).clip(0, 1)).round()


def as_images(model, cube, spread=False):
    """Probabilities of the lines of a cube (I X S) as images of eight bits; a missing trace is neutral grey."""
    levels = []
    for line in grey(cube):
        known = line[~np.isnan(line)]
        neutral = np.uint8(np.median(known)) if known.size else 128
        levels.append(np.where(np.isnan(line), neutral, line).astype(np.uint8).T)
    found = model.predict(np.stack(levels), spread=spread)
    parts = [part.transpose(0, 2, 1) * ~np.isnan(cube) for part in (found if spread else [found])]
    return parts if spread else parts[0]


def traces_of(path):
    with segyio.open(str(path), ignore_geometry=True, endian="big") as file:
        return file.trace.raw[:]


def at_places(made, cube):
    """The values (I X S) of a cube at the place of each trace."""
    inlines, crosslines = (sorted(set(column.tolist())) for column in made.places.T)
    return np.stack([cube[inlines.index(i), crosslines.index(x)] for i, x in made.places.tolist()])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", KINDS)
def test_the_result_is_that_of_images_and_every_header_is_kept(model, tmp_path, kind, order):
    made = MADE[kind] if kind == "one sample" else noise(MADE[kind])
    path = saved(tmp_path / "cube.sgy", made, order=order, noise=kind == "full", texts=[b"t" * 3200], tail=b"")
    results = model.predict_survey(path, tmp_path / "out")
    expected = at_places(made, as_images(model, made.cube()[2]))
    found = open_survey(results["probability"]).layout.traces()
    original = open_survey(path).layout.traces()
    np.testing.assert_allclose(found["samples"], expected, atol=CLOSE)
    assert (found["header"] == original["header"]).all()
    before, after = path.read_bytes(), results["probability"].read_bytes()
    assert after[:6800] == before[:6800] and len(after) == len(before)
    assert not list((tmp_path / "out").glob("*blocks*"))


def test_traces_that_are_dead_are_zero_and_not_salt(model, tmp_path):
    made = noise(MADE["full"])
    made.traces[10], made.headers = 0, {29: np.where(np.arange(63) == 20, 2, 1)}
    results = model.predict_survey(saved(tmp_path / "cube.sgy", made), tmp_path)
    found = traces_of(results["probability"])
    assert not found[[10, 20]].any() and found[np.delete(np.arange(63), [10, 20])].all(axis=1).all()
    cube = made.cube()[2]
    cube.reshape(63, -1)[[10, 20]] = np.nan
    np.testing.assert_allclose(found, as_images(model, cube).reshape(63, -1), atol=CLOSE)


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_both_directions_and_their_spread(model, tmp_path, mean):
    made = noise(MADE["duplicates and holes, by crosslines"])
    path = saved(tmp_path / "cube.sgy", made, code=1)
    results = model.predict_survey(path, tmp_path / "a", directions="crossline,inline", mean=mean, spread=True)
    cube = made.cube()[2].astype(np.float32)
    inline = np.stack(as_images(model, cube, spread=True)).astype(np.float64)
    across = np.stack(as_images(model, cube.swapaxes(0, 1), spread=True)).swapaxes(1, 2).astype(np.float64)
    p, q = inline[0], across[0]
    expected = (p + q) / 2
    if mean == "geometric":
        with np.errstate(divide="ignore"):
            expected = (p * q) ** 0.5 / ((p * q) ** 0.5 + ((1 - p) * (1 - q)) ** 0.5)
    squares = (inline[1] ** 2 + across[1] ** 2) / 2 + (p - q) ** 2 / 4  # within and between
    np.testing.assert_allclose(traces_of(results["probability"]), at_places(made, expected), atol=CLOSE)
    np.testing.assert_allclose(traces_of(results["spread"]), at_places(made, squares**0.5), atol=CLOSE)
    alone = model.predict_survey(path, tmp_path / "b", directions=("crossline",))
    np.testing.assert_allclose(traces_of(alone["probability"]), at_places(made, q), atol=CLOSE)


def test_runs_are_blended_by_their_weights(model, tmp_path):
    made = noise(MADE["full"], 120)  # two windows below each other
    other = dataclasses.replace(model.predictors[0], overlap=0.75)
    halves = [dataclasses.replace(model.ensemble.first, weight=weight) for weight in (0.25, 0.75)]
    both = dataclasses.replace(model.ensemble, members=halves)
    blend = Model(both, [model.predictors[0], other], model.settings)
    path = saved(tmp_path / "cube.sgy", made)
    results = blend.predict_survey(path, tmp_path, spread=True)
    alone = [Model(model.ensemble, [p]).predict(made.cube()[2], axis=0) for p in blend.predictors]
    np.testing.assert_allclose(
        traces_of(results["probability"]), at_places(made, 0.25 * alone[0] + 0.75 * alone[1]), atol=CLOSE
    )
    spread = blend.predict(made.cube()[2], axis=0, spread=True)[1]
    np.testing.assert_allclose(traces_of(results["spread"]), at_places(made, spread), atol=CLOSE)


def test_missing_samples_have_a_value_that_an_option_names(model, tmp_path):
    made = noise(MADE["shuffled"])
    made.traces[3:9, 5:] = -999
    results = model.predict_survey(saved(tmp_path / "cube.sgy", made), tmp_path, nodata=-999.0)
    cube = made.cube()[2]
    expected = as_images(model, np.where(cube == -999, np.nan, cube))
    np.testing.assert_allclose(traces_of(results["probability"]), at_places(made, expected), atol=CLOSE)


def test_percent_in_eight_bits(model, tmp_path):
    path = saved(tmp_path / "cube.sgy", noise(MADE["holes and an irregular edge"]))
    exact = traces_of(model.predict_survey(path, tmp_path / "a")["probability"])
    small = model.predict_survey(path, tmp_path / "b", as_int8=True)
    np.testing.assert_array_equal(traces_of(small["probability"]), np.rint(100 * exact))
    tables = [contents(tmp_path / name) for name in "ab"]
    assert tables[0]["cube_bodies.csv"] == tables[1]["cube_bodies.csv"]  # of the exact numbers
    assert small["probability"].stat().st_size == 3600 + len(exact) * (240 + 12)


def test_a_part_of_the_survey_is_scaled_as_the_whole(model, tmp_path):
    made = noise(MADE["duplicates"])
    path = saved(tmp_path / "cube.sgy", made)
    whole = traces_of(model.predict_survey(path, tmp_path / "a")["probability"])
    part = traces_of(model.predict_survey(path, tmp_path / "b", lines="inline=12:15")["probability"])
    inside = (made.places[:, 0] >= 12) & (made.places[:, 0] <= 15)
    np.testing.assert_allclose(part, whole[inside], atol=CLOSE)
    narrow = model.predict_survey(path, tmp_path / "c", lines={"inline": (12, 13), "crossline": (22, 24)})
    places = open_survey(narrow["probability"])
    assert places.inlines.tolist() == [12, 13] and places.crosslines.tolist() == [22, 23, 24]
    with pytest.raises(ValueError, match=r"cube.sgy has no inline 99: its inlines are 10 to 16"):
        model.predict_survey(path, tmp_path / "d", lines="inline=12:99")


class Dying:
    """An engine that ends after some batches, as Ctrl-C and signals do."""

    def __init__(self, engine, after):
        self.engine, self.left = engine, after
        self.name, self.size, self.runtime = engine.name, engine.size, engine.runtime

    def __call__(self, images, depths):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return self.engine(images, depths)


def dying(model, after):
    predictor = model.predictors[0]
    engine = Dying(predictor.engine, after)
    return Model(model.ensemble, [dataclasses.replace(predictor, engine=engine)], model.settings)


def test_after_a_kill_the_same_call_gives_the_same_bytes(model, tmp_path, monkeypatch):
    path = saved(tmp_path / "cube.sgy", noise(with_holes(volume(range(20), range(30, 40)))))
    options = {"directions": "inline,crossline", "spread": True}
    model.predict_survey(path, tmp_path / "whole", **options)
    out, done = tmp_path / "killed", []
    for after in (0, 4, 1, 2):
        with pytest.raises(KeyboardInterrupt):
            dying(model, after).predict_survey(path, out, **options)
        done.append(len(list(out.glob("cube_blocks/*.bin"))))
    assert done == sorted(done) and done[-1] > done[0]

    def full(*arguments):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:  # while the results are written
        patch.setattr(survey_results, "horizons_of", full)
        with pytest.raises(OSError, match="No space"):
            model.predict_survey(path, out, **options)
    assert not (out / "cube_probability.sgy").exists()
    blocks = {file.name: file.stat().st_mtime_ns for file in out.glob("cube_blocks/*.bin")}
    assert len(blocks) == 7 + 4
    dying(model, 0).predict_survey(path, out, **options)  # nothing is left for the networks
    assert contents(out) == contents(tmp_path / "whole")
    dying(model, 0).predict_survey(path, out, **options)
    assert contents(out) == contents(tmp_path / "whole")


def test_parts_in_any_order_and_twice_make_the_same_bytes(model, tmp_path):
    path = saved(tmp_path / "cube.sgy", noise(volume(range(20), range(30, 40))))
    model.predict_survey(path, tmp_path / "whole")
    out = tmp_path / "parts"
    for part in ("2/3", "3/3", "2/3"):
        results = model.predict_survey(path, out, part=part)
        assert not any(place.exists() for place in results.values())
    model.predict_survey(path, out, part=(1, 3))
    assert contents(out) == contents(tmp_path / "whole")
    model.predict_survey(path, out, part=(9, 9))
    shutil.rmtree(out)
    with pytest.raises(KeyboardInterrupt):  # a part that dies is done by whoever has no part
        dying(model, 1).predict_survey(path, out, part="1/2")
    model.predict_survey(path, out, part="2/2")
    model.predict_survey(path, out)
    assert contents(out) == contents(tmp_path / "whole")


def test_other_settings_do_not_continue_a_survey(model, finished, tmp_path):
    path, out = saved(tmp_path / "cube.sgy", noise(MADE["full"])), tmp_path / "out"
    model.predict_survey(path, out, part="1/3")
    for options, flag in (
        ({"directions": "inline,crossline"}, "--directions"),
        ({"spread": True}, "--spread"),
        ({"as_int8": True}, "--as"),
        ({"lines": "inline=10:12"}, "--lines"),
        ({"smallest_body": 5}, "--smallest-body"),
        ({"nodata": 0.0}, "--nodata"),
    ):
        with pytest.raises(ValueError, match=f"out holds predictions made with another {flag}; choose another --out"):
            model.predict_survey(path, out, part="2/3", **options)
    with pytest.raises(ValueError, match="made with another --overlap"):
        salt.load(model.ensemble.path, "cpu", overlap=0.5).predict_survey(path, out)
    with pytest.raises(ValueError, match="of another run"):  # of another threshold
        salt.load(finished / "runs/a", "cpu").predict_survey(path, out)
    with pytest.raises(ValueError, match=r"precision bfloat16|precision float32, not bfloat16"):
        salt.load(model.ensemble.path, "cpu", precision="bf16").predict_survey(path, out)
    louder = noise(MADE["full"])
    louder.traces[5] *= 3
    with pytest.raises(ValueError, match="of another survey of this name"):
        model.predict_survey(saved(tmp_path / "b/cube.sgy", louder), out)
    model.predict_survey(saved(tmp_path / "c/cube.sgy", noise(MADE["full"])), out)  # the same one elsewhere
    model.predict_survey(path, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def test_parts_with_other_settings_that_start_together_are_refused(model, tmp_path):
    path, out = saved(tmp_path / "cube.sgy", noise(MADE["full"])), tmp_path / "out"
    jobs = [
        open_job(model.ensemble, model.settings, path, out, check_survey_options(part=part, nodata=nodata))
        for part, nodata in (("1/2", None), ("2/2", 0.0))
    ]
    assert not predict_survey(jobs[0], lambda *_: model)
    with pytest.raises(ValueError, match="made with another --nodata"):
        predict_survey(jobs[1], lambda *_: model)
    model.predict_survey(path, out)
    model.predict_survey(path, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def test_blocks_that_are_cut_or_without_a_record_are_computed_again(model, tmp_path):
    made = noise(MADE["full"])
    made.traces[:, 5] = -9
    path, out = saved(tmp_path / "cube.sgy", made), tmp_path / "out"
    model.predict_survey(path, tmp_path / "whole")
    model.predict_survey(path, out, part="1/2", nodata=-9.0)
    (out / "cube_survey.json").unlink()  # by a user who wants another nodata
    model.predict_survey(path, out, part="2/2")
    assert not (out / "cube_probability.sgy").exists()
    key = open_job(model.ensemble, model.settings, path, out, check_survey_options()).scratch.key
    cut = min(out.glob(f"cube_blocks/*{key}.bin"))
    cut.write_bytes(cut.read_bytes()[:-1])
    model.predict_survey(path, out, part="1/2")
    assert not (out / "cube_probability.sgy").exists()
    model.predict_survey(path, out)
    assert contents(out) == contents(tmp_path / "whole") and not (out / "cube_blocks").exists()
    (out / "cube_bodies.csv").unlink()  # a record without all data
    model.predict_survey(path, out, part="2/2")
    assert not (out / "cube_bodies.csv").exists()
    model.predict_survey(path, out)
    assert contents(out) == contents(tmp_path / "whole")


def test_the_last_part_deletes_no_file_that_another_one_is_writing(model, tmp_path):
    path, out = saved(tmp_path / "cube.sgy", noise(MADE["full"])), tmp_path / "out"
    model.predict_survey(path, out, part="1/3")
    key = open_job(model.ensemble, model.settings, path, out, check_survey_options()).scratch.key
    writing = out / f"cube_blocks/.inline_000000-000003_{key}.bin.tmp-0123456789ab-1"  # on another machine
    results = out / "cube_blocks/.cube_probability.sgy.tmp-0123456789ab-1"
    for file in (writing, results):
        file.touch()
    os.utime(results, (0, time.time() - 100_000))
    model.predict_survey(path, out)
    assert list(out.glob("cube_blocks/*")) == [writing]
    os.utime(writing, (0, time.time() - 100_000))
    model.predict_survey(path, out)
    assert not (out / "cube_blocks").exists()


@pytest.mark.parametrize("may_open", [1000, 1])
def test_each_block_is_opened_once_for_each_pass(model, tmp_path, monkeypatch, may_open):
    path, opened, original = saved(tmp_path / "cube.sgy", noise(volume(range(9), range(30, 36)))), [], Path.open

    def count(self, mode="r", *arguments, **settings):
        opened.append(self.name) if self.suffix == ".bin" and mode == "rb" else None
        return original(self, mode, *arguments, **settings)

    options = {"directions": "inline,crossline", "smallest_body": 3}
    model.predict_survey(path, tmp_path / "whole", **options)
    monkeypatch.setattr(survey_blocks, "allow_open", lambda n: min(n, may_open))
    monkeypatch.setattr(Path, "open", count)
    model.predict_survey(path, tmp_path / "out", **options)
    monkeypatch.undo()
    inlines, crosslines = 3, 2
    expected = crosslines if may_open == 1000 else 1 + (crosslines - 1) * inlines
    assert len(opened) == 2 * (inlines + expected)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_more_files_may_be_open_up_to_the_limit_of_the_system(monkeypatch):
    now = [1024, 4096]
    monkeypatch.setattr(resource, "getrlimit", lambda kind: tuple(now))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: now.__setitem__(slice(None), limits))
    assert survey_blocks.allow_open(500) == 500 and now == [1024, 4096]
    assert survey_blocks.allow_open(2000) == 2000 and now == [2256, 4096]
    assert survey_blocks.allow_open(9000) == 3840 and now == [4096, 4096]


def test_the_disk_must_hold_blocks_of_all_directions_and_the_results(model, tmp_path, monkeypatch):
    path, voxels = saved(tmp_path / "cube.sgy", noise(MADE["full"])), 63 * 12
    sizes = {"blocks": 2 * voxels, "result": 3600 + 63 * (240 + 4 * 12), "tables": 63 * LONGEST_ROW + SPARE}
    for options, n_blocks, n_results in (
        ({}, 1, 1),
        ({"directions": "inline,crossline"}, 2, 1),
        ({"directions": "inline,crossline", "spread": True}, 4, 2),
        ({"directions": "inline,crossline", "spread": True, "part": "2/9"}, 4, 2),  # all parts share the disk
    ):
        needed = n_blocks * sizes["blocks"] + n_results * sizes["result"] + sizes["tables"]
        job = open_job(model.ensemble, model.settings, path, tmp_path / "out", check_survey_options(**options))
        for missing in (1, 0):
            free = shutil._ntuple_diskusage(10**9, 0, needed - missing)
            monkeypatch.setattr(shutil, "disk_usage", lambda folder, free=free: free)
            with pytest.raises(ValueError, match="GB free, but the prediction of") if missing else nullcontext():
                check_space(job)


def test_the_bytes_that_the_run_was_trained_with_are_tried_first(model, tmp_path):
    numbers = {5: np.repeat(range(9), 7), 21: np.tile(range(7), 9)}  # another grid
    made = noise(volume(headers=numbers))
    path = saved(tmp_path / "cube.sgy", made)
    data = model.ensemble.first.config.data

    def shape(trained, **options):
        config = model.ensemble.first.config.model_copy(update={"data": data.model_copy(update=trained)})
        ensemble = dataclasses.replace(
            model.ensemble, members=[dataclasses.replace(model.ensemble.first, config=config)]
        )
        job = open_job(ensemble, model.settings, path, tmp_path / "out", check_survey_options(**options))
        return job.survey.trace_of.shape

    trained = {"inline_byte": 5, "crossline_byte": 21}
    assert shape({}) == (7, 9) and shape(trained) == (9, 7)
    assert shape(trained, inline_byte=189, crossline_byte=193) == (7, 9)
    assert shape({"inline_byte": 25, "crossline_byte": 233}) == (7, 9)  # not in this file
    assert shape({"inline_byte": None, "crossline_byte": None}) == (7, 9)


def test_what_cannot_be_predicted_is_said_in_one_line(model, tmp_path, monkeypatch):
    made = noise(MADE["full"])
    path = saved(tmp_path / "cube.sgy", made)
    for options, message in (
        ({"directions": "inline,depth"}, "directions"),
        ({"directions": "inline,inline"}, "expected inline, crossline or both"),
        ({"mean": "harmonic"}, "mean"),
        ({"part": "4/3"}, "expected K/N, with K from 1 to N"),
        ({"lines": "inline=5"}, "expected inline=FIRST:LAST"),
        ({"lines": "inline=9:5"}, "the smaller number first"),
        ({"smallest_body": 0}, "smallest_body"),
        ({"inline_byte": 9}, "name both, or none"),
        ({"part_of": 3}, "part_of: unknown key"),
    ):
        with pytest.raises(ValueError, match=message) as raised:
            model.predict_survey(path, tmp_path / "out", **options)
        assert "\n" not in str(raised.value)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 10, 10**6))
    with pytest.raises(ValueError, match=r"out has 0.001 GB free, but the prediction of .*cube.sgy takes 0.001"):
        model.predict_survey(path, tmp_path / "out")
    monkeypatch.undo()
    assert not list((tmp_path / "out").glob("*cube*")), "nothing was begun"
    made.traces[12, 3] = np.inf
    with pytest.raises(ValueError, match=r"infinite.sgy has 1 infinite pixels"):
        model.predict_survey(saved(tmp_path / "infinite.sgy", made), tmp_path / "out")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/cube_probability.sgy").touch()
    with pytest.raises(ValueError, match=r"cube_probability\.sgy is not of this survey"):
        model.predict_survey(path, tmp_path / "other")


@pytest.mark.parametrize("kind", ["duplicates and holes, by crosslines", "negative"])
def test_horizons_are_the_first_and_last_salt_of_each_trace(model, tmp_path, kind):
    made = noise(MADE[kind], 40)
    rng = np.random.default_rng(3)
    scales = rng.choice([-100, 10, 0, 1], len(made.places))
    x, y = rng.integers(-(10**6), 10**6, (2, len(made.places)))
    made.headers = {181: x, 185: y, 71: scales, 109: np.full(len(made.places), 200)}
    results = model.predict_survey(saved(tmp_path / "cube.sgy", made), tmp_path)
    table = pd.read_csv(results["horizons"])
    salt_of = np.float64(traces_of(results["probability"])) > model.threshold
    expected, seen = [], set()
    for i, place in enumerate(made.places.tolist()):
        if salt_of[i].any() and tuple(place) not in seen:
            factor = {-100: 0.01, 10: 10, 0: 1, 1: 1}[scales[i]]
            at = 200 + 4 * np.flatnonzero(salt_of[i])
            expected.append([*place, x[i] * factor, y[i] * factor, at[0], at[-1]])
        seen.add(tuple(place))
    assert list(table.columns) == ["inline", "crossline", "x", "y", "top", "base"] and len(expected) > 20
    np.testing.assert_allclose(table.to_numpy(), sorted(expected))


def test_bodies_are_those_of_the_whole_cube(model, tmp_path):
    made = noise(by_crosslines(with_holes(volume(range(100, 140, 2), range(-8, 4)))), 40)
    path = saved(tmp_path / "cube.sgy", made)
    results = model.predict_survey(path, tmp_path / "a")
    inlines, crosslines, cube = made.cube()
    p = np.full(cube.shape, np.nan)
    p[~np.isnan(cube)] = traces_of(results["probability"])[np.lexsort(made.places.T[::-1])].ravel()
    labels, n = ndimage.label(p > model.threshold)
    expected = []
    for k in range(1, n + 1):
        i, x, s = np.nonzero(labels == k)
        lines = [f(n[k]) for n, k in ((inlines, i), (crosslines, x)) for n in [np.array(n)] for f in (np.min, np.max)]
        expected.append([len(i), *lines, 4 * s.min(), 4 * s.max()])
    table = pd.read_csv(results["bodies"])
    assert n > 3 and list(table["body"]) == list(range(1, n + 1)) and table["voxels"].is_monotonic_decreasing
    lines = [f"{direction}_{end}" for direction in ("inline", "crossline") for end in ("first", "last")]
    assert list(table.columns) == ["body", "voxels", *lines, "top", "base"]
    assert sorted(table.to_numpy()[:, 1:].tolist()) == sorted(np.float64(expected).tolist())
    large = model.predict_survey(path, tmp_path / "b", smallest_body=20)
    pd.testing.assert_frame_equal(pd.read_csv(large["bodies"]), table[table["voxels"] >= 20])
    salt_of = np.isin(labels, 1 + np.flatnonzero(np.bincount(labels.ravel())[1:] >= 20))
    rows = [
        [inlines[i], crosslines[x], 4 * salt_of[i, x].argmax(), 4 * (39 - salt_of[i, x, ::-1].argmax())]
        for i, x in np.argwhere(salt_of.any(axis=2)).tolist()
    ]
    horizons = pd.read_csv(large["horizons"])
    assert horizons.drop(columns=["x", "y"]).to_numpy().tolist() == rows
    assert large["horizons"].read_text().startswith("inline,crossline,x,y,top,base\n")
    all_horizons = pd.read_csv(results["horizons"])
    assert not all_horizons.equals(horizons), "no body was small"


@pytest.mark.parametrize("size", [1, 2, 4, 12])
@pytest.mark.parametrize("share", [0.02, 0.15, 0.4])
def test_bodies_of_blocks_are_those_of_the_whole(size, share):
    salt_of = np.random.default_rng(int(100 * share)).random((12, 9, 10)) < share
    for smallest in (1, 2, 5, 10**6):
        bodies = Bodies(smallest)
        blocks = np.split(salt_of, range(size, 12, size))
        for block in blocks:
            bodies.add(block)
        found = np.concatenate([bodies.large(number, block) for number, block in enumerate(blocks)])
        labels, n = ndimage.label(salt_of)
        counts = np.bincount(labels.ravel(), minlength=n + 1)
        counts[0] = 0
        np.testing.assert_array_equal(found, (counts >= smallest)[labels])
        voxels = bodies.merged[:, 0]
        assert sorted(voxels[voxels >= smallest].tolist()) == sorted(counts[1:][counts[1:] >= smallest].tolist())


def test_the_page_shows_how_other_libraries_read_the_results(model, tmp_path, monkeypatch):
    made = noise(with_holes(volume()), 40)
    results = model.predict_survey(saved(tmp_path / "survey.sgy", made), tmp_path / "result")
    shutil.copytree(model.ensemble.path, tmp_path / "runs/survey")
    monkeypatch.chdir(tmp_path)
    page = doctest.DocTestParser().get_doctest((DOCS / "survey.md").read_text(), {}, "survey.md", None, None)
    assert len(page.examples) > 10 and not doctest.DocTestRunner().run(page, clear_globs=False).failed
    cube, top, (inlines, crosslines, _) = page.globs["cube"], page.globs["top"], made.cube()
    assert np.array_equal(at_places(made, cube), traces_of(results["probability"]))
    assert np.isnan(cube).all(axis=2).sum() == cube.shape[0] * cube.shape[1] - len(made.places) > 0
    expected = np.where(page.globs["mask"].any(axis=2), 4.0 * page.globs["mask"].argmax(axis=2), np.nan)
    assert np.array_equal(top.reindex(index=inlines, columns=crosslines), expected, equal_nan=True)
    assert page.globs["top_ms"].tolist() == page.globs["horizons"]["top"].tolist() and np.isfinite(expected).any()


def test_an_array_is_predicted_as_the_survey(model, tmp_path):
    made = noise(with_duplicates(volume()))
    results = model.predict_survey(saved(tmp_path / "a.sgy", made), tmp_path)
    cube = made.cube()[2]
    cube[2, 3:5, :4] = np.nan
    for axis in (0, 1):
        p, spread = model.predict(cube, axis=axis, spread=True)
        lines = cube.swapaxes(0, axis)
        expected = as_images(model, lines, spread=True)
        assert p.shape == spread.shape == cube.shape
        for found, part in zip((p, spread), expected, strict=True):
            np.testing.assert_allclose(found.swapaxes(0, axis), part, atol=CLOSE)
        assert not p[np.isnan(cube)].any()
    whole = model.predict(made.cube()[2], axis=0)
    np.testing.assert_allclose(at_places(made, whole), traces_of(results["probability"]), atol=CLOSE)
    grey = np.random.default_rng(0).integers(0, 256, (2, 5, 4), dtype=np.uint8)  # keeps its levels; no colours
    np.testing.assert_allclose(model.predict(grey, axis=0)[1], model.predict(grey[1].T).T, atol=CLOSE)
    for wrong, axis in ((cube, 2), (cube[0], 0), (cube.astype(complex), 0)):
        with pytest.raises(ValueError, match=f"axis={axis} of a volume of shape"):
            model.predict(wrong, axis=axis)


def test_the_range_is_that_of_the_run_or_of_lines_spread_over_the_survey(model, tmp_path, monkeypatch):
    survey = open_survey(saved(tmp_path / "a.sgy", noise(with_holes(volume(range(40))))))
    made = noise(with_holes(volume(range(40)))).cube()[2]
    lines = [round(i * 39 / 15) for i in range(16)]
    data = model.ensemble.first.config.data
    found = sample_survey(survey, data, None).limits
    np.testing.assert_allclose(found, np.nanpercentile(made[lines], [1, 99]), rtol=1e-6)
    with_range = data.amplitudes.model_copy(update={"per": "survey", "range": [-3.0, 5.0]})
    assert sample_survey(survey, data.model_copy(update={"amplitudes": with_range}), None).limits == (-3, 5)
    monkeypatch.setattr(survey_blocks, "MOST_SAMPLED", 16 * 3 * 12)  # every third trace
    found = sample_survey(survey, data, None).limits
    np.testing.assert_allclose(found, np.nanpercentile(made[lines, ::3], [1, 99]), rtol=1e-6)
    of_bytes = data.amplitudes.model_copy(update={"per": "survey", "range": None})
    with pytest.raises(ValueError, match="trained on a survey of 8 bits"):
        sample_survey(survey, data.model_copy(update={"amplitudes": of_bytes}), None)


def test_memory_does_not_grow_with_the_number_of_inlines(model, tmp_path):
    quick = salt.load(model.ensemble.path, "cpu", mirror=False)

    def peak(n_inlines):
        path = saved(tmp_path / f"{n_inlines}.sgy", noise(volume(range(n_inlines), range(20)), 202))
        tracemalloc.start()
        quick.predict_survey(path, tmp_path)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(3)  # whatever stays in memory
    few, many = peak(18), peak(30)
    assert many - few < (30 - 18) * 20 * 202 / 4  # bytes; grey values of the survey alone would take four times as many


def test_memory_holds_few_numbers_of_each_trace_while_a_survey_is_opened(tmp_path):
    path = saved(tmp_path / "cube.sgy", volume(range(50), range(100), 1))
    tracemalloc.start()
    survey = open_survey(path)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert survey.trace_of.size == 5_000
    assert kept < 5_000 * 10 and peak < 5_000 * 80  # bytes


def test_coordinates_are_read_for_the_traces_of_a_block(model, tmp_path, monkeypatch):
    lengths = []
    original = Survey.coordinates
    monkeypatch.setattr(Survey, "coordinates", lambda self, n: lengths.append(len(n)) or original(self, n))
    results = model.predict_survey(saved(tmp_path / "cube.sgy", noise(MADE["full"])), tmp_path)
    assert len(lengths) == 3 and max(lengths) <= 27
    assert sum(lengths) == len(pd.read_csv(results["horizons"]))


def test_no_block_is_kept_after_its_prediction(model):
    seen = []

    def blocks():
        for _ in range(12):
            tiles = Tiles(["a"], np.zeros((1, 20, 20), np.uint8), None, np.full(1, np.nan), None)
            seen.append(weakref.ref(tiles))
            yield tiles

    alive = [sum(tiles() is not None for tiles in seen) for _ in model.predict_blocks(blocks())]
    assert len(alive) == 12 and max(alive) < 8
