"""The command `salt-blend RUN RUN... --out FOLDER`: average finished runs, with weights chosen out of fold."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salt.commands.common import add_root, make_parser, messages
from salt.runs.ensemble import Member, read_member
from salt.runs.files import locked, write_json
from salt.runs.results import read_tiles, write_results
from salt.runs.rundir import BLEND

OF_OLD_WEIGHTS = ("score.json", "submission.json", "submission.csv", "test.npz", "report.html", "report.png")


def main() -> None:
    """Write the blend; exit code 1 and one message if it fails."""
    with messages("salt-blend"):
        parser = make_parser("salt-blend", "Average finished runs, with weights chosen on out-of-fold predictions.")
        parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="runs of the same data and folds")
        parser.add_argument("--out", type=Path, metavar="FOLDER", required=True, help="where the blend is written")
        add_root(parser)
        arguments = parser.parse_args()
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
        print(blend_runs(arguments.runs, arguments.out, arguments.root))


def blend_runs(paths: list[Path], out: Path, root: str | None) -> str:
    """Write the weights of the runs and the out-of-fold result of their mean into `out`; return both in words.

    Raises:
        ValueError: the runs do not fit together, or `out` holds something else.
    """
    from salt.data.folds import read_folds
    from salt.data.load import load_data_of_run
    from salt.inference import blend

    if out.exists() and not (out.is_dir() and ((out / BLEND).exists() or is_empty(out))):
        raise ValueError(f"--out {out}: this folder holds something else; name a new one")
    members = [read_member(path) for path in paths]
    ids, stacks = blend.read_out_of_fold(members)
    first = members[0]
    data = load_data_of_run(first.directory, first.config, root).train
    assert data.masks is not None
    position = {name: i for i, name in enumerate(data.ids)}
    index = np.array([position[name] for name in ids])
    folds = read_folds(first.directory.path / "folds.csv", data.ids, first.config.data.n_folds)[index]
    tiles = read_tiles(first.directory.path / "oof.csv").loc[ids]
    sections = tiles["section"].to_numpy() if "section" in tiles else None
    weights, probabilities, result = blend.blend(stacks, data.masks[index], folds, sections)

    score = result.summary | {key: first.score[key] for key in ("partial", "missing_folds")}
    out.mkdir(parents=True, exist_ok=True)
    with locked(out, "collect"):
        for name in OF_OLD_WEIGHTS:
            (out / name).unlink(missing_ok=True)
        write_json(out / BLEND, {"runs": blend.entries_of(out, members, weights)})
        write_results(out, np.array(ids), probabilities, result.table, score)
    return in_words(out, members, weights, score["map"])


def is_empty(folder: Path) -> bool:
    """Return whether a folder holds nothing but hidden files, such as a lock that a killed command left."""
    return all(path.name.startswith(".") for path in folder.iterdir())


def in_words(out: Path, members: Sequence[Member], weights: NDArray[np.float64], score: float) -> str:
    """Return weights and scores of the runs, the score of their mean, and whether one run alone scores more."""
    rows = [(member.directory.path, float(member.score["map"])) for member in members]
    lines = [f"{weight:5.2f}  {path}  (map {alone:.4f})" for weight, (path, alone) in zip(weights, rows, strict=True)]
    best, most = max(rows, key=lambda row: row[1])
    less = most - score
    more = f", {less:.4f} less than {best} alone (salt-compare tells if that is resolved)" if less >= 5e-5 else ""
    return "\n".join([*lines, f"{out}: out-of-fold map {score:.4f}{more}; salt-submit {out} writes its submission"])


if __name__ == "__main__":
    main()
