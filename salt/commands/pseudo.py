"""The command `salt-pseudo RUN`: label tiles without a mask by the networks of a run, for semi-supervised=pseudo."""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from salt.commands.common import add_prediction_options, add_root, add_run, make_parser, messages, settings_from
from salt.config import RunConfig, check_config
from salt.inference.settings import PredictionSettings
from salt.runs.rundir import RunDir

if TYPE_CHECKING:  # at run time they are imported when they are needed: a wrong path is found at once
    import pandas as pd

    from salt.data.tiles import Tiles

LEAST = 0.9  # of configs/semi-supervised/pseudo.yaml


def main() -> None:
    """Write RUN/pseudo.csv and say how many of its labels are confident; exit code 1 and one message if it fails."""
    with messages("salt-pseudo"):
        parser = make_parser(
            "salt-pseudo",
            "Label tiles without a mask, for fold k by the networks that were not trained on fold k. Then: salt-train "
            "semi-supervised=pseudo data.pseudo=RUN/pseudo.csv",
        )
        add_run(parser)
        parser.add_argument("--unlabelled", metavar="FOLDER", help="data whose test images are used (default: RUN's)")
        parser.add_argument("--out", type=Path, metavar="FILE", help="where to write (default: RUN/pseudo.csv)")
        add_root(parser)
        add_prediction_options(parser)
        parser.add_argument(
            "--least",
            type=float,
            default=LEAST,
            metavar="X",
            help=f"confidence to report about, the later semi_supervised.least; the file has all labels ({LEAST})",
        )
        arguments = parser.parse_args()
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
        label(
            arguments.run,
            arguments.out or arguments.run / "pseudo.csv",
            arguments.root,
            arguments.unlabelled,
            settings_from(arguments),
            arguments.least,
        )


def label(
    path: Path, out: Path, root: str | None, unlabelled: str | None, settings: PredictionSettings, least: float
) -> None:
    """Write the labels by the run in `path`, predicted with these settings.

    Prints how good those with a confidence of `least` or more are.

    Raises:
        ValueError: it is no run with a finished fold, or there are no tiles without a mask.
    """
    directory = RunDir(path)
    raw = directory.read_config().model_dump(by_alias=True)
    data = raw["data"] | {"unlabelled": unlabelled or raw["data"]["unlabelled"]}
    config = settings.apply_to(check_config(raw | {"data": data}))
    folder = out.absolute().parent
    if out.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ValueError(f"--out {out}: expected a file in a folder that is there and can be written in")

    from salt.data.load import load_data_of_run, load_unlabelled
    from salt.data.unlabelled import write_labels
    from salt.inference import pseudo
    from salt.machine.device import choose_runtime

    known = load_data_of_run(directory, config, root)
    tiles = load_unlabelled(config, known)
    labels = pseudo.label_tiles(config, directory, known.train, tiles, choose_runtime(config.trainer))
    write_labels(out, labels)
    print(f"{out}: {summary(labels.table, check_on_held_out(config, directory, known.train), least)}")


def check_on_held_out(config: RunConfig, directory: RunDir, tiles: "Tiles") -> "pd.DataFrame":
    """How the rule does on the tiles with masks, each judged by the networks that did not see it.

    Returns the columns confidence and score (at the threshold of the labels). They are told only: what is chosen by
    them would depend on the masks that a fold is scored on.
    """
    import numpy as np
    import pandas as pd

    from salt.data.folds import read_folds
    from salt.inference.pseudo import THRESHOLD, confidence
    from salt.out_of_fold import read_held_out
    from salt.runs.stacks import as_stack, sizes_of
    from salt.scoring.metrics import count_pixels, is_salt, score_counts

    assert tiles.masks is not None
    folds, parts = read_folds(directory.path / "folds.csv", tiles.ids, config.data.n_folds), []
    for fold in directory.done_folds(config.data.n_folds):
        held_out = np.flatnonzero(folds == fold)
        masks = tiles.masks[held_out]
        p = read_held_out(directory.fold(fold), [tiles.ids[i] for i in held_out], sizes_of(masks))
        tiles.empty_unseen(p, held_out, config.data.constant_tiles)
        sure = confidence(p, as_stack([is_salt(image, THRESHOLD) for image in p]))
        scores = score_counts(*count_pixels(p, masks, np.array([THRESHOLD])))[:, 0]
        parts.append(pd.DataFrame({"confidence": sure, "score": scores}))
    return pd.concat(parts)


def summary(labels: "pd.DataFrame", held_out: "pd.DataFrame", least: float) -> str:
    """How many labels are confident, and how good such labels are where a mask tells."""
    kept, sure = labels["confidence"] >= least, held_out["confidence"] >= least
    lines = [
        f"labels of {labels['id'].nunique()} tiles for {labels['fold'].nunique()} folds",
        f"confidence of {least:g} and more: {kept.mean():.0%} of the labels"
        + (f", {(labels['rle_mask'][kept] == '').mean():.0%} of these without salt" if kept.any() else "")
        + (
            ""
            if kept.any()
            else f"; training would need semi_supervised.least of at most {labels['confidence'].max():g}"
        ),
        f"tiles with a mask, held out: {sure.mean():.0%} as confident",
    ]
    for which, name in ((sure, "these"), (~sure, "the others")):
        if which.any():
            lines[-1] += f", {name} with a map of {held_out['score'][which].mean():.3f} at 0.5"
    return "\n".join(lines)


if __name__ == "__main__":
    main()
