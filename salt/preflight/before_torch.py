"""The refusals that need no torch, which takes seconds to import."""

from pathlib import Path

from salt.config import FOLD_KINDS, RunConfig
from salt.data.source import source_of
from salt.preflight.restart import check_restart
from salt.runs.files import check_file
from salt.runs.rundir import RunDir


def check_before_torch(config: RunConfig, path: Path) -> None:
    """Raise ValueError if a file that a setting names is missing, or the run directory is not free for this config."""
    directory, data, encoder = RunDir(path), config.data, config.encoder
    replaced = config.restart and directory.is_begun()
    source_of(data).check()
    if data.folds not in (None, *FOLD_KINDS):
        expected = f"; expected {', '.join(FOLD_KINDS)}, or a file with the columns id,fold"
        check_file("data.folds", Path(data.folds), expected)
    if data.mosaic is not None:
        check_file("data.mosaic", Path(data.mosaic), "; expected a table of salt-data mosaic, or null")
    if not replaced:
        directory.check(config.model_dump(mode="json", by_alias=True))
    if replaced or directory.folds_to_begin(config.fold_list):
        if config.init is not None and not Path(config.init).is_file():  # a bundle is one file
            check_file("init", Path(config.init, "config.yaml"), "; expected a run directory, a bundle, or null")
        elif encoder.name and encoder.weights not in (None, "imagenet"):
            expected = "; expected imagenet, null, or a .safetensors or .pth file"
            check_file("encoder.weights", Path(encoder.weights), expected)
        if data.pseudo is not None:
            check_file("data.pseudo", Path(data.pseudo), "; expected a file of salt-pseudo, or null")
    if replaced:
        check_restart(directory, config)
    directory.check_free(config.fold_list)
