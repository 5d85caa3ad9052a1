"""The command `salt-blend RUN RUN... --out FOLDER`: average finished runs, with weights chosen out of fold."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from salt.commands.common import make_parser, messages
from salt.runs.ensemble import Member, read_member
from salt.runs.files import locked, write_json
from salt.runs.results import read_oof_table, write_results
from salt.runs.rundir import BLEND

OF_OLD_WEIGHTS = ("score.json", "submission.json", "submission.csv", "test.npz", "report.html", "report.png")


def main() -> None:
    """Write a blend of runs."""
    with messages("salt-blend"):
        description = "Average finished runs. Their weights are chosen on out-of-fold predictions."
        parser = make_parser("salt-blend", description, "--root")
        parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="runs of the same data and folds")
        parser.add_argument("--out", type=Path, metavar="FOLDER", required=True, help="folder of the blend")
        arguments = parser.parse_args()
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
        print(blend_runs(arguments.runs, arguments.out, arguments.root))


def blend_runs(paths: list[Path], out: Path, root: str | None) -> str:
    """Write the runs' weights and the out-of-fold result of their mean; raise ValueError if they do not fit."""
    from salt.data.folds import read_folds
    from salt.data.load import load_data_of_run
    from salt.inference import blend

    others = [path for path in out.glob("*") if not path.name.startswith(".")]  # a killed command may leave a lock
    if out.is_file() or (others and not (out / BLEND).exists()):
        raise ValueError(f"--out {out}: this folder holds something else; name a new one")
    members = [read_member(path) for path in paths]
    ids, stacks = blend.read_out_of_fold(members)
    first = members[0]
    data = load_data_of_run(first.directory, first.config, root).train
    assert data.masks is not None
    position = {name: i for i, name in enumerate(data.ids)}
    index = np.array([position[name] for name in ids])
    folds = read_folds(first.directory.path / "folds.csv", data.ids, first.config.data.n_folds)[index]
    tiles = read_oof_table(first.directory.path / "oof.csv").loc[ids]
    sections = tiles["section"].to_numpy() if "section" in tiles else None
    known = data.known_at(index)
    weights, probabilities, result = blend.blend(stacks, data.masks[index], folds, sections, known)

    score = result.summary | {key: first.score[key] for key in ("partial", "missing_folds")}
    out.mkdir(parents=True, exist_ok=True)
    with locked(out, "collect"):
        for name in OF_OLD_WEIGHTS:
            (out / name).unlink(missing_ok=True)
        write_json(out / BLEND, {"runs": blend.entries_of(out, members, weights)})
        write_results(out, np.array(ids), probabilities, result.table, score)
    return describe_blend(out, members, weights, score["map"])


def describe_blend(out: Path, members: Sequence[Member], weights: NDArray[np.float64], score: float) -> str:
    """Return the runs' weights and scores, the score of their mean, and whether one run alone scores more."""
    rows = [(member.directory.path, float(member.score["map"])) for member in members]
    lines = [f"{weight:5.2f}  {path}  (map {alone:.4f})" for weight, (path, alone) in zip(weights, rows, strict=True)]
    best, most = max(rows, key=lambda row: row[1])
    less = most - score
    more = f", {less:.4f} less than {best} alone (salt-compare shows if that is resolved)" if less >= 5e-5 else ""
    return "\n".join([*lines, f"{out}: out-of-fold map {score:.4f}{more}; salt-submit {out} writes its submission"])


if __name__ == "__main__":
    main()
