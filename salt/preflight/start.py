"""The refusals that need no torch, which takes seconds to import."""

from pathlib import Path

from salt.config import RunConfig
from salt.data.source import source_of
from salt.runs.files import check_file
from salt.runs.rundir import RunDir


def check_start(config: RunConfig, path: Path) -> None:
    """Check that the files that the settings name exist, and that the run directory is free for this config.

    Raises:
        ValueError: a file is missing, or the directory holds another run or is in use.
    """
    directory, data, encoder = RunDir(path), config.data, config.encoder
    source_of(data).check()
    if data.folds not in (None, "random", "mosaic"):
        check_file("data.folds", Path(data.folds), "; expected random, mosaic, or a file with the columns id,fold")
    if data.mosaic is not None:
        check_file("data.mosaic", Path(data.mosaic), "; expected a table of salt-data mosaic, or null")
    directory.check(config.model_dump(mode="json", by_alias=True))
    if directory.folds_to_begin(config.fold_list):
        if config.init is not None and not Path(config.init).is_file():  # a bundle is one file
            check_file("init", Path(config.init, "config.yaml"), "; expected a run directory, a bundle, or null")
        elif encoder.name and encoder.weights not in (None, "imagenet"):
            check_file(
                "encoder.weights", Path(encoder.weights), "; expected imagenet, null, or a .safetensors or .pth file"
            )
        if data.pseudo is not None:
            check_file("data.pseudo", Path(data.pseudo), "; expected a file of salt-pseudo, or null")
    directory.check_free(config.fold_list)
