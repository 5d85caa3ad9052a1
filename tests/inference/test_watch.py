"""The warning if images to predict look unlike the training data: once, and not before enough of them were seen."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import salt as run
from helpers.segy import segy

import salt
from salt.commands import predict as command
from salt.data import likeness
from salt.data.amplitudes import Grey
from salt.data.synthetic import make_tiles
from salt.data.tiles import Tiles
from salt.inference.files import interval_in
from salt.inference.watch import ENOUGH, Watch


@pytest.fixture(scope="module")
def images():
    return make_tiles(np.random.default_rng(5), 300)[0]


@pytest.fixture
def folder(images, tmp_path):
    """A run directory that has nothing but what its training data looks like."""
    likeness.write(tmp_path, likeness.describe(Tiles([], images[:150], None, np.zeros(0)), 2.0))
    return tmp_path


def greys(images, **more):
    return [Grey(image, np.zeros(image.shape, bool), **more) for image in images]


def test_it_warns_once_of_images_that_differ(images, folder, caplog):
    watch = Watch(folder)
    for _ in range(3):
        watch.see(greys(images[150:] // 3, interval=4.0))
    (line,) = caplog.messages
    assert line.startswith(f"the first images differ from those that {folder} was trained on: grey levels differ by")
    assert line.endswith("; the sample interval is 4 ms, in training 2 ms")


def test_it_is_silent_of_the_same_kind_and_of_too_few(images, folder, caplog):
    watch = Watch(folder)
    watch.see(greys(images[150:]))
    assert not caplog.messages and watch.trained is None
    few = Watch(folder)
    few.see(greys(images[: ENOUGH // 101**2] // 3))
    assert not caplog.messages and few.trained is not None
    few.see(greys(images[:2] // 3))
    assert len(caplog.messages) == 1


def test_missing_pixels_do_not_count(images, folder, caplog):
    watch = Watch(folder)
    watch.see([Grey(image // 3, np.ones(image.shape, bool)) for image in images])
    assert not caplog.messages and watch.trained is not None


def test_threads_share_it(images, folder, caplog):
    watch = Watch(folder)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda image: watch.see(greys([image // 3])), images))
    assert len(caplog.messages) == 1


def test_a_run_of_an_earlier_version_says_nothing(images, tmp_path, caplog):
    Watch(tmp_path).see(greys(images // 3))
    assert not caplog.messages


def test_a_line_of_another_survey_is_named_by_command_and_python(finished, tmp_path, caplog):
    line = np.tile(np.random.default_rng(0).integers(0, 256, (250, 250), dtype=np.uint8), (4, 5))
    np.save(tmp_path / "line.npy", line)
    np.save(tmp_path / "small.npy", line[:101, :101])
    words = ["runs/a", "--device", "cpu", "--fast", "--overlap", "0.1", "--engine", "torch"]
    ended = run(finished, *words, tmp_path, "--out", tmp_path / "out", main=command.main)
    assert ended.returncode == 0, ended.stderr
    assert len(caplog.messages) == 1 and "the mean frequency along traces is 0.2" in caplog.messages[0]
    model = salt.load(finished / "runs/a", device="cpu", mirror=False)
    model.predict(line[:101, :101])
    assert [grey.levels.shape for grey in model.watch.seen] == [(101, 101)]


def test_the_sample_interval_of_a_line(tmp_path):
    image = np.ones((50, 4), np.float32)
    for order in "<>":
        for number, expected in ((2000, 2.0), (500, 0.5), (0, None)):
            (tmp_path / "line.sgy").write_bytes(segy(image, order=order, binary={3217: ("h", number)}))
            assert interval_in(tmp_path / "line.sgy") == expected
    assert interval_in(tmp_path / "line.png") is None
