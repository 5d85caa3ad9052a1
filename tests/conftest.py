import os
import subprocess
import sys
import zlib

os.environ["HF_HUB_OFFLINE"] = "1"  # no test may touch the network
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests run in parallel processes; another number is honoured

import io
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import NamedTuple, get_args

import cv2
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hypothesis import settings
from omegaconf import OmegaConf

from salt.config import RunConfig, check_config
from salt.data.synthetic import Synthetic
from salt.train import CONFIGS, main

with suppress(
    ImportError
):  # openvino imports absl, whose handler closes its stream, pytest's, when Hydra sets up logging
    import absl.logging

    absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__

ONE_OF = 7  # cases of a battery run, unless all are asked for


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--exhaustive", action="store_true", help="run all cases of the tests marked battery")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the first case of each battery and about one of `ONE_OF` others, by their names: always the same ones.

    The other tests cover every option.
    """
    if config.getoption("exhaustive"):
        return
    seen: set[str] = set()
    kept, left_out = [], []
    for item in items:
        test = item.nodeid.partition("[")[0]
        chosen = test not in seen or zlib.crc32(item.nodeid.encode()) % ONE_OF == 0
        runs = item.get_closest_marker("battery") is None or chosen
        (kept if runs else left_out).append(item)
        seen.add(test)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")

TGS = Path(os.environ.get("SALT_DATA", Path(__file__).parents[2] / "shared" / "tgs"))

TINY = [
    "data=synthetic",
    "data.n_folds=2",
    "data.n_train=24",
    "data.n_test=6",
    "report=false",  # a second each, of hundreds of runs
    "encoder=any",
    "encoder.name=tu-test_resnet",  # 0.4 M parameters
    "encoder.weights=null",
    "decoder.channels=[16,16,16,16,16]",
    "input.size=101",
    "trainer.epochs=2",
    "trainer.batch_size=4",
    "trainer.precision=fp32",
    "trainer.device=cpu",
    "trainer.workers=0",
    "trainer.checkpoint_seconds=0",
]


class Ended(NamedTuple):
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


def salt(folder: Path, *arguments: str, main: Callable[[], None] = main) -> Ended:
    """Run a command in a folder, in this process: starting a new one takes longer than most runs here."""
    out, errors, code = io.StringIO(), io.StringIO(), None
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(errors):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["salt", *map(str, arguments)])
        GlobalHydra.instance().clear()
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    if isinstance(code, str):  # Python prints it and ends with 1
        return Ended(1, out.getvalue(), f"{errors.getvalue()}{code}\n")
    return Ended(code or 0, out.getvalue(), errors.getvalue())


def raw_config(*overrides: str) -> dict:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", list(overrides))
    return OmegaConf.to_container(cfg, resolve=True)


def options(group: str) -> list[str]:
    return sorted(file.stem for file in (CONFIGS / group).glob("*.yaml"))


def flat(node: object, prefix: str = "") -> dict[str, object]:
    """The leaves of nested settings by their dotted key; a list of plain values is one leaf."""
    if isinstance(node, dict):
        return {k: v for key, part in node.items() for k, v in flat(part, f"{prefix}{key}.").items()}
    return {prefix.rstrip("."): node}


def words_of(group: str, option: str, key: str) -> list[str]:
    """The choices of a setting: of its type in salt/config.py, else the words of the comment beside it in the YAML."""
    field = RunConfig.model_fields[group.replace("-", "_")].annotation.model_fields.get(key)
    if field is not None:
        return list(get_args(field.annotation))
    text = (CONFIGS / group / f"{option}.yaml").read_text(encoding="utf-8")
    comment = re.search(rf"^ *{key.rpartition('.')[2]}:.*?#(.*)$", text, re.MULTILINE)
    return re.findall(r"\w+", comment[1]) if comment else []


def perturbed(value: object, words: Iterable[str] = ()) -> Iterator[object]:
    """Other values that a setting might have; a word may be each of `words`."""
    if value == "all":
        yield [2]
    elif value is None:
        yield from (0.3, 3)
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        kind = type(value)
        yield from (v for v in (kind(value * 0.5), kind(value + 1), kind(value + 2), 1, 5, 67, 0.5) if v != value)
    elif isinstance(value, str):
        yield from (word for word in words if word != value)
    elif isinstance(value, list) and value and not isinstance(value[0], list | dict | str):
        yield [value[0] * 2, *value[1:]]
        yield [value[0] + 2, *value[1:]]


SIZES = {"a": (101, 101), "b": (64, 200), "c": (230, 150), "d": (101, 101), "e": (40, 40), "f": (130, 90)}


def write_folder(folder: Path, sizes: dict = SIZES) -> Path:
    """A folder of one's own images: noise, with salt in one quarter of each but "d", and test images."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks", "test"):
        (folder / part).mkdir(parents=True)
    for name, size in sizes.items():
        mask = np.zeros(size, np.uint8)
        mask[size[0] // 2 :, : size[1] // 2] = 255
        if name == "d":
            mask[:] = 0
        noise = rng.integers(0, 100, size, dtype=np.uint8)
        cv2.imwrite(str(folder / "images" / f"{name}.png"), noise + mask // 2)
        cv2.imwrite(str(folder / "masks" / f"{name}.png"), mask)
        cv2.imwrite(str(folder / "test" / f"test_{name}.png"), rng.integers(0, 100, size, dtype=np.uint8))
    return folder


@pytest.fixture(scope="session")
def synthetic_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "synthetic"
    Synthetic(root, n_train=24, n_test=6, seed=0).prepare()
    return root


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, finished_once: Path) -> Path:
    """A folder with the finished run runs/a, for the tests of one file."""
    return shutil.copytree(finished_once, tmp_path_factory.mktemp("copy") / "finished")


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory, synthetic_root: Path) -> Path:
    """The run of which each file of tests has a copy."""
    path = tmp_path_factory.mktemp("finished")
    command = [sys.executable, "-m", "salt.train", *TINY, f"data.root={synthetic_root}", "name=a"]
    result = subprocess.run(command, cwd=path, capture_output=True, text=True, check=False)  # as a user starts it
    assert result.returncode == 0, result.stderr
    return path


@pytest.fixture
def tiny(synthetic_root: Path) -> Callable[..., RunConfig]:
    def make(*overrides: str) -> RunConfig:
        return check_config(raw_config(*TINY, f"data.root={synthetic_root}", *overrides))

    return make


@pytest.fixture
def tgs() -> Path:
    if not (TGS / "train.zip").is_file():
        pytest.skip("the TGS data is not here")
    return TGS


@pytest.fixture
def two_gpus(monkeypatch):
    """torch believes that there are two GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
