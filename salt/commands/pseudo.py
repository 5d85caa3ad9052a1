"""The command `salt-pseudo RUN`: label tiles without a mask with a run's networks, for semi-supervised=pseudo."""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from salt.commands.common import PREDICTION, make_parser, messages, settings_from
from salt.config import RunConfig, check_config
from salt.inference.settings import PredictionSettings
from salt.runs.rundir import RunDir

if TYPE_CHECKING:  # imported late: a wrong path is found at once
    import pandas as pd

    from salt.data.tiles import Tiles

CONFIDENT = 0.9  # semi_supervised.least of configs/semi-supervised/pseudo.yaml


def main() -> None:
    """Write RUN/pseudo.csv, and print how many of its labels are confident."""
    with messages("salt-pseudo"):
        parser = make_parser(
            "salt-pseudo",
            "Label tiles without a mask: for fold k with the networks of fold k, which have not seen its tiles. "
            "Then: salt-train semi-supervised=pseudo data.pseudo=RUN/pseudo.csv",
            "run",
            "--root",
            *PREDICTION,
        )
        parser.add_argument(
            "--unlabelled", metavar="FOLDER", help="label the test images of this data (default: RUN's)"
        )
        parser.add_argument("--out", type=Path, metavar="FILE", help="default: RUN/pseudo.csv")
        parser.add_argument(
            "--least",
            type=float,
            default=CONFIDENT,
            metavar="X",
            help=f"report on labels of this confidence and more; the file has all labels (default: {CONFIDENT})",
        )
        arguments = parser.parse_args()
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
        write_pseudo_labels(
            arguments.run,
            arguments.out or arguments.run / "pseudo.csv",
            arguments.root,
            arguments.unlabelled,
            settings_from(arguments),
            arguments.least,
        )


def write_pseudo_labels(
    path: Path, out: Path, root: str | None, unlabelled: str | None, settings: PredictionSettings, least: float
) -> None:
    """Write the labels of the run in `path`, and print how good those with a confidence of `least` or more are.

    Raises:
        ValueError: the run has no finished fold, or the data no tiles without a mask.
    """
    directory = RunDir(path)
    raw = directory.read_config().model_dump(by_alias=True)
    data = raw["data"] | {"unlabelled": unlabelled or raw["data"]["unlabelled"]}
    config = settings.apply_to(check_config(raw | {"data": data}))
    if config.data.n_folds == 1:
        raise ValueError(f"{path} has data.n_folds=1, so no network has not seen a tile; expected a run with folds")
    folder = out.absolute().parent
    if out.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ValueError(f"--out {out}: expected a file in an existing, writable folder")

    from salt.data.load import load_data_of_run, load_unlabelled, write_labels
    from salt.inference import pseudo
    from salt.machine.device import choose_runtime

    known = load_data_of_run(directory, config, root)
    tiles = load_unlabelled(config, known)
    labels = pseudo.label_tiles(config, directory, known.train, tiles, choose_runtime(config.trainer))
    write_labels(out, labels)
    print(f"{out}: {summary(labels.table, check_on_held_out(config, directory, known.train), least)}")


def check_on_held_out(config: RunConfig, directory: RunDir, tiles: "Tiles") -> "pd.DataFrame":
    """Return confidence and score of the tiles with masks, each predicted by the networks that did not see it.

    Never choose anything by these scores: it would depend on the masks that a fold is scored on.
    """
    import numpy as np
    import pandas as pd

    from salt.data.folds import read_folds
    from salt.inference.pseudo import THRESHOLD, confidence
    from salt.out_of_fold import read_fold_predictions
    from salt.runs.stacks import as_stack, sizes_of
    from salt.scoring.metrics import count_pixels, is_salt, score_counts

    assert tiles.masks is not None
    folds, parts = read_folds(directory.path / "folds.csv", tiles.ids, config.data.n_folds), []
    for fold in directory.done_folds(config.data.n_folds):
        held_out = np.flatnonzero(folds == fold)
        masks = tiles.masks[held_out]
        p = read_fold_predictions(directory.fold_path(fold), [tiles.ids[i] for i in held_out], sizes_of(masks))
        tiles.empty_unseen(p, held_out, config.data.constant_tiles)
        sure = confidence(p, as_stack([is_salt(image, THRESHOLD) for image in p]))
        scores = score_counts(*count_pixels(p, masks, np.array([THRESHOLD]), tiles.known_at(held_out)))[:, 0]
        parts.append(pd.DataFrame({"confidence": sure, "score": scores}))
    return pd.concat(parts)


def summary(labels: "pd.DataFrame", held_out: "pd.DataFrame", least: float) -> str:
    """Return how many labels are confident, and how good as confident predictions of held-out tiles are."""
    kept, sure = labels["confidence"] >= least, held_out["confidence"] >= least
    if kept.any():
        remark = f", {(labels['rle_mask'][kept] == '').mean():.0%} of these without salt"
    else:
        remark = f"; training would need semi_supervised.least of at most {labels['confidence'].max():g}"
    scores = [
        f", {name} with a map of {held_out['score'][which].mean():.3f} at 0.5"
        for which, name in ((sure, "these"), (~sure, "the others"))
        if which.any()
    ]
    return (
        f"labels of {labels['id'].nunique()} tiles for {labels['fold'].nunique()} folds\n"
        f"confidence of {least:g} and more: {kept.mean():.0%} of the labels{remark}\n"
        f"tiles with a mask, held out: {sure.mean():.0%} as confident{''.join(scores)}"
    )


if __name__ == "__main__":
    main()
