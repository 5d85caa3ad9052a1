"""The data of a run: read, or generated first."""

from pathlib import Path
from tempfile import TemporaryDirectory

from salt.config import RunConfig
from salt.data.synthetic import ensure_synthetic, holds_synthetic
from salt.data.tgs import Dataset, read_dataset
from salt.machine import distributed
from salt.runs.files import locked
from salt.runs.rundir import RunDir

SYNTHETIC_SECONDS = 600.0  # to wait for another process that generates the same tiles


def load_data(config: RunConfig) -> Dataset:
    """The data set; synthetic tiles are generated where they are not there yet, for a dry run in a temporary folder."""
    root, cache = Path(config.data.root), Path(config.data.cache) if config.data.cache else None
    wanted = config.data.synthetic.model_dump() if config.data.synthetic else None
    with distributed.main_first():
        if wanted is not None and not holds_synthetic(root, **wanted):
            if config.dry_run:
                with TemporaryDirectory() as folder:
                    ensure_synthetic(Path(folder, "tiles"), **wanted)
                    return read_dataset(Path(folder, "tiles"))
            with locked(root.parent, root.name, wait=SYNTHETIC_SECONDS):
                ensure_synthetic(root, **wanted)
        return read_dataset(root, cache)


def load_data_of_run(directory: RunDir, config: RunConfig, root: str | None) -> Dataset:
    """The data that a run was trained on, from the folder `root`, or from the place in its config.

    Raises:
        ValueError: it is not there, cannot be read, or is other data.
    """
    place = Path(root or config.data.root).expanduser()
    if not place.exists():
        raise ValueError(f"there is no folder {place} with the run's data; --root FOLDER names another place")
    data = read_dataset(place, Path(config.data.cache) if config.data.cache else None)
    directory.check_data(data.digest(), str(place), "--root FOLDER names another place")
    return data
