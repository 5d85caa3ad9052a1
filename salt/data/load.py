"""The data of a run: read, or generated first."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from salt.config import RunConfig
from salt.data.amplitudes import Scaling
from salt.data.folder import read_folder, read_images
from salt.data.synthetic import ensure_synthetic, holds_synthetic
from salt.data.tgs import read_dataset
from salt.data.tiles import Dataset, Tiles, tile_size
from salt.data.unlabelled import Unlabelled, with_labels
from salt.machine import distributed
from salt.runs.files import locked
from salt.runs.rundir import RunDir
from salt.runs.stacks import sizes_of

SYNTHETIC_SECONDS = 600.0  # to wait for another process that generates the same tiles


def load_pseudo_labels(config: RunConfig, data: Dataset) -> Unlabelled:
    """Return the tiles without a mask (see `load_unlabelled`) with the pseudo-labels in data.pseudo.

    Raises:
        ValueError: there are no such tiles, or a file cannot be used.
    """
    assert config.data.pseudo is not None
    return with_labels(load_unlabelled(config, data), Path(config.data.pseudo))


def load_unlabelled(config: RunConfig, data: Dataset) -> Tiles:
    """Return the test images of the data, or those of the folder data.unlabelled.

    Raises:
        ValueError: there are none, or the folder cannot be used.
    """
    tiles = data.test if config.data.unlabelled is None else read_unlabelled(config, data, Path(config.data.unlabelled))
    if config.input.channels == "depth_z" and np.isnan(tiles.depths).any():
        raise ValueError("input.channels=depth_z: tiles without a mask have no depth; expected image or depth")
    if not tiles.ids:
        raise ValueError(
            "there are no tiles without a mask, since the data has no test images; data.unlabelled=FOLDER "
            "(salt-pseudo: --unlabelled FOLDER) names data that has some"
        )
    return tiles


def read_unlabelled(config: RunConfig, data: Dataset, folder: Path) -> Tiles:
    """The test images of other data in the same layout; of one's own folder also the images alone."""
    if not folder.exists():
        raise ValueError(f"data.unlabelled: there is no folder {folder}")
    if config.data.layout == "folder":
        return read_images(folder, Scaling.of(settled(config, data).data))
    cache = Path(config.data.cache, "unlabelled") if config.data.cache else None  # the other one is of the run's data
    return read_dataset(folder, cache).test


def load_data(config: RunConfig) -> Dataset:
    """The data set; synthetic tiles are generated where they are not there yet, for a dry run in a temporary folder."""
    root = Path(config.data.root)
    wanted = config.data.synthetic.model_dump() if config.data.synthetic else None
    with distributed.main_first():
        if wanted is not None and not holds_synthetic(root, **wanted):
            if config.dry_run:
                with TemporaryDirectory() as folder:
                    ensure_synthetic(Path(folder, "tiles"), **wanted)
                    return read_dataset(Path(folder, "tiles"))
            with locked(root.parent, root.name, wait=SYNTHETIC_SECONDS):
                ensure_synthetic(root, **wanted)
        return read(config, root)


def read(config: RunConfig, root: Path) -> Dataset:
    """The data set in a folder, in the layout that the config names."""
    if config.data.layout == "folder":
        return read_folder(root, Scaling.of(config.data))
    return read_dataset(root, Path(config.data.cache) if config.data.cache else None)


def settled(config: RunConfig, data: Dataset) -> RunConfig:
    """The config with what is left to the data: the size of a tile (see `tile_size`), the range of the amplitudes.

    Raises:
        ValueError: the network is to see the depth in the survey, and the data has none.
    """
    if config.input.channels == "depth_z" and data.has_no_depths:
        raise ValueError(f"input.channels=depth_z: {config.data.root} has no depths.csv; expected image or depth")
    node, tile, amplitudes = config.input.node(), config.data.tile, config.data.amplitudes
    if tile is None:
        tile = list(tile_size(sizes_of(data.train.images), largest=node.get("resize", node["size"])))
    if data.limits is not None:
        amplitudes = amplitudes.model_copy(update={"range": list(data.limits)})
    return config.model_copy(update={"data": config.data.model_copy(update={"tile": tile, "amplitudes": amplitudes})})


def load_data_of_run(directory: RunDir, config: RunConfig, root: str | None) -> Dataset:
    """The data that a run was trained on, from the folder `root`, or from the place in its config.

    Raises:
        ValueError: it is not there, cannot be read, or is other data.
    """
    place = Path(root or config.data.root).expanduser()
    if not place.exists():
        raise ValueError(f"there is no folder {place} with the run's data; --root FOLDER names another place")
    data = read(config, place)
    directory.check_data(data.digest(), str(place), "--root FOLDER names another place")
    return data
