import os

os.environ["HF_HUB_OFFLINE"] = "1"  # no test may touch the network
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests run in parallel processes

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import settings
from omegaconf import OmegaConf

from salt.config import RunConfig, check_config
from salt.data.synthetic import ensure_synthetic
from salt.train import CONFIGS

torch.set_num_threads(1)
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")

TGS = Path(os.environ.get("SALT_DATA", Path(__file__).parents[2] / "shared" / "tgs"))

TINY = [
    "data=synthetic",
    "data.n_folds=2",
    "data.synthetic.n_train=24",
    "data.synthetic.n_test=6",
    "encoder=resnet18",
    "encoder.weights=null",
    "decoder.channels=[16,16,16,16,16]",
    "input.size=101",
    "trainer.epochs=2",
    "trainer.batch_size=4",
    "trainer.precision=fp32",
    "trainer.device=cpu",
    "trainer.workers=0",
]


def raw_config(*overrides: str) -> dict:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", list(overrides))
    return OmegaConf.to_container(cfg, resolve=True)


def options(group: str) -> list[str]:
    return sorted(file.stem for file in (CONFIGS / group).glob("*.yaml"))


@pytest.fixture(scope="session")
def synthetic_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "synthetic"
    ensure_synthetic(root, n_train=24, n_test=6, seed=0)
    return root


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
