"""The data of a run."""

from pathlib import Path

import numpy as np

from salt.config import RunConfig
from salt.data.amplitudes import Scaling
from salt.data.source import source_of
from salt.data.tiles import Dataset, Tiles, tile_size
from salt.data.unlabelled import Unlabelled, with_labels
from salt.machine import distributed
from salt.runs.rundir import RunDir
from salt.runs.stacks import sizes_of


def load_data(config: RunConfig) -> Dataset:
    """Return the data set; a source that generates data makes it first, except in a dry run.

    Raises:
        ValueError: the data is missing or wrong.
    """
    source = source_of(config.data)
    with distributed.main_first():
        if not config.dry_run:
            source.prepare()
        data = source.load(Scaling.of(config.data))
    data.check(config.data.target)
    return data


def load_pseudo_labels(config: RunConfig, data: Dataset) -> Unlabelled:
    """Return the tiles without a mask (see `load_unlabelled`) with the pseudo-labels in data.pseudo.

    Raises:
        ValueError: there are no such tiles, or a file is invalid.
    """
    assert config.data.pseudo is not None
    return with_labels(load_unlabelled(config, data), Path(config.data.pseudo))


def load_unlabelled(config: RunConfig, data: Dataset) -> Tiles:
    """Return the test images of the data, or those of the folder data.unlabelled.

    Raises:
        ValueError: there are none, or the folder is invalid.
    """
    tiles = data.test
    if config.data.unlabelled is not None:
        place = Path(config.data.unlabelled)
        if not place.exists():
            raise ValueError(f"data.unlabelled: there is no folder {place}")
        tiles = source_of(config.data).unlabelled(place, Scaling.of(fill_from_data(config, data).data))
    if config.input.channels == "depth_z" and np.isnan(tiles.depths).any():
        raise ValueError("input.channels=depth_z: tiles without a mask have no depth; expected image or depth")
    if not tiles.ids:
        raise ValueError(
            "the data has no test images, so there are no tiles without a mask; "
            "data.unlabelled=FOLDER (salt-pseudo: --unlabelled FOLDER) names other data"
        )
    return tiles


def fill_from_data(config: RunConfig, data: Dataset) -> RunConfig:
    """Return the config with the settings that the data decides: the size of a tile and the range of amplitudes.

    Raises:
        ValueError: the network sees the survey depth, and the data has none.
    """
    if config.input.channels == "depth_z" and data.has_no_depths:
        raise ValueError(
            f"input.channels=depth_z: images of {config.data.root} have no depth (depths.csv); expected image or depth"
        )
    node, tile, amplitudes = config.input.node(), config.data.tile, config.data.amplitudes
    if tile is None:
        tile = list(tile_size(sizes_of(data.train.images), largest=node.get("resize", node["size"])))
    if data.limits is not None:
        amplitudes = amplitudes.model_copy(update={"range": list(data.limits)})
    return config.model_copy(update={"data": config.data.model_copy(update={"tile": tile, "amplitudes": amplitudes})})


def load_data_of_run(directory: RunDir, config: RunConfig, root: str | None) -> Dataset:
    """Return the data that a run was trained on, from `root`, or from the folder in its config.

    Raises:
        ValueError: the data is missing, invalid or not that of the run.
    """
    place = Path(root or config.data.root).expanduser()
    if not place.exists():
        raise ValueError(f"there is no folder {place} with the run's data; --root FOLDER names another place")
    data = source_of(config.data, str(place)).load(Scaling.of(config.data))
    directory.check_data(data.digest(), str(place), "--root FOLDER names another place")
    return data
